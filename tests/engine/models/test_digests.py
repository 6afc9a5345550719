"""Whose word counts for a file's SHA-256, and that nobody's is invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.models import digests
from faceembed.engine.models.digests import Digest, expected, lock, locked, published
from faceembed.engine.models.web import Patience, Unreachable
from faceembed.errors import FetchError

pytestmark = pytest.mark.usefixtures("model_home")
FAST = Patience(timeout_s=0.5, attempts=1, backoff_s=0.01)
A, B = "a" * 64, "b" * 64
NOWHERE = "http://127.0.0.1:1/m.onnx"


def test_the_hub_says_it_in_a_header(hub: Any) -> None:
    assert published(hub.url, patience=FAST) == Digest(hub.sha256, 300_000, hub.root.removeprefix("http://"))
    hub.redirect = NOWHERE  # the content network behind the hub is not asked
    assert published(hub.url, patience=FAST) is not None
    assert not hub.gets()


def test_a_hub_that_says_nothing(hub: Any) -> None:
    hub.linked = False
    assert published(hub.url, patience=FAST) is None
    with pytest.raises(FetchError, match=r"names no SHA-256 for this file and never guesses one.*--sha256"):
        expected("m", hub.url, patience=FAST)


@pytest.fixture
def github(hub: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("GITHUB", "GITHUB_API", "GITHUB_RAW"):
        monkeypatch.setattr(digests, name, f"{hub.root}/{name.lower()}")
    return hub


@pytest.mark.parametrize(
    ("digest", "found"), [(f"sha256:{A}", Digest(A, 7, "GitHub's release page")), (None, None), (f"md5:{A}", None)]
)
def test_a_github_release_names_it_in_the_api(github: Any, digest: str | None, found: Digest | None) -> None:
    rows = [{"name": "x.onnx", "digest": f"sha256:{B}"}, {"name": "m 1.onnx", "digest": digest, "size": 7}]
    github.answers["/github_api/repos/o/r/releases/tags/v1"] = json.dumps({"assets": rows}).encode()
    assert published(f"{digests.GITHUB}/o/r/releases/download/v1/m%201.onnx", patience=FAST) == found


@pytest.mark.parametrize("body", [b"", b"[]", b'{"assets": 1}', b'{"assets": [{"digest": "sha256:0"}]}'])
def test_an_odd_answer_of_github(github: Any, body: bytes) -> None:
    github.answers["/github_api/repos/o/r/releases/tags/v1"] = body
    with pytest.raises(FetchError, match="is not understood"):
        published(f"{digests.GITHUB}/o/r/releases/download/v1/m.onnx", patience=FAST)


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{A}\nsize 12\n",
            Digest(A, 12, "GitHub's LFS pointer"),
        ),
        ("the file itself, which is not in LFS", None),
    ],
)
def test_a_file_in_a_github_repository_has_a_pointer(github: Any, pointer: str, found: Digest | None) -> None:
    github.answers["/github_raw/o/r/main/a/m.onnx"] = pointer.encode()
    assert published(f"{digests.GITHUB}/o/r/raw/main/a/m.onnx", patience=FAST) == found


def test_the_users_word_outranks_all(hub: Any) -> None:
    assert expected("m", hub.url, sha256=A.upper(), catalog=B, patience=FAST).sha256 == A
    assert not hub.seen


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, A + "0"])
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(FetchError, match="64 hexadecimal digits"):
        digests.check_hex(text)


def test_catalog_and_hub_agree(hub: Any) -> None:
    digest = expected("m", hub.url, catalog=hub.sha256, patience=FAST)
    assert digest == Digest(hub.sha256, 300_000, "faceembed's catalog")


def test_catalog_and_hub_differ(hub: Any) -> None:
    with pytest.raises(FetchError) as caught:
        expected("m", hub.url, catalog=A, patience=FAST)
    assert A in str(caught.value) and f"--sha256 {hub.sha256}" in str(caught.value)


def test_the_first_download_binds_all_later_ones(hub: Any) -> None:
    first = expected("m", hub.url, patience=FAST)
    lock("m", hub.url, first)
    assert expected("m", hub.url, patience=FAST).said_by == digests.lock_path()
    hub.body = b"replaced"
    with pytest.raises(FetchError) as caught:
        expected("m", hub.url, patience=FAST)
    assert first.sha256 in str(caught.value) and hub.sha256 in str(caught.value)
    hub.linked = False  # a hub that falls silent does not lift the lock
    assert expected("m", hub.url, patience=FAST).sha256 == first.sha256


def test_a_known_digest_needs_no_hub() -> None:
    assert expected("m", NOWHERE, catalog=A, patience=FAST) == Digest(A, 0, "faceembed's catalog")
    with pytest.raises(Unreachable, match="no connection"):
        expected("m", NOWHERE, patience=FAST)
    with pytest.raises(FetchError, match="knows no SHA-256"):
        expected("m", NOWHERE, online=False)


def test_the_lock_is_of_an_address() -> None:
    lock("m", "https://one", Digest(A, 5, "one"))
    lock("n", "https://two", Digest(B, 6, "two"))
    assert locked("m", "https://one") == Digest(A, 5, digests.lock_path())
    assert locked("m", "https://two") is None
    assert locked("x", "https://one") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"models": []}', '{"models": {"m": 1}}', "\x00"])
def test_a_damaged_lock_file_is_an_error_and_not_a_free_pass(model_home: Path, text: str) -> None:
    model_home.mkdir()
    (model_home / "models.lock.json").write_text(text)
    with pytest.raises(FetchError, match=r"models\.lock\.json is damaged"):
        locked("m", "https://one")


def test_a_lock_row_without_a_digest(model_home: Path) -> None:
    model_home.mkdir()
    (model_home / "models.lock.json").write_text('{"models": {"m": {"url": "https://one"}}}')
    with pytest.raises(FetchError, match="64 hexadecimal digits"):
        locked("m", "https://one")
