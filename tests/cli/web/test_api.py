"""The API's answers: what they say, and that they are what the library says."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from faceembed.cli.web.app import STATIC
from faceembed.cli.web.gallery import Gallery
from faceembed.cli.web.limits import Limits
from faceembed.cli.web.service import Service
from faceembed.engine.explain.occlusion import Explanation
from faceembed.engine.pipeline.batches import Pipeline
from faceembed.engine.pipeline.serving import Embedder
from faceembed.engine.verbs.embed import embed as embed_library
from faceembed.errors import ModelError


def code(response: Any) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["photo"]


def pixels(url: str, kind: str) -> Any:
    head, _, data = url.partition(",")
    assert head == f"data:image/{kind};base64"
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), 1), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize("path", ["/", "/api/v1/health", "/metrics", "/openapi.json", "/static/app.js"])
def test_head_is_get_without_a_body(path: str, ask: Any, embedder: Embedder) -> None:
    """What watches a server asks so."""
    head = ask(Service(embedder), lambda client: client.head(path))
    get = ask(Service(embedder), lambda client: client.get(path))
    assert head.status_code == get.status_code == 200
    assert head.headers["content-type"] == get.headers["content-type"]


def test_health(ask: Any, embedder: Embedder) -> None:
    response = ask(Service(embedder), lambda client: client.get("/api/v1/health"))
    assert response.status_code == 200
    health = response.json()
    assert health["status"] == "ok"
    assert health["encoder"] == "patches"
    assert health["aligner"] == "none"
    assert (health["threshold"], health["threshold_source"]) == (0.5, "made up")
    assert health["limits"] == {"photos": 10, "bytes": 64 << 20, "pixels": 1_000_000, "faces": 32}
    assert (health["index"], health["key_required"], health["resists_fakes"]) == (None, False, False)
    assert health["explain"] is True
    assert health["methods"] == ["occlusion"]


def test_embed(post: Any, picture: Any, embedder: Embedder) -> None:
    response = post("embed", picture(1), picture(2), picture(3, width=200))
    assert response.status_code == 200
    answer = response.json()
    assert (answer["encoder"], answer["dimension"]) == ("patches", 48)
    first, second, wide = answer["photos"]
    assert [photo["name"] for photo in answer["photos"]] == ["photo-1", "photo-2", "photo-3"]
    assert (wide["width"], wide["height"], wide["faces"], wide["faces_found"]) == (200, 112, [], 0)
    assert "not a square crop" in wide["reason"]
    for photo, seed in ((first, 1), (second, 2)):
        (face,) = photo["faces"]
        (seen,) = embedder.embed([embedder.take(picture(seed))])
        assert photo["reason"] is None
        assert face["box"] == [0, 0, 112, 112]
        assert np.shape(face["landmarks"]) == (5, 2)
        assert face["embedding"] == pytest.approx(seen.faces[0].embedding.tolist(), abs=1e-8)
        assert face["norm"] == pytest.approx(seen.faces[0].norm, abs=1e-4)


@pytest.mark.parametrize("orientation", [1, 3])
def test_a_heic_as_phones_upload_it(post: Any, picture: Any, orientation: int) -> None:
    """With an EXIF orientation beside its own ``irot``: turned once."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(picture(1), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    exif = Image.Exif()
    exif[274] = orientation
    stored = pixels[::-1, ::-1] if orientation == 3 else pixels
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(np.ascontiguousarray(stored))).save(out, quality=95, exif=exif.tobytes())
    first, second = post("embed", out.getvalue(), picture(1)).json()["photos"]
    assert np.dot(first["faces"][0]["embedding"], second["faces"][0]["embedding"]) > 0.99
    assert (first["width"], first["height"], first["faces_found"]) == (112, 112, 1)


def test_compare(post: Any, picture: Any) -> None:
    response = post("compare", picture(1), picture(1, kind=".jpg"), picture(2), picture(3, width=200))
    answer = response.json()
    similarity = answer["similarity"]
    assert similarity[0][1] == similarity[1][0] > 0.99
    assert similarity[0][2] < 0.5
    assert similarity[3] == [None] * 4
    assert [photo["chosen"] for photo in answer["photos"]] == [0, 0, 0, None]
    verdicts = {(pair["a"], pair["b"]): pair["verdict"] for pair in answer["pairs"]}
    assert len(verdicts) == 6
    assert (verdicts[0, 1], verdicts[0, 2], verdicts[2, 3]) == ("same", "different", "no_face")
    assert {pair["verdict"]: pair["same"] for pair in answer["pairs"]} == {
        "same": True,
        "different": False,
        "no_face": None,
    }
    assert all(pair["identity"] is None for pair in answer["pairs"]), "the encoder has no gate"
    assert [(photo["faces"][0]["real"], photo["faces"][0]["altered"]) for photo in answer["photos"][:3]] == [
        (None, None)
    ] * 3
    assert (answer["threshold"], answer["resists_fakes"]) == (0.5, False)
    chip = pixels(answer["photos"][0]["faces"][0]["chip"], "png")
    assert chip.shape == (112, 112, 3)


def test_an_encoder_without_a_threshold_gives_no_verdict(post: Any, picture: Any, encoder: Any) -> None:
    import dataclasses

    encoder.model = dataclasses.replace(encoder.model, spec=dataclasses.replace(encoder.model.spec, threshold=None))
    answer = post("compare", picture(1), picture(2)).json()
    assert answer["threshold"] is None
    assert [pair["verdict"] for pair in answer["pairs"]] == [None]
    assert answer["pairs"][0]["similarity"] is not None


@pytest.mark.parametrize(
    ("faces", "status", "kind"),
    [
        ("[0, null]", 200, ""),
        (" ", 200, ""),
        ("[0]", 422, "bad_field"),
        ("[0, 0, 0]", 422, "bad_field"),
        ("{}", 422, "bad_field"),
        ("[0, -1]", 422, "bad_field"),
        ("[0, true]", 422, "bad_field"),
        ("[0, 1.0]", 422, "bad_field"),
        ('["0", 0]', 422, "bad_field"),
        ("nix", 422, "bad_field"),
        ("[" * 4000, 422, "bad_field"),
        ("[0," + "1" * 4000 + "]", 422, "no_such_face"),
        ("[0, 1]", 422, "no_such_face"),
        ("x" * 5000, 422, "bad_field"),
    ],
)
def test_chosen_faces(post: Any, picture: Any, faces: str, status: int, kind: str) -> None:
    response = post("compare", picture(1), picture(2), faces=faces)
    assert response.status_code == status
    if status != 200:
        assert code(response)[1] == kind


@pytest.mark.parametrize(
    ("photo", "expected"),
    [
        (b"", (415, "not_a_picture", "photo-2")),
        (b"just text", (415, "not_a_picture", "photo-2")),
        (b"%PDF-1.7...", (415, "not_a_picture", "photo-2")),
        (b"\xff\xd8\xff\xe0", (415, "not_a_picture", "photo-2")),
        ("truncated", (422, "damaged_photo", "photo-2")),
    ],
)
def test_bad_photos_are_named(post: Any, picture: Any, photo: bytes | str, expected: Any) -> None:
    data = picture(5, side=400, kind=".png")
    bad = data[: len(data) // 2] + b"\0" * (len(data) - len(data) // 2) if photo == "truncated" else photo
    response = post("embed", picture(1), bad)
    assert code(response) == expected
    assert response.json()["error"]["message"].startswith("photo-2: ")


def test_a_truncated_jpeg(post: Any, picture: Any) -> None:
    whole = picture(5, side=400, kind=".jpg")
    response = post("embed", whole[: len(whole) // 2])
    assert code(response) == (422, "damaged_photo", "photo-1")


def test_too_few_photos(post: Any, picture: Any) -> None:
    assert code(post("compare", picture(1))) == (422, "too_few_photos", None)
    assert code(post("explain", picture(1))) == (422, "too_few_photos", None)
    assert code(post("explain", picture(1), picture(2), picture(3))) == (413, "too_many_photos", None)
    assert code(post("embed", picture(1), field="pictures")) == (422, "bad_field", None)


def test_hostile_names_come_back_harmless(ask: Any, embedder: Embedder, picture: Any) -> None:
    name = "../../etc/\x07<script>\u202e" + "x" * 500
    upload = [("photos", (name, picture(1)))]
    response = ask(Service(embedder), lambda client: client.post("/api/v1/embed", files=upload))
    shown = response.json()["photos"][0]["name"]
    assert "/" not in shown
    assert shown.isprintable()
    assert len(shown) < 250
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_no_more_faces_than_the_limit_are_described(
    post: Any, picture: Any, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    compute = embedder.embed

    def crowd(items: Any) -> Any:
        return [dataclasses.replace(seen, faces=seen.faces * 5, chosen=4) for seen in compute(items)]

    monkeypatch.setattr(embedder, "embed", crowd)
    service = Service(embedder, limits=Limits(faces=3))
    photos = post("compare", picture(1), picture(2), service=service).json()["photos"]
    assert [(len(photo["faces"]), photo["faces_found"], photo["chosen"]) for photo in photos] == [(3, 5, 0)] * 2
    assert (
        code(post("compare", picture(1), picture(2), service=Service(embedder, limits=Limits(faces=3)), faces="[3,0]"))[
            1
        ]
        == "no_such_face"
    )


def test_explain(post: Any, picture: Any) -> None:
    answer = post("explain", picture(1), picture(1, kind=".jpg")).json()
    assert answer["similarity"] > 0.99
    for side in "ab":
        assert np.shape(answer[f"map_{side}"]) == (112, 112)
        assert pixels(answer[f"overlay_{side}"], "png").shape == (112, 112, 3)
    assert np.abs(answer["map_a"]).max() > 0
    assert code(post("explain", picture(1), picture(3, width=200))) == (422, "no_face", "photo-2")
    assert code(post("explain", picture(1), picture(2), method="gradient")) == (422, "unavailable", None)
    assert code(post("explain", picture(1), picture(2), method="magic")) == (422, "bad_field", None)


def test_gradients_where_they_can_be_had(post: Any, picture: Any, embedder: Embedder) -> None:
    chip = cv2.cvtColor(cv2.imdecode(np.frombuffer(picture(2), np.uint8), 1), cv2.COLOR_BGR2RGB)
    asked = []

    def gradient(chip_a: Any, chip_b: Any, stopped: Any) -> Explanation:
        asked.append((chip_a, chip_b))
        return Explanation(0.25, np.eye(112, dtype=np.float32), np.zeros((112, 112), np.float32), "gradient", {})

    service = Service(embedder, gradient=gradient)
    answer = post("explain", picture(1), picture(2), service=service, method="gradient").json()
    assert answer["similarity"] == 0.25
    assert answer["map_a"] == np.eye(112).tolist()
    assert np.abs(asked[0][1].astype(int) - chip).max() <= 1


def test_an_encoder_that_a_method_cannot_explain(post: Any, picture: Any, embedder: Embedder) -> None:
    def gradient(chip_a: Any, chip_b: Any, stopped: Any) -> Explanation:
        raise ModelError("x.onnx cannot run in PyTorch, which gradients need: Erf 'e': this operator is not known")

    service = Service(embedder, gradient=gradient)
    response = post("explain", picture(1), picture(2), service=service, method="gradient")
    assert code(response) == (422, "unavailable", None)
    assert "Erf 'e': this operator is not known" in response.json()["error"]["message"]


@pytest.mark.parametrize("which", ["default", "default's file", "dlib-resnet"])
def test_encoders_have_gradients(
    which: str, post: Any, pipeline: Pipeline, dlib_pipeline: Pipeline, astronaut: Any
) -> None:
    """The network in PyTorch that `serve` opens for it gives the similarity that its own runtime gives."""
    from faceembed.cli.serve import _gradient

    pipeline = dlib_pipeline if which == "dlib-resnet" else pipeline
    model = pipeline.encoder.model
    encoder = model.path if which == "default's file" else model.spec.name
    picture = cv2.cvtColor(astronaut, cv2.COLOR_RGB2BGR)
    photos = [bytes(cv2.imencode(".png", side)[1]) for side in (picture, picture[:, ::-1])]
    explained = post(
        "explain", *photos, service=Service(Embedder.of(pipeline), gradient=_gradient(encoder)), method="gradient"
    )
    compared = post("compare", *photos, service=Service(Embedder.of(pipeline)))
    assert explained.json()["similarity"] == pytest.approx(compared.json()["similarity"][0][1], abs=1e-3)


def test_an_explanation_that_nobody_waits_for_is_stopped(
    post: Any, picture: Any, embedder: Embedder, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda chips: (time.sleep(0.05), encode(chips))[1])
    service = Service(embedder, limits=Limits(explain_seconds=0.1))
    assert code(post("explain", picture(1), picture(2), service=service))[:2] == (503, "busy")
    done = len(encoder.batches)
    time.sleep(0.5)
    assert len(encoder.batches) <= done + 1


@pytest.fixture
def gallery(embedder: Embedder, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    """An index of three photos in two folders."""
    from faceembed.engine.pipeline import loading

    for number, name in enumerate(("ann/1.png", "ann/2.png", "bob/1.png")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(picture(number))
    pipeline = Pipeline(embedder.cutter.settings, None, embedder.encoder, workers=1)
    monkeypatch.setattr(loading, "resolve_models", lambda settings: loading.Models(embedder.encoder.model, None))
    monkeypatch.setattr(loading, "open_pipeline", lambda *_, **__: pipeline)
    embed_library([tmp_path / "photos"], tmp_path / "i.faiss", settings=embedder.cutter.settings)
    return Gallery(tmp_path / "i.faiss", embedder.spec)


def test_search(post: Any, picture: Any, embedder: Embedder, gallery: Gallery) -> None:
    response = post("search", picture(2), field="photo", service=Service(embedder, gallery=gallery), k="2")
    assert response.status_code == 200
    answer = response.json()
    best, second = answer["hits"]
    assert (best["path"], best["face"]) == ("bob/1.png", 0)
    assert best["similarity"] == pytest.approx(1, abs=1e-5)
    assert best["similarity"] > second["similarity"]
    assert best.keys() - {"path", "face", "thumbnail"} == {
        *("similarity", "identity", "same", "verdict"),
        *("real", "altered"),
        *("fmr", "fmr_side", "probability"),
    }
    assert (best["same"], best["verdict"], best["identity"], best["altered"]) == (True, "same", None, None)
    assert pixels(best["thumbnail"], "jpeg").shape == (128, 128, 3)
    assert answer["face"] == answer["photo"]["faces"][0]
    assert (answer["photo"]["chosen"], answer["threshold"]) == (0, 0.5)
    assert str(Path(gallery.photos(1)[0].path).parent.parent) not in response.text


def test_search_without_a_face(post: Any, picture: Any, embedder: Embedder, gallery: Gallery) -> None:
    answer = post("search", picture(2, width=200), field="photo", service=Service(embedder, gallery=gallery)).json()
    assert (answer["face"], answer["hits"], answer["photo"]["chosen"]) == (None, [], None)
    assert answer["photo"]["reason"]


@pytest.mark.parametrize(("field", "value"), [("k", "0"), ("k", "101"), ("k", "1e1"), ("k", "²"), ("face", "-1")])
def test_bad_numbers(post: Any, picture: Any, embedder: Embedder, gallery: Gallery, field: str, value: str) -> None:
    service = Service(embedder, gallery=gallery)
    assert code(post("search", picture(2), field="photo", service=service, **{field: value}))[1] == "bad_field"


def test_thumbnails_are_of_the_files_that_were_indexed(
    post: Any, picture: Any, embedder: Embedder, gallery: Gallery, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(9))
    (tmp_path / "photos/bob/1.png").unlink()
    (tmp_path / "photos/bob/1.png").symlink_to(secret)
    (tmp_path / "photos/ann/1.png").unlink()
    hits = post("search", picture(2), field="photo", service=Service(embedder, gallery=gallery)).json()["hits"]
    shown = {hit["path"]: hit["thumbnail"] is not None for hit in hits}
    assert shown == {"bob/1.png": False, "ann/1.png": False, "ann/2.png": True}


def test_photos_of_several_clients_are_one_batch(
    ask: Any, embedder: Embedder, encoder: Any, files: Any, picture: Any
) -> None:
    async def questions(client: httpx.AsyncClient) -> Any:
        each = [client.post("/api/v1/embed", files=files(picture(number))) for number in range(8)]
        return await asyncio.gather(*each)

    embedder.workers = 1
    answers = ask(Service(embedder), questions)
    assert [answer.status_code for answer in answers] == [200] * 8
    for number, answer in enumerate(answers):
        (seen,) = embedder.embed([embedder.take(picture(number))])
        (photo,) = answer.json()["photos"]
        assert photo["faces"][0]["embedding"] == pytest.approx(seen.faces[0].embedding.tolist(), abs=1e-7)
    assert max(encoder.batches) > 1


def test_work_of_a_client_that_left_is_taken_back(
    embedder: Embedder, listening: Any, multipart: Any, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket
    import time

    started, gate, computed = threading.Event(), threading.Event(), []
    compute = embedder.embed

    def wait_and_compute(items: Any) -> Any:
        started.set()
        assert gate.wait(30)
        computed.append(len(items))
        return compute(items)

    monkeypatch.setattr(embedder, "embed", wait_and_compute)
    embedder.workers = 1
    service = Service(embedder)
    with listening(service) as address:
        first = threading.Thread(
            target=httpx.post,
            args=(f"http://127.0.0.1:{address[1]}/api/v1/embed",),
            kwargs={"files": {"photos": picture(1)}},
        )
        first.start()
        assert started.wait(30)
        body = multipart([picture(2)])
        with socket.create_connection(address) as leaver:
            leaver.sendall(
                b"POST /api/v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b0undary\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            deadline = time.monotonic() + 30
            while service.batcher.waiting == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert service.batcher.waiting == 1
        while service.memory.held > len(body) + 400 and time.monotonic() < deadline:
            time.sleep(0.01)
        gate.set()
        first.join(30)
    assert computed == [1]
    assert service.memory.held == 0


def test_metrics(ask: Any, embedder: Embedder, files: Any, picture: Any) -> None:
    async def questions(client: httpx.AsyncClient) -> Any:
        await client.post("/api/v1/embed", files=files(picture(1), picture(2), picture(3, width=200)))
        await client.post("/api/v1/embed", files=files(b"text"))
        await client.get("/nowhere/photo-1")
        await client.request("BREW", "/api/v1/embed")
        return await client.get("/metrics")

    text = ask(Service(embedder), questions).text
    lines = set(text.splitlines())
    assert 'faceembed_requests_total{method="POST",route="/api/v1/embed",status="200"} 1.0' in lines
    assert 'faceembed_requests_total{method="POST",route="/api/v1/embed",status="415"} 1.0' in lines
    assert 'faceembed_requests_total{method="GET",route="other",status="404"} 1.0' in lines
    assert 'faceembed_errors_total{code="not_a_picture"} 1.0' in lines
    assert 'faceembed_photos_total{outcome="faces"} 2.0' in lines
    assert 'faceembed_photos_total{outcome="detect"} 1.0' in lines
    assert "faceembed_faces_total 2.0" in lines
    assert "faceembed_held_bytes 0.0" in lines
    assert "photo-1" not in text
    assert "BREW" not in text


def test_the_page_and_its_files(ask: Any, embedder: Embedder) -> None:
    names = [path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()]
    assert "index.html" in names

    async def questions(client: httpx.AsyncClient) -> Any:
        page = await client.get("/")
        rest = {name: await client.get(f"/static/{name}") for name in names}
        return page, rest, await client.get("/static/..%2fapi.py"), await client.get("/static/nix.js")

    page, rest, outside, missing = ask(Service(embedder), questions)
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    for name, answer in rest.items():
        assert answer.content == (STATIC / name).read_bytes()
    assert code(outside)[:2] == code(missing)[:2] == (404, "not_found")


def test_what_is_not_there(ask: Any, embedder: Embedder) -> None:
    async def questions(client: httpx.AsyncClient) -> Any:
        return await client.get("/api/v2/embed"), await client.get("/api/v1/embed")

    missing, method = ask(Service(embedder), questions)
    assert code(missing) == (404, "not_found", None)
    assert code(method) == (405, "method_not_allowed", None)
    assert method.headers["Allow"] == "POST"


def test_real_models_agree_with_the_library(
    post: Any, pipeline: Pipeline, astronaut: Any, tmp_path: Path, exact: Any
) -> None:
    """The API's embedding of the astronaut is the pipeline's own, and her mirror image is the same person."""
    import dataclasses

    from faceembed.engine.photos.listing import list_photos

    settings = dataclasses.replace(exact, faces="all")
    served = Pipeline(settings, pipeline.detector, pipeline.encoder, workers=2)
    picture = cv2.cvtColor(astronaut, cv2.COLOR_RGB2BGR)
    straight, mirrored = (bytes(cv2.imencode(".png", side)[1]) for side in (picture, picture[:, ::-1]))
    (tmp_path / "a.png").write_bytes(straight)
    (all_faces,), (largest,) = (one.run(list_photos([tmp_path]).photos) for one in (served, pipeline))
    embedded = post("embed", straight, service=Service(Embedder.of(served))).json()["photos"][0]
    compared = post("compare", straight, mirrored, service=Service(Embedder.of(served))).json()
    chosen = compared["photos"][0]["chosen"]
    found = np.array([face["embedding"] for face in embedded["faces"]])
    assert found == pytest.approx(all_faces.faces.embeddings, abs=1e-4)
    assert found[chosen] @ largest.faces.embeddings[0] > 0.98  # searching for the largest alone stops at coarser levels
    assert (embedded["width"], embedded["height"]) == (512, 512)
    assert compared["pairs"][0]["verdict"] == "same"
