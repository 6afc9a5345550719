"""What BF16 does to encoders: the precision gate's figures beside the error rates that they stand for.

    python benchmarks/precision.py faceembed-r29 dlib-resnet ./mobilefacenet.onnx --json benchmarks/results/precision.json

For each encoder: the strangers' spread and templates, on people_wild's 180 training people at fp32; then on its 40 test people, whom no limit
was chosen on, root mean square and largest change of similarities in units of that spread, and the smallest cosine, which the gate used to
go by (0.999 on 32 faces); what the gate says today, and what it lets run; the EER on LFW View 2 in FP32, in plain BF16, and as the gate
lets it run. Pairs with a photo in which no face is found are left out, so these EERs are a little lower than `faceembed eval`'s.

What bounds it: the encoders at fp32, about 10,000 chips each. `--cache FOLDER` keeps chips and embeddings for a second run. Rates are chips
per second of processor time, one thread, and mean something within one run alone.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import data_root, machine, run_and_report, say, table, versions
from numpy.typing import NDArray

from faceembed.engine.evaluate import metrics
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model, ModelSpec
from faceembed.engine.models.strangers import describe, read_templates
from faceembed.engine.parity.rule import FACES, limits
from faceembed.engine.photos.listing import list_photos
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.pipeline.loading import open_cutter, resolve_aligner
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.engine.runtimes.batching import run_in_chunks
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.engine.runtimes.sessions import open_session
from faceembed.errors import DeviceError
from faceembed.trainer.data.split import split_people

OLD_COSINE = 0.999
Rows = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="+", help="names, or ONNX files with their specs beside them")
    parser.add_argument("--cache", type=Path, help="a folder for chips and embeddings")
    parser.add_argument("--skip-eer", action="store_true", help="leave LFW out")
    parser.add_argument("--json", type=Path, help="keep the result in a file")
    run_and_report(parser.parse_args(), measure, report)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    kept = Store(args.cache)
    pairs = lfw_pairs(data_root())
    rows = [one(resolve(name, task="encoder"), kept, pairs, eer=not args.skip_eer) for name in args.encoders]
    rms, largest = limits("bf16")
    return {
        "benchmark": "precision",
        "machine": machine(),
        "versions": versions("openvino", "numpy"),
        "allowed": {"rms": rms, "largest": largest},
        "encoders": rows,
    }


def one(model: Model, kept: Store, pairs: list[tuple[str, str, bool]], *, eer: bool) -> dict[str, Any]:
    name = model.spec.name
    say(f"{name}: strangers")
    exact = RuntimeChoice("openvino", "cpu", "fp32", "")
    fast = dataclasses.replace(exact, precision="bf16")
    rows, paths, _ = kept.embed(model, "train", exact)
    spread, templates = describe(rows, [Path(path).parent.name for path in paths])
    spec = dataclasses.replace(model.spec, spread=spread, templates=templates)
    model = Model(spec, model.path)
    faces, _, rate = kept.embed(model, "test", exact)
    plain, _, plain_rate = kept.embed(model, "test", fast)
    result: dict[str, Any] = {"encoder": name, "dimension": spec.dimension, "spread": spread, "faces": len(faces)}
    result["plain"] = {**moved(spec, faces, plain), "chips_per_second": plain_rate}
    result["fp32_chips_per_second"] = rate
    chips = kept.chips(spec, "test")[0][:: max(len(faces) // FACES, 1)][:FACES]
    result["old_gate"] = "bf16" if moved(spec, faces[:FACES], plain[:FACES])["min_cosine"] >= OLD_COSINE else "fp32"
    encoder = Encoder(Model(dataclasses.replace(spec, sha256=f"benchmark {name}"), model.path), fast, threads=1)
    try:
        said, allowed = encoder.admit(chips), encoder.choice
    except DeviceError as error:
        said, allowed = str(error), exact
    result |= {"gate": said, "precision": allowed.precision, "exact_layers": allowed.exact_layers}
    if allowed.exact_layers:
        found, _, rate = kept.embed(model, "test", allowed)
        result["as_let_run"] = {**moved(spec, faces, found), "chips_per_second": rate}
    if eer:
        ways = {"fp32": exact, "bf16": fast} | ({"as_let_run": allowed} if allowed.exact_layers else {})
        for way, choice in ways.items():
            say(f"{name}: LFW in {way}")
            embedded, where, _ = kept.embed(model, "lfw", choice)
            result[f"eer_{way}"] = lfw_eer(embedded, where, pairs)
    return result


def moved(spec: ModelSpec, exact: Rows, fast: Rows) -> dict[str, float]:
    """The gate's figures over all pairs of these faces and all templates."""
    assert spec.spread
    pairs = np.triu_indices(len(exact), 1)
    between = (fast @ fast.T - exact @ exact.T)[pairs]
    change = (
        np.concatenate([between, ((fast - exact) @ read_templates(spec).T).ravel()]).astype(np.float64) / spec.spread
    )
    return {
        "rms": round(float(np.sqrt(np.square(change).mean())), 4),
        "largest": round(float(np.abs(change).max()), 4),
        "mean": round(float(between.mean() / spec.spread), 4),
        "min_cosine": round(float((exact * fast).sum(axis=1).min()), 5),
    }


class Store:
    """Chips and embeddings of three sets of photos, kept in memory or in a folder."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._kept: dict[str, Any] = {}
        if folder:
            folder.mkdir(parents=True, exist_ok=True)

    def chips(self, spec: ModelSpec, part: str) -> tuple[NDArray[np.uint8], list[str]]:
        """Faces of ``train`` and ``test`` people of people_wild, or of ``lfw`` View 2, and their photos' paths."""

        def cut() -> dict[str, Any]:
            settings = EmbedSettings(runtime=RuntimeSettings(device="cpu"))
            photos = list_photos(photos_of(part)).photos
            cutter = open_cutter(settings, spec, resolve_aligner(settings), photos, notice=say)
            with contextlib.closing(cutter.cut(photos)) as cuts:
                found = [(one.chips, [one.photos[place].path for place in one.faces.photo]) for one in cuts]
            return {"a": np.concatenate([a for a, _ in found]), "b": np.array([path for _, b in found for path in b])}

        kept = self._get(f"chips-{part}-{spec.input_size[0]}", cut)
        return kept["a"], kept["b"].tolist()

    def embed(self, model: Model, part: str, choice: RuntimeChoice) -> tuple[Rows, list[str], float]:
        """Unit embeddings, the photos' paths, and chips per second of processor time."""
        chips, paths = self.chips(model.spec, part)

        def run() -> dict[str, Any]:
            session = open_session(model, choice, threads=1)
            for warm in (chips[:32], chips[:8]):  # fixed batches are compiled when they are first met
                run_in_chunks(session, warm, chunk=32, step=8)
            started = time.process_time()
            raw = run_in_chunks(session, chips, chunk=32, step=8)[0].reshape(len(chips), -1)
            rate = len(chips) / (time.process_time() - started)
            return {"a": raw / np.linalg.norm(raw, axis=1, keepdims=True), "b": np.array(round(rate, 1))}

        kept = self._get(f"{model.spec.name}-{part}-{choice.precision}-{choice.exact_layers}", run)
        return kept["a"], paths, float(kept["b"])

    def _get(self, key: str, make: Any) -> dict[str, Any]:
        path = self.folder / f"{key}.npz" if self.folder else None
        if key not in self._kept and path and path.is_file():
            self._kept[key] = dict(np.load(path))
        if key not in self._kept:
            self._kept[key] = make()
            if path:
                np.savez(path, **self._kept[key])
        return dict(self._kept[key])


def photos_of(part: str) -> list[Path]:
    root = data_root()
    if part == "lfw":
        return [root / "lfw" / name for name in sorted({name for a, b, _ in lfw_pairs(root) for name in (a, b)})]
    people = [path.name for path in (root / "people_wild").iterdir() if path.is_dir()]
    split = split_people(people, train=180, validate=20, test=40, seed=7)
    return [root / "people_wild" / person for person in split[part]]


def lfw_pairs(root: Path) -> list[tuple[str, str, bool]]:
    """LFW View 2: two photos below ``lfw/``, and whether they show one person."""
    pairs = []
    for line in (root / "lfw_pairs.txt").read_text().splitlines():
        parts = line.split()
        if len(parts) in (3, 4):
            other = parts[0] if len(parts) == 3 else parts[2]
            names = [f"{who}/{who}_{int(number):04d}.jpg" for who, number in ((parts[0], parts[1]), (other, parts[-1]))]
            pairs.append((names[0], names[1], len(parts) == 3))
    return pairs


def lfw_eer(rows: Rows, paths: list[str], pairs: list[tuple[str, str, bool]]) -> float:
    """In per cent."""
    place = {"/".join(Path(path).parts[-2:]): number for number, path in enumerate(paths)}
    known = [pair for pair in pairs if pair[0] in place and pair[1] in place]
    similarity = np.array([float(rows[place[a]] @ rows[place[b]]) for a, b, _ in known])
    return round(100 * float(metrics.eer(similarity, np.array([same for *_, same in known]))[0]), 3)


def report(document: dict[str, Any]) -> str:
    header = [
        "encoder",
        "spread",
        "rms %",
        "largest %",
        "min cos",
        "old",
        "new",
        "layers fp32",
        "EER fp32",
        "bf16",
        "let run",
    ]
    rows = []
    for one in document["encoders"]:
        plain = one["plain"]
        rows.append(
            [
                one["encoder"],
                one["spread"],
                f"{100 * plain['rms']:.1f}",
                f"{100 * plain['largest']:.0f}",
                plain["min_cosine"],
                one["old_gate"],
                one["precision"],
                one["exact_layers"],
                one.get("eer_fp32", "-"),
                one.get("eer_bf16", "-"),
                one.get("eer_as_let_run", "-"),
            ]
        )
    return table(header, rows)


if __name__ == "__main__":
    main()
