"""Attacks: the formulas on a small known network, and what they do to dlib's encoder on photos of the astronaut."""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from torch import nn

from faceembed.cli.main import main
from faceembed.engine.evaluate.pair_formats import read_pairs
from faceembed.engine.explain.attack_result import Attacked
from faceembed.engine.models.spec import ModelSpec
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.report.attack_picture import write_cases
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.engine.verbs.attack import AttackSettings, attack_pairs
from faceembed.errors import DataError
from faceembed.trainer.gradients.attack import Fgsm, Pgd, levels_of
from faceembed.trainer.gradients.attack_gradient import Network, fgsm, pgd

SIDE, DIMENSION = 6, 8
SPEC = ModelSpec(
    "known",
    "encoder",
    (SIDE, SIDE),
    "bgr",
    (100.0, 110.0, 120.0),
    1 / 128,
    DIMENSION,
    template=tuple((float(x), 0.0) for x in range(5)),
)


def known(seed: int, *, curved: bool = False) -> Network:
    torch.manual_seed(seed)
    size = 3 * SIDE * SIDE
    inner: list[nn.Module] = (
        [nn.Linear(size, 32), nn.Tanh(), nn.Linear(32, DIMENSION)]
        if curved
        else [nn.Linear(size, DIMENSION, bias=False)]
    )
    model = nn.Sequential(nn.Flatten(), *inner).eval().requires_grad_(False)
    return Network(model, SPEC, "known", torch.device("cpu"), 3)


def batch(seed: int, count: int = 5) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    chips = rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)
    references = rng.normal(size=(count, DIMENSION)).astype(np.float32)
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    return chips, references, rng.choice([-1, 1], count).astype(np.float32)


@pytest.mark.parametrize("levels", [1, 3, 12])
def test_fgsm_is_the_sign_of_the_gradient(levels: int) -> None:
    """For e = W x and a unit r the gradient of cos(e, r) is W' (r - cos(e, r) e / |e|) / |e|."""
    network, (chips, references, sign) = known(0), batch(1)
    weight = network.model[1].weight.double().numpy()  # type: ignore[index]
    changed = fgsm(network, chips, references, sign, levels=levels)
    for chip, reference, way, result in zip(chips, references.astype(np.float64), sign, changed, strict=True):
        x = (chip[:, :, ::-1].astype(np.float64) - SPEC.mean) / 128  # blue first
        e = weight @ x.transpose(2, 0, 1).ravel()
        size = np.linalg.norm(e)
        gradient = weight.T @ (reference - (e @ reference / size) * e / size)
        towards = np.sign(gradient.reshape(3, SIDE, SIDE).transpose(1, 2, 0)[:, :, ::-1])  # red first again
        np.testing.assert_array_equal(result, np.clip(chip + way * levels * towards, 0, 255))


@pytest.mark.parametrize("levels, steps, size", [(1, 10, 1), (3, 5, 1), (12, 10, 3), (4, 1, 1), (2, 7, 9)])
def test_pgd_stays_inside_and_does_no_less_than_fgsm(levels: int, steps: int, size: int) -> None:
    network, (chips, references, sign) = known(2, curved=True), batch(3, 8)

    def gain(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(sign * (network.encode(pictures)[0] * references).sum(1))

    one = fgsm(network, chips, references, sign, levels=levels)
    many = pgd(network, chips, references, sign, levels=levels, steps=steps, size=size)
    assert many.dtype == np.uint8 and many.shape == chips.shape
    assert np.abs(many.astype(int) - chips).max() == levels
    assert (gain(one) > gain(chips)).all()
    assert (gain(many) >= gain(one) - 1e-6).all()
    if steps == 1:
        np.testing.assert_array_equal(many, one)
    elif levels > 2:
        assert gain(many).mean() > gain(one).mean() + 1e-3
    alone = pgd(network, chips[2:3], references[2:3], sign[2:3], levels=levels, steps=steps, size=size)
    assert gain(many)[2] == pytest.approx(
        (sign[2:3] * (network.encode(alone)[0] * references[2:3]).sum(1))[0], abs=1e-3
    )


def test_norms_are_the_lengths_before_normalisation() -> None:
    network, (chips, _, _) = known(0), batch(4)
    vectors, norms = network.encode(chips)
    weight = network.model[1].weight.double().numpy()  # type: ignore[index]
    for chip, vector, norm in zip(chips, vectors, norms, strict=True):
        raw = weight @ ((chip[:, :, ::-1].astype(np.float64) - SPEC.mean) / 128).transpose(2, 0, 1).ravel()
        np.testing.assert_allclose(vector * norm, raw, rtol=1e-4, atol=1e-5)
        assert norm == pytest.approx(np.linalg.norm(raw), rel=1e-5)


def test_a_damaged_network_is_named() -> None:
    network = known(0)
    network.model[1].weight.fill_(torch.nan)  # type: ignore[index]
    with pytest.raises(
        DataError, match=r"^known: its gradient at the pixels is not finite; are its weights damaged[?]$"
    ):
        fgsm(network, *batch(0), levels=1)


@pytest.mark.parametrize(
    "epsilon, levels", [(0.008, 1), (0.01, 1), (2 / 255, 1), (4 / 255, 2), (0.03, 3), (0.1, 12), (2.0, 255)]
)
def test_levels(epsilon: float, levels: int) -> None:
    assert levels_of(epsilon) == levels


def run(*args: Any, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["attack", *map(os.fspath, map(str, args))])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture(scope="module")
def attacked(pairs: Path) -> dict[str, Attacked]:
    """FGSM and PGD on dlib's encoder at two epsilons."""
    settings = AttackSettings(
        EmbedSettings(encoder="dlib-resnet", runtime=RuntimeSettings(threads=1)),
        epsilons=(0.01, 0.03),
        skip_failures=True,
    )
    return {attack.method: attack_pairs(pairs, attack, settings=settings) for attack in (Fgsm(), Pgd(steps=4))}


def test_similarities_of_a_real_encoder_move(attacked: dict[str, Attacked]) -> None:
    one, many = attacked["fgsm"], attacked["pgd"]
    assert one.numbers.tolist() == [0, 1, 2, 3]  # without the photo that shows nobody
    np.testing.assert_allclose(one.scores[0], many.scores[0])
    toward = np.array([-1, -1, 1, 1])
    gains = {method: toward * (result.scores[1:] - result.scores[0]) for method, result in attacked.items()}
    assert (gains["pgd"] > 0).all()
    assert (gains["fgsm"][:, :3] > 0).all()  # the last pair, at 0.97, a single long step may overshoot
    assert (gains["pgd"] >= gains["fgsm"] - 1e-5).all()
    assert (gains["pgd"][:, :2].mean(1) > gains["fgsm"][:, :2].mean(1)).all()  # dodging has room to gain
    assert (gains["fgsm"][1, :2] > 0.02).all()
    assert [row.levels for row in one.rows] == [0, 1, 3]
    assert one.rows[2].change["same"] == pytest.approx(-gains["fgsm"][1, :2].mean())
    for case in (*one.cases, *many.cases):
        moved = np.abs(case.changed.astype(int) - case.original).max()
        assert moved == levels_of(case.epsilon)
    assert all(case.harm > 0 for case in many.cases)
    assert [case.kind for case in one.cases] == ["same", "same", "other", "fake"] * 2


def test_the_clean_scores_are_those_of_eval(pairs: Path, attacked: dict[str, Attacked], reuse_pipeline: Any) -> None:
    from faceembed.engine.verbs.evaluate import score_pairs

    settings = EmbedSettings(encoder="dlib-resnet", runtime=RuntimeSettings(precision="fp32"))
    scored = score_pairs(pairs, settings=settings, skip_failures=True)
    np.testing.assert_allclose(attacked["fgsm"].scores[0], scored.similarity[:4], atol=1e-4)
    assert attacked["fgsm"].rows[0].eer == scored.evaluation.eer


def test_files(attacked: dict[str, Attacked], pairs: Path, tmp_path: Path) -> None:
    result = attacked["pgd"]
    result.write_scores(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epsilon"] for row in rows] == ["0.01"] * 4 + ["0.03"] * 4
    assert [float(row["after"]) for row in rows] == pytest.approx(result.scores[1:].ravel().tolist(), abs=1e-6)
    assert [float(row["before"]) for row in rows[:4]] == pytest.approx(result.scores[0].tolist(), abs=1e-6)
    assert len(read_pairs(tmp_path / "scores.csv")) == 8
    write_cases(tmp_path / "worst.png", result.cases, threshold=result.threshold, title=result.title)
    picture = cv2.imread(str(tmp_path / "worst.png"))
    assert picture is not None
    assert picture.shape[0] > 8 * 100 and picture.shape[1] > 4 * 100
    assert len(np.unique(picture)) > 100


def test_fgsm_on_the_command_line(pairs: Path, tmp_path: Path) -> None:
    png, save, html = tmp_path / "worst.png", tmp_path / "scores.csv", tmp_path / "fgsm.html"
    files = ("--png", png, "--save", save, "--html", html)
    text = run("fgsm", pairs, "--epsilon", "0.03", "--goal", "dodge", *files, "--workers", 1).stdout
    assert f"fgsm on {EmbedSettings().encoder}: 5 pairs, 1 of them with a photo without a face, which score -1" in text
    line = next(line for line in text.splitlines() if line.strip().startswith("0.03"))
    assert "(-0." in line and "(+0." not in line  # only positives were attacked
    assert png.exists() and save.exists()
    assert f"fgsm on {EmbedSettings().encoder}" in html.read_text()


@pytest.mark.parametrize(
    "args, code, message",
    [
        (("fgsm", "nowhere.csv"), 1, "nowhere.csv: "),
        (("fgsm", "PAIRS", "--epsilon", "x"), 2, "'x' is not a number"),
        (("fgsm", "PAIRS", "--epsilon", ""), 2, "is not a number"),
        (
            ("fgsm", "PAIRS", "--epsilon", "0.005"),
            2,
            "--epsilon 0.005 is less than one of 255 levels; the least is 0.0079",
        ),
        (("noise", "PAIRS", "--epsilon", "0.1,-1"), 2, "--epsilon -1 must be more than 0"),
        (("pgd", "PAIRS", "--steps", "0"), 2, "--steps 0 must be at least 1"),
        (("pgd", "PAIRS", "--step-size", "nan"), 2, "--step-size nan must be more than 0"),
        (("pgd", "PAIRS", "--max-pairs", "0"), 2, "--max-pairs 0 must be at least 1"),
        (("fgsm", "PAIRS", "--encoder", "model.onnx"), 1, "no model file at model.onnx"),
        (("pgd", "PAIRS", "--encoder", "nobody"), 1, "no model 'nobody'"),
        (("fgsm", "PAIRS", "--encoder", "nobody", "--arch", "ir18"), 2, "--arch ir18 is for checkpoints; nobody says"),
        (("fgsm", "PAIRS", "--encoder", "missing.pt"), 1, "missing.pt"),
        (("fgsm", "PAIRS", "--encoder", "PAIRS"), 1, "is not a readable checkpoint"),
        (("noise", "PAIRS", "--encoder", "PAIRS"), 1, "is not a readable checkpoint"),
        (("fgsm", "PAIRS", "--arch", "resnet92"), 2, "resnet92"),
        (("fgsm", "PAIRS", "--device", "tpu"), 1, "device 'tpu' is "),
        (("fgsm", "PAIRS", "--device", "cuda:99"), 1, "device 'cuda:99': PyTorch finds "),
        (("fgsm", "PAIRS", "--png", "no/such/folder/x.png"), 1, "no/such/folder/x.png"),
    ],
)
def test_mistakes_are_one_line(pairs: Path, args: tuple[str, ...], code: int, message: str) -> None:
    result = run(*(str(pairs) if arg == "PAIRS" else arg for arg in args), code=code)
    assert message in result.stderr
    assert sum("Error" in line for line in result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.data
def test_pgd_breaks_dlib_on_real_people(data: Path, tmp_path: Path) -> None:
    """What the README says of the undefended encoder, on a few held-out pairs: most decisions turn at 3 levels of 255."""
    people = sorted(folder for folder in (data / "people_wild").iterdir())[:12]
    photos = [sorted(folder.iterdir())[:3] for folder in people]
    rows = [(a, b, 1) for a, b, _ in photos] + [(one[0], two[2], 0) for one, two in itertools.pairwise(photos)]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["path_a,path_b,label", *(f"{a},{b},{label}" for a, b, label in rows)]))
    settings = AttackSettings(EmbedSettings(encoder="dlib-resnet"), epsilons=(0.03,), skip_failures=True)
    result = attack_pairs(path, Pgd(steps=5), settings=settings)
    clean, row = result.rows
    assert clean.eer is not None and row.eer is not None
    assert clean.eer < 0.3 and row.eer > 0.6
    assert row.change["same"] < -0.08 and row.change["other"] > 0.08
