"""The shapes of the API's answers, for its documentation: `/openapi.json`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

Point = tuple[float, float]
Box = tuple[float, float, float, float]
_DATA = "A picture as a data: address."


class Problem(BaseModel):
    """What is wrong."""

    code: str
    message: str
    photo: str | None


class Error(BaseModel):
    """The body of every answer that is an error."""

    error: Problem


class Limits(BaseModel):
    """What one request may hold."""

    photos: int
    bytes: int = Field(description="Of the whole body.")
    pixels: int = Field(description="Of one photo.")
    faces: int = Field(description="Described in one photo, at most.")


class IndexInfo(BaseModel):
    """The index that is searched."""

    faces: int


class Level(BaseModel):
    """A threshold at a stated rate of false matches among strangers."""

    fmr: float
    threshold: float
    low: float = Field(description="The 95 % interval of the threshold.")
    high: float


class Health(BaseModel):
    """What the server runs."""

    status: Literal["ok"]
    version: str
    encoder: str
    aligner: str
    device: str
    runtime: str
    precision: str
    threshold: float | None = Field(description="Cosine from which on two faces count as one person.")
    threshold_source: str
    thresholds: list[Level] = Field(description="Measured for the encoder; empty if none were.")
    resists_fakes: bool = Field(description="Whether a photo and a deepfake of the same person lie apart.")
    people: int | None = Field(description="Whom the server knows by name; null without a gallery.")
    index: IndexInfo | None
    limits: Limits
    explain: bool
    methods: list[str] = Field(description="Of explain.")
    key_required: bool


class Face(BaseModel):
    """One face, in pixels of the upright photo."""

    box: Box = Field(description="x, y, width, height.")
    landmarks: list[Point] = Field(description="Left eye, right eye, nose tip, left and right mouth corner.")
    score: float
    norm: float = Field(description="Length of the embedding before normalisation.")
    real: float | None = Field(description="How real it looks to a gated encoder, 0 to 1.")
    altered: bool | None = Field(description="Whether it looks altered to a gated encoder.")


class EmbeddedFace(Face):
    """A face with its embedding."""

    embedding: list[float] = Field(description="Unit length: the inner product of two is their cosine similarity.")


class PicturedFace(Face):
    """A face with its aligned picture."""

    chip: str = Field(description=_DATA)


class Photo(BaseModel):
    """What both answers say of a photo."""

    name: str
    width: int
    height: int
    faces_found: int
    reason: str | None = Field(description="Why there is no face.")


class EmbeddedPhoto(Photo):
    """A photo and its faces, largest first."""

    faces: list[EmbeddedFace]


class ComparedPhoto(Photo):
    """A photo, its faces, and which of them was compared."""

    faces: list[PicturedFace]
    chosen: int | None


class Embedded(BaseModel):
    """The answer of embed."""

    encoder: str
    dimension: int
    photos: list[EmbeddedPhoto]


class Comparison(BaseModel):
    """How alike two faces are."""

    similarity: float | None
    identity: float | None = Field(
        description="Cosine of the identities alone, of a gated encoder: how alike they are as people, altered or not."
    )
    same: bool | None = Field(description="Whether the similarity is at or above the threshold.")
    verdict: Literal["same", "different", "no_face"] | None
    fmr: float | None = Field(description="The share of strangers who are as alike; null if no rates were measured.")
    fmr_side: Literal["about", "below", "above"] | None = Field(
        description="Whether it is about that, or below or above it: outside of the measured rates there is a bound alone."
    )
    probability: float | None = Field(description="That it is one person, at even odds; null if it was not fitted.")


class Pair(Comparison):
    """Two photos by their places, from 0."""

    a: int
    b: int


class Compared(BaseModel):
    """The answer of compare."""

    photos: list[ComparedPhoto]
    similarity: list[list[float | None]]
    threshold: float | None
    threshold_source: str
    pairs: list[Pair]
    resists_fakes: bool


class Hit(Comparison):
    """A face of the index, and how alike it is to the one that was searched for."""

    path: str = Field(description="Below the folder that was indexed.")
    face: int
    real: float | None = Field(description="How real it looks to a gated encoder, 0 to 1, where the index says so.")
    altered: bool | None = Field(description="Whether it looks altered to a gated encoder, where the index says so.")
    thumbnail: str | None = Field(description=_DATA)


class SearchResult(BaseModel):
    """The answer of search."""

    photo: ComparedPhoto
    face: PicturedFace | None = Field(description="The one that was searched for.")
    hits: list[Hit] = Field(description="Most similar first; none without a face.")
    threshold: float | None
    threshold_source: str


class Explained(BaseModel):
    """The answer of explain."""

    similarity: float
    overlay_a: str = Field(description=_DATA)
    overlay_b: str = Field(description=_DATA)
    map_a: list[list[float]]
    map_b: list[list[float]]


def form(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """OpenAPI's description of a multipart form."""
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def json_body(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """OpenAPI's description of a JSON object."""
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def photos_field(least: int, most: int) -> dict[str, Any]:
    """The field that holds photos."""
    photo = {"type": "string", "format": "binary"}
    return {"type": "array", "items": photo, "minItems": least, "maxItems": most}


FACES_FIELD = {
    "type": "string",
    "description": "JSON list: the number of the chosen face of each photo, null for the most prominent.",
    "example": "[null, 0]",
}


class KnownPerson(BaseModel):
    """Somebody of the gallery."""

    name: str
    photos: int = Field(description="That can be used.")


class KnownPeople(BaseModel):
    """The answer of people."""

    people: list[KnownPerson]
    threshold: float = Field(description="Similarity from which on a face is somebody's.")
    threshold_source: str
    role: Literal["read", "write"] = Field(description="What whoever asked may do.")


class PhotoOfPerson(BaseModel):
    """One photo of somebody."""

    id: str = Field(description="For split.")
    file: str | None = Field(description="The file's name; null of a photo that was sent, which is not kept.")
    alike: float | None = Field(description="Cosine with the mean of their other photos; null without one.")
    reason: str | None = Field(description="Why it cannot be used.")
    picture: str | None = Field(description=_DATA + " Of the face; null where the photo is not there any more.")


class PersonDetails(BaseModel):
    """The answer about one person."""

    name: str
    photos: list[PhotoOfPerson] = Field(
        description="Those least like the others first, then those that cannot be used."
    )


class PicturesOfPeople(BaseModel):
    """A face of each who was asked for."""

    pictures: dict[str, str | None] = Field(description=_DATA + " Null where no photo of theirs is there any more.")


class Moved(BaseModel):
    """The answer of split."""

    name: str
    photos: int
    left: int = Field(description="Photos of the old name that can be used.")


class Candidate(BaseModel):
    """Somebody of the gallery, and how alike a face is to them."""

    name: str
    similarity: float


class NamedFace(BaseModel):
    """A face and whose it is."""

    box: Box
    name: str | None = Field(description="Null: nobody's of the gallery.")
    candidates: list[Candidate]


class NamedPhoto(BaseModel):
    """Who is on one photo."""

    name: str
    width: int
    height: int
    reason: str | None
    faces: list[NamedFace]


class IdentifiedPhotos(BaseModel):
    """The answer of identify."""

    people: int
    threshold: float
    threshold_source: str
    photos: list[NamedPhoto]


class Enrolled(BaseModel):
    """The answer of enrol and of a change of name."""

    name: str
    photos: int


class Removed(BaseModel):
    """The answer of a deletion."""

    removed: str
    photos: int
