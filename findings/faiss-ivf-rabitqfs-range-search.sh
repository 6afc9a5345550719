#!/usr/bin/env bash
# FAISS: range_search of IVF…,RaBitQfs with the inner product does not do what search does: above a threshold that about 10 of each query's
# nearest pass by search, range_search gives thousands; IVF…,RaBitQ, the same codes without fast scan, agrees with its search.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "faiss-cpu==1.15.1" "numpy==2.4.6"
cat > "$work/try.py" <<'PY'
import faiss
import numpy as np

faiss.omp_set_num_threads(1)
rng = np.random.default_rng(0)
vectors = rng.normal(size=(6000, 64)).astype(np.float32)
faiss.normalize_L2(vectors)
queries = vectors[:50]


def counts(kind):
    """Results above one threshold, by search and by range_search."""
    index = faiss.index_factory(64, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.extract_index_ivf(index).nprobe = 16  # all lists
    similarity, _ = index.search(queries, 200)
    threshold = float(np.median(similarity[:, 9]))
    limits, _, _ = index.range_search(queries, threshold)
    return int((similarity > threshold).sum()), int(limits[-1])


plain, fast = counts("IVF16,RaBitQ"), counts("IVF16,RaBitQfs")
print(f"faiss {faiss.__version__}: above the threshold, by search and by range_search: RaBitQ {plain}, RaBitQfs {fast}")
assert plain[0] == plain[1], "the behaviour has changed"
assert fast[1] > 20 * fast[0], "the behaviour has changed"
PY
"$work/venv/bin/python" "$work/try.py"
