#!/usr/bin/env bash
# FAISS: copies of one vector in an HNSW index hide others. 1,500 vectors and 500 copies of the first: a part of the 1,500 no longer finds
# itself, while without the copies all do. (The links of a node are taken up by copies, which lead nowhere else.)
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "faiss-cpu==1.15.1" "numpy==2.4.6"
cat > "$work/try.py" <<'PY'
import faiss
import numpy as np

faiss.omp_set_num_threads(1)
rng = np.random.default_rng(0)
alone = rng.normal(size=(1500, 64)).astype(np.float32)
faiss.normalize_L2(alone)


def lost(vectors):
    index = faiss.index_factory(64, "HNSW32", faiss.METRIC_INNER_PRODUCT)
    index.add(vectors)
    similarity, _ = index.search(alone, 1)
    return int((similarity[:, 0] < 0.999).sum())


before, after = lost(alone), lost(np.concatenate([alone, np.repeat(alone[:1], 500, axis=0)]))
print(f"faiss {faiss.__version__}: of 1,500 vectors {before} do not find themselves; with 500 copies of one of them {after}")
assert before == 0 and after > 20, "the behaviour has changed"
PY
"$work/venv/bin/python" "$work/try.py"
