"""The face of each cluster that is seen best, and files of clusters from before there was one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceembed.engine.index.clusters.output import SCHEMA, About, best_of, read_clusters, write_clusters
from faceembed.errors import IndexFormatError


def test_the_highest_score_then_the_largest_then_the_first() -> None:
    clusters = np.array([5, 5, 5, 2, 2, 9, 9])
    score = np.array([0.7, 0.901, 0.899, 0.5, 0.5, 0.8, 0.8], np.float32)
    side = np.array([90, 40, 60, 10, 10, 20, 30], np.float32)
    assert best_of(clusters, score, side).tolist() == [False, False, True, True, False, False, True]
    assert best_of(clusters[:0], score[:0], side[:0]).tolist() == []


@pytest.mark.parametrize("ending", [".parquet", ".json"])
def test_older_files(tmp_path: Path, ending: str) -> None:
    row = {name: 1 for name in SCHEMA.names} | {"path": "/a.jpg", "best": True, "name": None}
    path = tmp_path / f"c{ending}"
    write_clusters(path, pa.Table.from_pylist([row], schema=SCHEMA), About("e", "0", 0.5, 2))
    assert read_clusters(path)[0].column("best").to_pylist() == [True]
    if ending == ".json":
        path.write_text(
            path.read_text()
            .replace(', "best": true', "")
            .replace('"best": true', '"other": 1')
            .replace('"name": null', '"another": 1')
        )
    else:
        pq.write_table(pq.read_table(path).drop_columns(["best", "name"]), path)
    rows, about = read_clusters(path)
    assert rows.column("best").to_pylist() == [None] and rows.schema.equals(SCHEMA) and about.next_cluster == 2
    if ending == ".parquet":
        pq.write_table(pq.read_table(path).drop_columns(["cluster"]), path)
        with pytest.raises(IndexFormatError, match="has no column 'cluster'"):
            read_clusters(path)
