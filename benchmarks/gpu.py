"""The GPU path on one card: stages alone, end to end, ratio and roofline, for several encoders, on crops and on full photos.

    python benchmarks/gpu.py                                     # cuda:0, about 20 minutes
    python benchmarks/gpu.py --encoders dlib-resnet --photos 2000 --rounds 3 --json gpu.json --plot gpu.png
    python benchmarks/gpu.py --from-json a.json b.json           # the README's table from the results of several cards
    python benchmarks/gpu.py --backend cpu --photos 24 --rounds 1    # the same code without a card; says nothing about one

What bounds it. Crops: the encoder, whose share of the card's FP16 peak is told. Full photos: reading and decoding, the more the larger
they are; a card with a hardware JPEG decoder has a stage of its own for that. Every stage has its own stream, so the goal for
end to end is 0.9 of the slowest stage's own rate.

How. Photos are those of `people_wild`, scaled to each longer side (JPEG, quality 92) before anything is measured; crops are their
faces, 112 x 112. Every file is read once before. One process, models loaded, nothing written: `engine.verbs.bench` says how stages are
timed; the median of rounds is taken. IR-18, IR-50 and IR-101 are measured with random weights, which cost what trained ones do.

Not measured: several cards, disks and networks, the writing of the index.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
from common import BenchmarkError, say

MODELS = ("faceembed-r29", "dlib-resnet")
ENCODERS = (*MODELS, "ir18", "ir50", "ir101")
SIDES = (640, 1280, 3840)
ALIGNER = "faceembed-align"
CROP = 112


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All measurements on one device."""
    document: dict[str, Any] = {
        "machine": common.machine(),
        "versions": common.versions("nvidia-dali-cuda130", "tensorrt", "tensorrt-rtx", "onnxruntime-gpu", "cuda-core"),
        "backend": args.backend,
        "card": card(args),
        "runs": [],
    }
    with tempfile.TemporaryDirectory(prefix="faceembed-gpu-") as temporary:
        sets = make_sets(Path(temporary), common.data_root(), args)
        for encoder in args.encoders:
            known = encoder in MODELS or encoder.endswith(".onnx")
            path = encoder if known else random_encoder(encoder, temporary)
            for name, folder in sets.items():
                say(f"{encoder}, {name}")
                report = measure(str(path), folder, crops=name == "crops", args=args)
                document["runs"].append({"encoder": Path(encoder).stem, "set": name, **report})
    return document


def measure(encoder: str, folder: Path, *, crops: bool, args: argparse.Namespace) -> dict[str, Any]:
    """One encoder on one set."""
    from faceembed.engine.photos.listing import list_photos
    from faceembed.engine.pipeline import loading
    from faceembed.engine.pipeline.gpu.opening import Opening
    from faceembed.engine.pipeline.settings import EmbedSettings
    from faceembed.engine.runtimes.base import RuntimeChoice
    from faceembed.engine.runtimes.choose import RuntimeSettings
    from faceembed.engine.verbs.bench import bench
    from faceembed.engine.verbs.bench import measure as measure_pipeline
    from faceembed.errors import FaceEmbedError

    device = "cpu" if args.backend == "cpu" else args.device
    settings = EmbedSettings(
        encoder=encoder,
        aligner="none" if crops else ALIGNER,
        batch_size=args.batch,
        runtime=RuntimeSettings(device=device, runtime="auto", precision="auto"),
    )
    try:
        if args.backend == "cuda":
            return bench([folder], settings=settings, count=args.photos, rounds=args.rounds, notice=say).to_json_dict()
        models = loading.resolve_models(settings)
        choice = RuntimeChoice("onnxruntime", "cpu", "fp32", "the CPU backend of the GPU path")
        pipeline = Opening(settings, models.encoder, models.aligner, choice).open()
        return measure_pipeline(
            pipeline, list_photos([folder]).photos[: args.photos], rounds=args.rounds
        ).to_json_dict()
    except FaceEmbedError as error:
        raise BenchmarkError(str(error)) from error


def card(args: argparse.Namespace) -> dict[str, str]:
    """The card's name, its driver, and the package that runs networks on it.

    Raises:
        BenchmarkError: there is none.
    """
    if args.backend == "cpu":
        return {"name": "none (CPU backend)", "driver": "", "runtime": "ONNX Runtime"}
    from faceembed.engine.runtimes.cards import index_of, probe
    from faceembed.engine.runtimes.choose import RuntimeSettings, choose, runtime_version
    from faceembed.errors import FaceEmbedError

    try:
        driver = probe()
        found = driver.card(index_of(args.device))
        return {
            "name": found.name,
            "driver": driver.release,
            "runtime": runtime_version(choose(RuntimeSettings(device=args.device))),
        }
    except FaceEmbedError as error:
        raise BenchmarkError(str(error)) from error


def make_sets(folder: Path, data: Path, args: argparse.Namespace) -> dict[str, Path]:
    """Folders of crops and of photos at each size, by name."""
    import cv2

    sources = sorted((data / "people_wild").glob("*/*.jpg"))
    if not sources:
        raise BenchmarkError(f"{data} has no people_wild/; set FACEEMBED_DATA")
    chosen = [sources[place * len(sources) // args.files] for place in range(min(args.files, len(sources)))]
    sets = {"crops": folder / "crops"} | {f"{side} px": folder / str(side) for side in args.sides}
    for target in sets.values():
        target.mkdir()
    for number, source in enumerate(chosen):
        photo = cv2.imread(str(source))
        square = min(photo.shape[:2])
        crop = cv2.resize(photo[:square, :square], (CROP, CROP), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / "crops" / f"{number:05d}.jpg"), crop, [cv2.IMWRITE_JPEG_QUALITY, 95])
        for side in args.sides:
            scale = side / max(photo.shape[:2])
            scaled = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            target = folder / str(side) / f"{number:05d}.jpg"
            cv2.imwrite(str(target), scaled, [cv2.IMWRITE_JPEG_QUALITY, 92])
    for target in sets.values():
        common.warm_page_cache(target, common.list_photos(target))
    return sets


def random_encoder(arch: str, folder: str) -> Path:
    """An architecture of the trainer with random weights, as ONNX."""
    import numpy as np
    import torch

    from faceembed.trainer.backbones.registry import build, find
    from faceembed.trainer.export.encoder import export_onnx

    path = Path(folder) / f"{arch}.onnx"
    if not path.exists():
        torch.manual_seed(1)
        spec = find(arch).spec
        height, width = spec.input_size
        chips = np.random.default_rng(1).integers(0, 256, (4, height, width, 3), np.uint8)
        export_onnx(build(arch).eval(), spec, path, chips=chips)
    return path


def report(document: dict[str, Any]) -> str:
    """The README's table."""
    return table([document])


def table(documents: Sequence[dict[str, Any]]) -> str:
    """Markdown: card, driver, TensorRT, model, photos, batch, photos/s, ratio, share of the FP16 peak."""
    lines = [
        "| card | driver | TensorRT | model | photos | batch | photos/s | ratio | FP16 peak |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for document in documents:
        device = document["card"]
        for entry in document["runs"]:
            share = (entry.get("roofline") or {}).get("share_of_peak")
            cells = [device["name"], device["driver"], device["runtime"], entry["encoder"], entry["set"]]
            cells += [str(entry["batch_size"]), f"{entry['end_to_end']:,.0f}", f"{entry['ratio_to_slowest']:.2f}"]
            cells.append(f"{100 * share:.0f} %" if share is not None else "")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(document: dict[str, Any], path: Path) -> None:
    """The picture of all runs."""
    from faceembed.engine.report.rates_picture import write_rates

    name = document["card"]["name"]
    write_rates(path, [(f"{name}, {entry['encoder']}, {entry['set']}", entry) for entry in document["runs"]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("cuda", "cpu"), default="cuda", help="cpu: try the code without a card")
    parser.add_argument("--device", default="cuda:0", help="the card")
    parser.add_argument(
        "--encoders", nargs="+", default=list(ENCODERS), help=f"{' or '.join(MODELS)}, an architecture, or an ONNX file"
    )
    parser.add_argument("--sides", nargs="*", type=int, default=list(SIDES), help="longer sides of full photos, pixels")
    parser.add_argument("--files", type=int, default=256, help="different files of each set")
    parser.add_argument("--photos", type=int, default=4096, help="photos a round; files are repeated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--from-json", type=Path, nargs="+", help="measure nothing; the table of earlier results")
    args = parser.parse_args()
    if args.from_json:
        documents = [json.loads(path.read_text(encoding="utf-8")) for path in args.from_json]
        print(table(documents))
        if args.plot:
            draw(documents[0], args.plot)
        return

    def measured(args: argparse.Namespace) -> dict[str, Any]:
        document = run(args)
        if args.plot:
            draw(document, args.plot)
        return document

    common.run_and_report(args, measured, report)


if __name__ == "__main__":
    main()
