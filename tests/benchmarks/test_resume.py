"""The kill-and-resume benchmark, with a stand-in for `faceembed embed`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import processes
import pytest
import resume


def test_kill_resume_and_unchanged_run(
    photos: Path, stub: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "WARM_UP_PHOTOS", 1)  # so that a start-up is less work than the three photos
    # A second of work a photo: on a busy machine the start-up alone takes half a second more or less.
    resume.main(["--rounds", "1", "--cores", "1000", "--embed-command", f"env STUB_SECONDS=1 {stub}"])
    document = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    (entry,) = document["kills"]
    assert entry["same_file"] and entry["same_rows"] and entry["same_ids"] and entry["vectors_bit_for_bit"]
    assert entry["skipped_by_second_run"] == 0 and not entry["index_seen_after_kill"]
    assert document["unchanged"]["skipped"] == 3 and document["unchanged"]["same_file"]


def test_different_vectors_are_told(photos: Path, stub: str, tmp_path: Path) -> None:
    import faiss

    for name in ("a", "b"):
        processes.measure(processes.embed_command(stub, photos, tmp_path / f"{name}.faiss"))
    store = faiss.read_index(str(tmp_path / "b.faiss"))
    vector = store.reconstruct(100)
    store.remove_ids(faiss.IDSelectorRange(100, 101))
    store.add_with_ids(-vector[None], np.array([100]))
    faiss.write_index(store, str(tmp_path / "b.faiss"))
    result = resume.compare_indexes(tmp_path / "a.faiss", tmp_path / "b.faiss")
    assert result["same_rows"] and not result["vectors_bit_for_bit"] and not result["same_file"]
    assert result["min_cosine"] == pytest.approx(-1.0)
