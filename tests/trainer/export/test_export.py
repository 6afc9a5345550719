"""From a checkpoint to an encoder that the engine runs: the ONNX file, its gate, and the two commands that make one."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from faceembed.cli.main import main
from faceembed.engine.index.files import IndexFiles
from faceembed.engine.index.store import load_faces
from faceembed.engine.models import registry
from faceembed.engine.models.catalog import CATALOG
from faceembed.engine.models.entry import Entry
from faceembed.engine.models.flops import count_flops
from faceembed.engine.models.fp16 import to_fp16
from faceembed.engine.models.registry import resolve
from faceembed.engine.models.spec import Model
from faceembed.engine.photos.sample import sample_photos
from faceembed.engine.pipeline.encode import Encoder
from faceembed.engine.runtimes.base import RuntimeChoice
from faceembed.errors import DataError, ModelError, UsageError
from faceembed.trainer.backbones.checkpoints import load_encoder, save_checkpoint
from faceembed.trainer.backbones.registry import ARCHITECTURES, Architecture, build, find, preprocess
from faceembed.trainer.export import encoder as export
from faceembed.trainer.export.encoder import PRECISIONS, Converted, convert, export_onnx, faces, write
from faceembed.trainer.export.import_checkpoint import Facts, import_checkpoint

Chips = NDArray[np.uint8]
NARROW = dataclasses.replace(find("resnet29").spec, name="narrow", dimension=24)
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


class Small(nn.Module):
    """Of each kind of layer one: what takes the exporter seconds in a real network takes it a tenth here."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5, 4, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.act = nn.PReLU(8)
        self.conv2 = nn.Conv2d(8, 12, 3, 2, bias=False)
        self.bn2 = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, dimension, bias=False)
        self.bn3 = nn.BatchNorm1d(dimension)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.bn1(self.conv1(x)))
        x = nn.functional.pad(nn.functional.avg_pool2d(x, 2), (0, 1, 0, 1, 0, 2))[:, :8]
        return self.bn3(self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3))))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def narrow() -> nn.Module:
    """A small network in training mode, with running statistics that were moved."""
    torch.manual_seed(0)
    model = Small(24)
    for _ in range(20):
        model(torch.rand(8, 3, 150, 150) - 0.5)
    return model


@pytest.fixture
def small_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Small` under the name ``small``."""
    spec = dataclasses.replace(NARROW, name="small")
    monkeypatch.setitem(ARCHITECTURES, "small", Architecture("small", Small, spec, "fc.weight"))


@pytest.fixture(scope="module")
def chips() -> Chips:
    return faces(NARROW)


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def converted(request: pytest.FixtureRequest, narrow: nn.Module, chips: Chips) -> Converted:
    assert narrow.training
    done = convert(narrow, NARROW, chips, precision=request.param)
    assert narrow.training and narrow.get_submodule("bn1").training
    return done


def test_faces_are_the_samples(chips: Chips) -> None:
    assert chips.shape == (11, 150, 150, 3) and chips.dtype == np.uint8
    assert chips.std() > 20


def test_the_file(converted: Converted) -> None:
    proto = onnx.load_from_string(converted.data)
    onnx.checker.check_model(proto, full_check=True)
    graph = proto.graph
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
    (given,), (result,) = graph.input, graph.output
    assert [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim] == ["N", 3, 150, 150]
    assert [dim.dim_param or dim.dim_value for dim in result.type.tensor_type.shape.dim] == ["N", 24]
    assert given.type.tensor_type.elem_type == result.type.tensor_type.elem_type == TensorProto.FLOAT
    assert not any(tensor.external_data for tensor in graph.initializer)
    kinds = {node.op_type for node in graph.node}
    assert "BatchNormalization" not in kinds  # folded into the convolutions
    weights = {tensor.data_type for tensor in graph.initializer} & set(FLOATS)
    assert weights == {TensorProto.FLOAT if converted.precision == "fp32" else TensorProto.FLOAT16}
    assert ("Cast" in kinds) == (converted.precision == "fp16")
    assert os.getcwd().encode() not in converted.data and b".py" not in converted.data  # nothing of this machine


def test_fp16_is_strongly_typed(narrow: nn.Module, chips: Chips) -> None:
    """Between the two casts every float is half precision: a runtime has no choice."""
    proto = onnx.load_from_string(convert(narrow, NARROW, chips[:2], precision="fp16").data)
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    floats = {name: kind for name, kind in kinds.items() if kind in FLOATS}
    assert len(floats) >= 8 and set(floats.values()) == {TensorProto.FLOAT16}


def test_w8_keeps_wide_layers_in_whole_numbers(chips: Chips, tmp_path: Path) -> None:
    torch.manual_seed(3)
    wide = nn.Sequential(
        nn.Conv2d(3, 8, 7, 4),
        nn.ReLU(),
        nn.Conv2d(8, 128, 3, 2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Linear(4608, 24),
    )
    spec = dataclasses.replace(NARROW, spread=0.2)
    done = {precision: convert(wide, spec, chips[:4], precision=precision) for precision in PRECISIONS[1:]}
    sizes = {}
    for precision, made in done.items():
        sizes[precision] = sum(
            len(weight.raw_data)
            for weight in onnx.load_from_string(made.data).graph.initializer
            if weight.dims[2:] in ([3, 3], [7, 7])
        )
        assert made.min_cosine >= 0.9999
    assert sizes["fp16"] - sizes["w8"] == 128 * 8 * 9
    flops = {name: count_flops(write(made, tmp_path / f"{name}.onnx")) for name, made in done.items()}
    assert flops["w8"] == flops["fp16"] > 0


LEAST = {"fp32": 0.99999, "fp16": 0.999}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_engine_runs_it(
    runtime: str, converted: Converted, narrow: nn.Module, chips: Chips, tmp_path: Path
) -> None:
    assert converted.faces == 11 and converted.min_cosine >= LEAST[converted.precision]
    written = write(converted, tmp_path / "mine.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.json", "mine.onnx"]
    found = resolve(tmp_path / "mine.onnx", task="encoder")
    assert found == written
    assert (found.spec.name, found.spec.dimension, found.spec.colour) == ("narrow", 24, "rgb")
    encoder = Encoder(found, RuntimeChoice(runtime, "cpu", "fp32", ""), threads=1)
    model = narrow.eval()
    with torch.no_grad():
        expected = nn.functional.normalize(model(preprocess(torch.from_numpy(chips), NARROW))).numpy()
    model.train()
    for count in (1, 5, 11):
        cosine = (encoder.encode(chips[:count])[0] * expected[:count]).sum(1)
        assert cosine.min() >= LEAST[converted.precision]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_failed_gate_leaves_no_file(
    narrow: nn.Module, chips: Chips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    real = export.to_onnx

    def wrong(*args: Any) -> Any:
        proto = real(*args)
        for tensor in proto.graph.initializer:
            if list(tensor.dims) == [12, 8, 3, 3]:
                values = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(values[::-1].copy(), tensor.name))
        return proto

    monkeypatch.setattr(export, "to_onnx", wrong)
    with pytest.raises(
        ModelError, match=rf"\({precision}\) gives other embeddings than PyTorch: (smallest cosine 0\.|FP16 moves)"
    ):
        export_onnx(narrow, NARROW, tmp_path / "a.onnx", precision=precision, chips=chips)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_gives_nan_fails_the_gate(chips: Chips) -> None:
    model = Small(24)
    with torch.no_grad():
        model.fc.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="smallest cosine nan"):
        convert(model, NARROW, chips[:1])


def test_weights_too_large_for_fp16() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])
    weight = numpy_helper.from_array(np.array([70_000.0], np.float32), "w")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", [value], [other], [weight])
    with pytest.raises(ModelError, match="weight 'w' is too large for fp16; use --precision fp32"):
        to_fp16(helper.make_model(graph))


def test_a_full_disk_leaves_no_file(converted: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match="the disk is full"):
        write(converted, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused(narrow: nn.Module, chips: Chips, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.onnx"):
        export_onnx(narrow, NARROW, tmp_path / "a.pt", chips=chips)
    with pytest.raises(UsageError, match="precision 'int8' is not one of fp32, fp16"):
        convert(narrow, NARROW, chips, precision="int8")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no faces"):
        convert(narrow, NARROW, chips[:0])
    with pytest.raises(DataError, match="no face in the photos of"):
        faces(NARROW, tmp_path)


def test_crop_sets_serve_as_faces(tmp_path: Path, chips: Chips) -> None:
    from faceembed.trainer.data.crops import Crop, CropInfo, write_crop, write_crops

    (tmp_path / "a").mkdir()
    rows = [Crop(f"a/{number}.png", f"{number}.jpg", "a") for number in range(3)]
    for row, pixels in zip(rows, chips, strict=False):
        write_crop(tmp_path / row.crop, pixels, format="png")
    write_crops(tmp_path, rows, CropInfo("narrow", NARROW.template, 150, 150, format="png"))
    np.testing.assert_array_equal(faces(NARROW, tmp_path), chips[:3])
    with pytest.raises(UsageError, match="were cut for 'narrow', which takes other chips than 'ir18'"):
        faces(find("ir18").spec, tmp_path)
    (tmp_path / "a" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png cannot be read"):
        faces(NARROW, tmp_path)


def test_strangers_are_measured_on_the_training_people_of_a_crop_set(
    narrow: nn.Module, chips: Chips, tmp_path: Path
) -> None:
    from faceembed.engine.models.strangers import read_templates
    from faceembed.trainer.data.crops import Crop, CropInfo, write_crop, write_crops
    from faceembed.trainer.data.split import write_split
    from faceembed.trainer.export.strangers import with_strangers

    crops = tmp_path / "crops"
    rows = [Crop(f"{person}/{number}.png", f"{person}{number}.jpg", person) for person in "abcd" for number in range(2)]
    for row, pixels in zip(rows, chips, strict=False):
        (crops / row.person).mkdir(parents=True, exist_ok=True)
        write_crop(crops / row.crop, pixels, format="png")
    write_crops(crops, rows, CropInfo("narrow", NARROW.template, 150, 150, format="png"))
    write_split(tmp_path / "split.json", {"train": ("a", "b", "c"), "validate": (), "test": ("d",)})
    plain = convert(narrow, NARROW, chips)
    written = write(with_strangers(plain, crops, split=tmp_path / "split.json"), tmp_path / "a.onnx")
    assert resolve(tmp_path / "a.onnx", task="encoder") == written
    assert written.spec.spread_source == "training people of crops: 3 people, 6 photos, FP32"
    rows_of = Encoder(written, RuntimeChoice("onnxruntime", "cpu", "fp32", ""), threads=1).encode(chips[:6])[0]
    pairs = [rows_of[i] @ rows_of[j] for i in range(6) for j in range(i) if i // 2 != j // 2]
    assert written.spec.spread == pytest.approx(np.std(pairs), abs=2e-5)
    assert (np.sum(read_templates(written.spec) * rows_of[::2], axis=1) > 0.999).all()
    with pytest.raises(DataError, match="has no crop of a training person"):
        write_split(tmp_path / "none.json", {"train": ("x",), "validate": (), "test": ()})
        with_strangers(plain, crops, split=tmp_path / "none.json")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/Best Model (2).onnx", "best-model-2"),
        ("a_b.c-1.onnx", "a_b.c-1"),
        ("Ж.onnx", "encoder"),
        ("x" * 90, "x" * 64),
    ],
)
def test_a_name_from_a_path(path: str, name: str) -> None:
    assert export.name_from(path) == name


def run(*args: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [os.fspath(arg) for arg in args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def embeddings(index: Path) -> NDArray[np.float32]:
    return load_faces(IndexFiles(index)).vectors


def reference(checkpoint: Path | str, arch: str, model: Model) -> NDArray[np.float32]:
    """PyTorch's embeddings of the sample's faces."""
    network, spec, _ = load_encoder(checkpoint, arch=arch)
    assert spec.colour == model.spec.colour
    with torch.no_grad():
        pixels = preprocess(torch.from_numpy(faces(spec)), spec)
        return nn.functional.normalize(network(pixels)).numpy()


def test_adaface_weights_become_an_encoder_for_embed(tmp_path: Path) -> None:
    """Random weights under the official names, imported, embed the sample photos as PyTorch does."""
    torch.manual_seed(1)
    state = build("ir18", dimension=32).state_dict()
    checkpoint = tmp_path / "adaface.ckpt"
    torch.save({"state_dict": {f"model.{name}": value for name, value in state.items()}}, checkpoint)
    first = run("models", "import", checkpoint, "--arch", "ir18", "--name", "official", "--json")
    told = json.loads(first.stdout)
    assert (told["name"], told["dimension"], told["state"]) == ("official", 32, "ready")
    assert told["source"] == str(checkpoint)
    assert "parity with PyTorch on 11 faces: smallest cosine " in first.stderr
    model = resolve("official", task="encoder")
    assert (model.spec.colour, model.spec.scale, model.spec.input_size) == ("bgr", 1 / 127.5, (112, 112))
    index = tmp_path / "a.faiss"
    photos = sample_photos()
    report = json.loads(
        run(
            "embed", photos, "-o", index, "--encoder", "official", "--precision", "fp32", "--workers", "1", "--json"
        ).stdout
    )
    assert (report["encoder"], report["faces"], report["failed"]) == ("official", len(list(photos.iterdir())), 0)
    assert ((embeddings(index) * reference(checkpoint, "ir18", model)).sum(1)).min() > 0.99999
    again = run("models", "import", checkpoint, "--arch", "ir18", "--name", "official", code=1)
    assert "there is a model 'official' already" in again.stderr
    wrong = run("models", "import", checkpoint, "--arch", "ir50", "--name", "other", code=1)
    assert "it is 'ir18': give --arch ir18" in wrong.stderr and "\n" not in wrong.stderr.strip()


def test_export_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_architecture: None) -> None:
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(sample_photos() / "small.jpg", photos)
    torch.manual_seed(2)
    save_checkpoint("best.pt", arch="small", dimension=24, spec=find("small").spec, model=build("small").state_dict())
    words = ("export", "best.pt", "-o", "best.onnx", "--precision", "fp16", "--photos", photos)
    told = json.loads(run(*words, "--json").stdout)
    assert (told["path"], told["name"], told["architecture"], told["faces"]) == (
        "best.onnx",
        "best",
        "small",
        1,
    )
    assert told["min_cosine"] >= 0.999 and told["sha256"] == resolve("./best.onnx", task="encoder").spec.sha256
    assert json.loads(Path("best.json").read_text())["name"] == "best"
    lines = run("export", "best.pt", "-o", "best.onnx", "--name", "other", "--photos", photos).stdout.splitlines()
    assert lines[0].startswith("small, 24 numbers, fp32, ") and lines[0].endswith(" MB: best.onnx")
    assert lines[1].startswith("parity with PyTorch on 1 faces: smallest cosine ")
    run(*lines[2].partition("use it: faceembed ")[2].split(), "--precision", "fp32")
    assert json.loads(Path("people.faiss.json").read_text())["encoder"]["name"] == "other"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("export", "none.pt", "-o", "a.onnx"), 1, "cannot read none.pt: No such file"),
        (("export", "dlib-resnet", "-o", "a.pt"), 2, "must end in .onnx"),
        (("export", "dlib-resnet", "-o", "none/a.onnx"), 1, "does its folder exist?"),
        (("export", "dlib-resnet", "-o", "a.onnx", "--arch", "ir18"), 1, "is a 'resnet29', not 'ir18'"),
        (("export", "dlib-resnet", "-o", "a.onnx", "--name", "A B"), 1, "'A B' cannot name a model"),
        (("export", "dlib-resnet", "-o", "a.onnx", "--photos", "."), 1, "no face in the photos of ."),
        (("models", "import", "a.pt", "--name", "a", "--arch", "ir18", "--scale", "1"), 2, "leave --mean, --scale,"),
        (("models", "import", "a.pt", "--name", "a", "--precision", "fp16"), 2, "say its network: --arch"),
        (("models", "import", "a.pt", "--name", "sface", "--arch", "ir18"), 1, "a known model that is no checkpoint"),
    ],
)
def test_wrong_commands(
    words: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words, code=code)
    assert message in result.stderr
    assert "Traceback" not in result.output and list(tmp_path.iterdir()) == []


def test_a_known_checkpoint_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `models info` advises for a pulled checkpoint works as it stands."""
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path / "home"))
    spec = dataclasses.replace(NARROW, name="mobilefacenet")
    monkeypatch.setitem(ARCHITECTURES, "mobilefacenet", Architecture("mobilefacenet", Small, spec, "fc.weight"))
    entry = Entry(
        name="tiny-ckpt",
        task="encoder",
        licence="MIT",
        source="https://example.org",
        architecture="small",
        input_size=spec.input_size,
        mean=spec.mean,
        scale=spec.scale,
        dimension=24,
        template=spec.template,
        threshold=0.3,
        format="ckpt",
        export="mobilefacenet",
        url="https://example.org/tiny.ckpt",
    )
    monkeypatch.setitem(CATALOG, entry.name, entry)
    torch.save(build("mobilefacenet").state_dict(), tmp_path / "brought.ckpt")
    with pytest.raises(ModelError, match="--sha256"):  # nobody vouches for this file
        import_checkpoint(tmp_path / "brought.ckpt", name=entry.name, arch="mobilefacenet")
    digest = registry.store.file_sha256(tmp_path / "brought.ckpt")
    run("models", "import", tmp_path / "brought.ckpt", "--name", entry.name, "--sha256", digest)
    known = registry.info(entry.name)
    assert known.state == "needs export"
    advice = known.note.partition("run: faceembed ")[2].partition(" (")[0].split()
    with pytest.raises(UsageError, match="its preprocessing is known too"):
        import_checkpoint(known.path, name=entry.name, arch="mobilefacenet", facts=Facts(colour="bgr"))
    run(*advice, "--photos", sample_photos())
    model = resolve(entry.name, task="encoder")
    assert (registry.info(entry.name).state, model.spec.licence, model.spec.threshold) == ("ready", "MIT", 0.3)
    run("models", "pull", entry.name)  # offline: what is here is not fetched again
