"""The routes about people: who somebody is, by form, bytes and JSON; keys with roles; changes, and what refuses them."""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from faceembed.cli.web.people import PeopleFile
from faceembed.cli.web.security import READ, WRITE, Key, read_keys
from faceembed.cli.web.service import Service
from faceembed.engine.people.gallery import read_gallery, write_gallery
from faceembed.engine.pipeline.serving import Embedder
from faceembed.engine.verbs.gallery import update
from faceembed.errors import DataError, IndexFormatError, UsageError
from tests.cli.web.conftest import LEVELS, SPEC, make_files, make_picture, people_file

READER, WRITER = "r" * 20, "w" * 20
KEYS = {READER: READ, WRITER: WRITE}


@pytest.fixture
def staff(tmp_path: Path) -> Path:
    path = tmp_path / "secret" / "staff.gallery"
    path.parent.mkdir()
    people_file(path)
    return path


@pytest.fixture
def service(embedder: Embedder, encoder: Any, staff: Path) -> Service:
    spec = dataclasses.replace(SPEC, thresholds=LEVELS, sha256="0")
    encoder.model = dataclasses.replace(encoder.model, spec=spec)
    made = Service(embedder, people=PeopleFile(staff, spec), key=Key(KEYS))
    people = made.people
    assert people is not None
    for name, seed in (("ann", 1), ("bob", 2)):
        (seen,) = embedder.embed([embedder.take(make_picture(seed))])
        people.add(name, [(make_picture(seed), seen.faces[0], (112, 112))])
    return made


def said(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def headers(key: str, **more: str) -> dict[str, str]:
    return {"X-API-Key": key, **{name.replace("_", "-"): value for name, value in more.items()}}


def test_who_is_it(ask: Any, service: Service) -> None:
    answer = ask(
        service,
        lambda client: client.post(
            "/api/v1/identify",
            files=make_files(make_picture(2, kind=".jpg"), make_picture(9), make_picture(3, width=200)),
            headers=headers(READER),
        ),
    ).json()
    assert answer["people"] == 2 and answer["threshold"] == pytest.approx(0.715, abs=0.01)
    assert [[face["name"] for face in photo["faces"]] for photo in answer["photos"]] == [["bob"], [None], []]
    best = answer["photos"][0]["faces"][0]["candidates"]
    assert best[0]["name"] == "bob" and best[0]["similarity"] > 0.99 and len(best) == 2
    assert "not a square crop" in answer["photos"][2]["reason"]


def test_bytes_alone_and_json(ask: Any, service: Service) -> None:
    """The same photo however it comes; nothing is fetched from an address."""
    data = make_picture(1)
    text = base64.b64encode(data).decode()

    async def talk(client: Any) -> list[Any]:
        read = headers(READER)
        return [
            await client.post("/api/v1/identify", content=data, headers=headers(READER, Content_Type="image/png")),
            await client.post("/api/v1/identify", json={"photos": [text]}, headers=read),
            await client.post("/api/v1/identify", json={"photos": [f"data:image/png;base64,{text}"]}, headers=read),
            await client.post("/api/v1/embed", json={"photos": [text]}, headers=read),
        ]

    *answers, embedded = ask(service, talk)
    found = [answer.json()["photos"][0]["faces"] for answer in answers]
    assert found[0] == found[1] == found[2] and found[0][0]["name"] == "ann"
    assert len(embedded.json()["photos"][0]["faces"]) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"no json", 400, "bad_json"),
        (b"[1]", 400, "bad_json"),
        (b'{"photos": ["https://example.org/a.jpg"]}', 422, "bad_photo"),
        (b'{"photos": ["%%%"]}', 422, "bad_photo"),
        (b'{"photos": [7]}', 422, "bad_photo"),
        (b'{"photos": [""]}', 422, "bad_photo"),
        (b'{"photos": []}', 422, "too_few_photos"),
        (b'{"photos": ' + b'["QQ=="' + b',"QQ=="' * 10 + b"]}", 413, "too_many_photos"),
        (b'{"photos": ["QQ=="], "more": "x"}', 422, "unknown_field"),
        (b'{"photos": ["QQ=="], "more": {}}', 422, "bad_field"),
        (b'{"photos": ["QQ=="]}', 415, "not_a_picture"),
    ],
)
def test_json_that_is_refused(ask: Any, service: Service, body: bytes, status: int, code: str) -> None:
    sent = headers(READER, Content_Type="application/json")
    assert said(ask(service, lambda client: client.post("/api/v1/identify", content=body, headers=sent))) == (
        status,
        code,
    )


def test_enrol_rename_merge_remove(ask: Any, service: Service, staff: Path) -> None:
    async def talk(client: Any) -> list[Any]:
        write = headers(WRITER)
        return [
            await client.post("/api/v1/enrol", files=make_files(make_picture(5)), data={"name": "Eve"}, headers=write),
            await client.get("/api/v1/people", headers=headers(READER)),
            await client.patch("/api/v1/people/Eve", json={"name": "Eve Lee"}, headers=write),
            await client.patch("/api/v1/people/ann", json={"name": "Eve Lee"}, headers=write),
            await client.patch("/api/v1/people/ann", json={"name": "Eve Lee", "merge": True}, headers=write),
            await client.delete("/api/v1/people/bob", headers=write),
            await client.delete("/api/v1/people/bob", headers=write),
            await client.get("/api/v1/people", headers=headers(READER)),
            await client.post("/api/v1/identify", files=make_files(make_picture(5)), headers=headers(READER)),
        ]

    made, known, named, taken, merged, gone, again, left, who = ask(service, talk)
    assert made.json() == {"name": "Eve", "photos": 1}
    assert [one["name"] for one in known.json()["people"]] == ["Eve", "ann", "bob"]
    assert named.json() == {"name": "Eve Lee", "photos": 1}
    assert said(taken) == (409, "bad_name") and "the gallery has somebody called 'Eve Lee'" in taken.text
    assert merged.json() == {"name": "Eve Lee", "photos": 2}
    assert gone.json() == {"removed": "bob", "photos": 1} and said(again) == (404, "nobody")
    assert left.json()["people"] == [{"name": "Eve Lee", "photos": 2}]
    assert [one["name"] for one in who.json()["photos"][0]["faces"][0]["candidates"]] == ["Eve Lee"]
    for response in (taken, again):
        assert "secret" not in response.text
    held = read_gallery(staff)
    assert {photo.path.partition(":")[0] for photo in held.photos} == {"upload"}


def test_roles(ask: Any, service: Service) -> None:
    async def talk(client: Any) -> list[Any]:
        files = make_files(make_picture(5))
        return [
            await client.post("/api/v1/enrol", files=files, data={"name": "x"}, headers=headers(READER)),
            await client.delete("/api/v1/people/ann", headers=headers(READER)),
            await client.patch("/api/v1/people/ann", json={"name": "x"}, headers=headers(READER)),
            await client.patch("/api/v1/people/ann", json={"name": "x", "merge": "perhaps"}, headers=headers(WRITER)),
            await client.get("/api/v1/people"),
            await client.post("/api/v1/identify", files=files, headers=headers("z" * 20)),
            await client.get("/api/v1/people", headers=headers(WRITER)),
        ]

    *refused, perhaps, unknown, wrong, known = ask(service, talk)
    assert said(perhaps) == (422, "bad_field")
    assert [said(one) for one in refused] == [(403, "forbidden")] * 3
    assert said(unknown) == said(wrong) == (401, "unauthorised")
    assert [one["name"] for one in known.json()["people"]] == ["ann", "bob"]


def test_split(ask: Any, service: Service, staff: Path, tmp_path: Path) -> None:
    """Photos of two people under one name: the odd one is first in the list, and goes to whom it is of; a file shows its face."""
    people = service.people
    assert people is not None
    for seed in (1, 7):
        for noise in range(2):
            data = make_picture(seed, side=112 + noise)
            (seen,) = service.embedder.embed([service.embedder.take(data)])
            people.add("team/A", [(data, seen.faces[0], (112, 112))])
    opened = read_gallery(staff)
    file = tmp_path / "there.png"
    file.write_bytes(make_picture(1))
    info, (sent, *rest) = file.stat(), (p for p in opened.photos if p.person == "team/A")
    row = {**sent.row, "path": str(file), "size": info.st_size, "mtime_ns": info.st_mtime_ns}
    others = [p for p in opened.photos if p.person != "team/A"]
    write_gallery(staff, opened.with_photos([*others, dataclasses.replace(sent, row=row), *rest]))
    url = "/api/v1/people/team%2FA"

    async def talk(client: Any) -> list[Any]:
        write, read = headers(WRITER), headers(READER)
        first = await client.get(url, headers=read)
        ids = [photo["id"] for photo in first.json()["photos"]]
        ask_split = lambda body, key=write: client.post(f"{url}/split", json=body, headers=key)
        return [
            first,
            await client.get("/api/v1/pictures", params={"name": ["team/A", "ann", "nobody"]}, headers=read),
            await client.get("/api/v1/people/nobody", headers=read),
            await ask_split({"name": "Eve", "ids": ids[:2]}, read),
            await ask_split({"name": "Eve", "ids": []}),
            await ask_split({"name": "Eve", "ids": "x"}),
            await ask_split({"name": "Eve", "ids": ["x"]}),
            await ask_split({"name": "Eve", "ids": ids}),
            await ask_split({"name": "ann", "ids": ids[:1]}),
            await ask_split({"name": "team/A", "ids": ids[:1]}),
            await ask_split({"name": "Eve", "ids": ids[:2]}),
            await ask_split({"name": "ann", "ids": ids[2:3], "merge": True}),
            await client.get("/api/v1/people", headers=read),
            await client.get("/api/v1/people", headers=write),
        ]

    first, pictures, *refused, moved, merged, known, mine = ask(service, talk)
    photos = first.json()["photos"]
    assert [photo["alike"] for photo in photos] == sorted(photo["alike"] for photo in photos)
    (shown,) = (photo for photo in photos if photo["file"])
    assert shown["file"] == "there.png" and shown["picture"].startswith("data:image/jpeg;base64,/9j/")
    assert str(tmp_path) not in first.text
    assert pictures.json()["pictures"] == {"team/A": shown["picture"], "ann": None}
    assert [said(one) for one in refused] == [
        (404, "nobody"),
        (403, "forbidden"),
        (422, "bad_field"),
        (422, "bad_field"),
        (404, "no_such_photo"),
        (409, "bad_name"),
        (409, "bad_name"),
        (409, "bad_name"),
    ]
    assert moved.json() == {"name": "Eve", "photos": 2, "left": 2}
    assert merged.json() == {"name": "ann", "photos": 2, "left": 1}
    counts = {one["name"]: one["photos"] for one in known.json()["people"]}
    assert counts == {"Eve": 2, "ann": 2, "bob": 1, "team/A": 1}
    assert known.json()["role"] == "read" and mine.json()["role"] == "write"
    file.write_bytes(make_picture(2))
    assert people.face(people.gallery().people["team/A"]) is None, "another file took its place"


@pytest.mark.parametrize(
    ("photos", "name", "status", "code"),
    [
        ([make_picture(5)], "", 422, "bad_field"),
        ([make_picture(5)], "unknown", 409, "bad_name"),
        ([make_picture(5)], "ANN", 409, "bad_name"),
        ([make_picture(5), make_picture(6, width=200)], "eve", 422, "not_one_face"),
    ],
)
def test_who_is_not_enrolled(
    ask: Any, service: Service, staff: Path, photos: list[bytes], name: str, status: int, code: str
) -> None:
    before = staff.read_bytes()
    response = ask(
        service,
        lambda client: client.post(
            "/api/v1/enrol", files=make_files(*photos), data={"name": name}, headers=headers(WRITER)
        ),
    )
    assert said(response) == (status, code) and staff.read_bytes() == before


def test_without_a_gallery(ask: Any, embedder: Embedder) -> None:
    for way in ("get", "post"):
        path = "people" if way == "get" else "identify"
        response = ask(Service(embedder), lambda client, way=way, path=path: getattr(client, way)(f"/api/v1/{path}"))
        assert said(response) == (404, "no_gallery")


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_gallery_that_is_lost_while_it_serves(ask: Any, service: Service, staff: Path, harm: str) -> None:
    """It is the server's trouble and is said; once the file is back, all is as before."""
    whole = staff.read_bytes()

    async def talk(client: Any) -> list[Any]:
        write = headers(WRITER)
        photo = make_files(make_picture(2))
        return [
            await client.get("/api/v1/people", headers=write),
            await client.post("/api/v1/identify", files=photo, headers=write),
            await client.post("/api/v1/enrol", files=photo, data={"name": "Eve"}, headers=write),
            await client.patch("/api/v1/people/ann", json={"name": "Eve"}, headers=write),
            await client.delete("/api/v1/people/ann", headers=write),
        ]

    if harm == "gone":
        staff.unlink()
    else:
        staff.write_bytes(whole[:300])
    assert [said(answer) for answer in ask(service, talk)] == [(503, "gallery_unusable")] * 5
    staff.write_bytes(whole)
    assert service.people is not None and list(service.people.gallery().people) == ["ann", "bob"]


def test_photos_that_were_sent_cannot_be_embedded_again(service: Service, staff: Path) -> None:
    with pytest.raises(
        DataError, match=r"2 of 2 photos, the first of 'ann', were sent to a server, which keeps none; .*--drop-missing"
    ):
        update(staff)


def test_a_gallery_of_another_encoder(staff: Path) -> None:
    with pytest.raises(IndexFormatError, match=r"was made with encoder patches .*gallery update"):
        PeopleFile(staff, dataclasses.replace(SPEC, sha256="1", thresholds=LEVELS))


def test_keys_with_roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# ours\nread {READER}\n\nwrite {WRITER}\n")
    assert read_keys(str(path)) == KEYS
    path.write_text(f"read {READER}\n")
    assert read_keys(str(path)) == {READER: READ}
    path.write_text(WRITER + "\n")
    assert read_keys(str(path)) == {WRITER: WRITE}
    monkeypatch.delenv("FACEEMBED_API_KEY", raising=False)
    assert read_keys(None) == {}
    for text, message in (
        (f"read {READER}\nwrite {READER}\n", "one key is there twice"),
        (f"read {READER}\n{WRITER}\n", "each line wants a role"),
        ("read short\n", "it needs at least 16"),
        ("short\n", "it needs at least 16"),
        ("", "it needs at least 16"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_keys(str(path))
