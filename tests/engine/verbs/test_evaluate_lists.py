"""`eval` of lists without photos: scores, rows of an index; and of lists of one class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceembed.engine.evaluate.intervals import share_bounds
from faceembed.engine.evaluate.one_class import OneClassRates
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.verbs.evaluate import evaluate_pairs, score_pairs
from faceembed.errors import DataError, FaceEmbedError, PairListError, UsageError
from tests.engine.verbs.albums import album, faces_of, run


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def test_scores_alone_have_the_rates_of_their_scores(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    same, other = rng.normal(60, 10, 300), rng.normal(30, 10, 500)
    rows = [f"{score},1" for score in same] + [f"{score},0" for score in other]
    result: Any = evaluate_pairs(table(tmp_path / "s.csv", "score,label", *rows))
    assert (result.positives, result.negatives, result.failure_to_enrol) == (300, 500, None)
    at = result.threshold
    assert abs((same < at).mean() - (other >= at).mean()) < 0.005 and 40 < at < 50
    assert result.eer == pytest.approx((same < at).mean(), abs=0.005)
    document = result.to_json_dict()
    assert document["failure_to_enrol"] is None and "scores" in document["cannot_tell"]["failure_to_enrol"]
    assert result.repeated_pairs == result.pairs_with_itself == 0


def test_scores_have_no_report_and_no_scores(tmp_path: Path) -> None:
    source = table(tmp_path / "s.csv", "score,label", "0.9,1", "0.1,0")
    with pytest.raises(DataError, match="a report shows photos"):
        evaluate_pairs(source, report=tmp_path / "r.html")
    with pytest.raises(UsageError, match="scores already"):
        evaluate_pairs(source, scores=tmp_path / "x.csv")


@pytest.mark.parametrize(("label", "rate"), [("1", "fnmr"), ("0", "fmr")])
def test_one_class_has_its_rate(tmp_path: Path, label: str, rate: str) -> None:
    source = table(tmp_path / "s.csv", "score,label", *(f"0.{number},{label}" for number in range(10)))
    result = evaluate_pairs(source, threshold=0.3)
    assert isinstance(result, OneClassRates)
    wrong = 3 if label == "1" else 7
    assert getattr(result, rate) == wrong / 10 and result.ci == share_bounds(wrong, 10)
    document = result.to_json_dict()
    assert document["eer"] is None and document[rate] == wrong / 10
    assert {"eer", "auc", "fmr" if label == "1" else "fnmr"} <= document["cannot_tell"].keys()
    json.dumps(document, allow_nan=False)
    with pytest.raises(DataError, match="--threshold"):
        evaluate_pairs(source)
    both = table(tmp_path / "b.csv", "score,label", "0.9,1", "0.1,0")
    with pytest.raises(UsageError, match="lists of one class"):
        evaluate_pairs(both, threshold=0.3)


@pytest.mark.usefixtures("counted")
def test_rows_of_an_index(tmp_path: Path, counted: Any) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 6)
    (nas / "bad.png").write_bytes(b"no picture")
    run(nas, index)
    computed = counted.photos
    rows = ["00000.png,00001.png,1", "00002.png,00003.png,0", "00004.png,bad.png,1"]
    scored = score_pairs(table(nas / "pairs.csv", "path_a,path_b,label", *rows), index=index)
    faces = faces_of(index)
    vectors = {Path(p.path).name: v for p, v in zip(faces.photos(), faces.vectors, strict=True)}
    expected = [vectors["00000.png"] @ vectors["00001.png"], vectors["00002.png"] @ vectors["00003.png"], -1]
    np.testing.assert_allclose(scored.similarity, expected, atol=1e-6)
    assert scored.failed.tolist() == [False, False, True] and scored.embedded is None
    assert scored.evaluation.failure_to_enrol == 1 / 6
    assert counted.photos == computed  # nothing was looked at
    ids = {Path(p.path).name: i for p, i in zip(faces.photos(), faces.rows.column("face_id").to_pylist(), strict=True)}
    by_id = table(
        tmp_path / "ids.csv",
        "face_id_a,face_id_b,label",
        f"{ids['00000.png']},{ids['00001.png']},1",
        f"{ids['00002.png']},{ids['00003.png']},0",
    )
    np.testing.assert_allclose(score_pairs(by_id, index=index).similarity, expected[:2], atol=1e-6)


@pytest.mark.usefixtures("counted")
def test_photos_that_an_index_does_not_know(tmp_path: Path) -> None:
    index = tmp_path / "p.faiss"
    run(album(tmp_path / "nas", 3), index)
    source = table(tmp_path / "pairs.csv", "path_a,path_b,label", "nas/00000.png,nas/nobody.png,1")
    with pytest.raises(PairListError, match=r"1 of 2 photos are not in .*nobody\.png"):
        score_pairs(source, index=index)
    with pytest.raises(FaceEmbedError, match="no index"):
        score_pairs(source, index=tmp_path / "none.faiss")
    with pytest.raises(PairListError, match="1 of 2 faces"):
        score_pairs(table(tmp_path / "i.csv", "face_id_a,face_id_b,label", "0,77,1"), index=index)


@pytest.mark.usefixtures("reuse_pipeline")
def test_one_class_of_photos_at_the_encoders_threshold(tmp_path: Path, make_faces: Any) -> None:
    names = [path.name for path in make_faces(tmp_path, 4)]
    rows = [f"{a},{b},same" for a, b in zip(names, names[2:], strict=False)]
    scored = score_pairs(read_pairs(table(tmp_path / "p.csv", *rows)))
    assert isinstance(scored.evaluation, OneClassRates)
    assert scored.embedded is not None and scored.evaluation.threshold == scored.embedded.threshold
    assert (scored.evaluation.fnmr, scored.evaluation.fmr) == (0.0, None)
    with pytest.raises(DataError, match="both classes"):
        scored.write_report(tmp_path / "r.html")
