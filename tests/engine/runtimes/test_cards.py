"""What the driver says is what we know; each way in which it can fail is one line that says how to mend it."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from faceembed.engine.runtimes import cards
from faceembed.engine.runtimes.cards import index_of, probe, without_advice
from faceembed.errors import DeviceError


def test_what_the_driver_says(fit: Any) -> None:
    fit(cards=[("NVIDIA A100", (8, 0)), ("NVIDIA GeForce RTX 5090", (12, 0))], version=13020)
    driver = probe()
    assert (driver.release, driver.cuda) == ("580.65.06", (13, 2))
    second = driver.card(1)
    assert (second.index, second.sm, second.multiprocessors) == (1, "sm120", 128)
    assert str(second) == "NVIDIA GeForce RTX 5090 (sm120, 24 GiB)"


@pytest.mark.parametrize(
    ("index", "count", "message"),
    [
        (1, 1, r"^device 'cuda:1': this machine has cuda:0 alone$"),
        (5, 3, r"^device 'cuda:5': this machine has cuda:0 to cuda:2$"),
    ],
)
def test_a_card_that_is_not_there(fit: Any, index: int, count: int, message: str) -> None:
    fit(cards=[("NVIDIA L4", (8, 9))] * count)
    with pytest.raises(DeviceError, match=message):
        probe().card(index)


def test_too_old_a_driver(fit: Any) -> None:
    fit(version=12040)
    with pytest.raises(
        DeviceError,
        match=r"^driver 580\.65\.06 is too old: it runs CUDA 12\.4, and 13\.0 is needed; install driver 580 or newer, or use --device cpu$",
    ):
        probe().card(0)


def test_too_old_a_card(fit: Any) -> None:
    fit(cards=[("Tesla V100", (7, 0))])
    with pytest.raises(DeviceError, match=r"Tesla V100 \(sm70, 24 GiB\) is too old: compute capability 7\.0, and 7\.5"):
        probe().card(0)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (34, "stub, not a driver; take its folder out of LD_LIBRARY_PATH"),
        (100, r"sees no card: .*CUDA_VISIBLE_DEVICES"),
        (803, "different versions; reboot, or reinstall the driver"),
        (804, "take the cuda-compat package away"),
        (999, "see dmesg"),
        (42, r"CUDA error 42\)$"),
    ],
)
def test_a_driver_that_does_not_start(fit: Any, code: int, message: str) -> None:
    fit(start=code)
    with pytest.raises(DeviceError, match=rf"^no NVIDIA card can be used: .*{message}"):
        probe()


def test_a_driver_without_cards_and_one_that_fails_later(fit: Any) -> None:
    fit(cards=[])
    with pytest.raises(DeviceError, match="sees no card"):
        probe()
    fit(fails="get")
    with pytest.raises(DeviceError, match=r"CUDA error 999"):
        probe()


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        (
            False,
            r"^no NVIDIA driver on this machine \(libcuda\.so\.1 is not found\); install driver 580 or newer, or use --device cpu$",
        ),
        (
            True,
            r"^the NVIDIA driver is loaded but its library libcuda\.so\.1 is not found here; in a container, start it with --gpus all",
        ),
    ],
)
def test_no_library(monkeypatch: pytest.MonkeyPatch, loaded: bool, message: str) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setattr(cards.os.path, "exists", lambda path: loaded)
    with pytest.raises(DeviceError, match=message):
        probe()


def test_release_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version:  gcc 12.2.0"
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: io.StringIO(text))
    assert cards._release() == "580.65.06"


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:12", 12)])
def test_names_of_devices(device: str, index: int) -> None:
    assert index_of(device) == index


@pytest.mark.parametrize("device", ["gpu", "", "cuda:", "cuda:-1", "cuda:a", "CUDA", "cuda:1234"])
def test_what_names_no_device(device: str) -> None:
    with pytest.raises(DeviceError, match=rf"^device '{device}' is none; give cpu, cuda, cuda:N"):
        index_of(device)


def test_advice_is_taken_away() -> None:
    assert without_advice(DeviceError("no driver; install it, or use --device cpu")) == "no driver; install it"
    assert without_advice(DeviceError("too old; use --device cpu")) == "too old"
