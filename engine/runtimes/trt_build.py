"""From a graph to a TensorRT plan, through either package. It knows tensors and architectures, not models or files.

TensorRT for RTX builds where there is no card; a plan holds kernels' recipes, which are compiled for the card that loads it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from faceembed.engine.runtimes.flavours import Flavour
from faceembed.engine.runtimes.profile import Profile
from faceembed.errors import DeviceError

BuildProgress = Callable[[str, float], None]
"""Called with the phase that TensorRT is in, and the share of the whole that is done, which only grows."""


class Fractions:
    """From TensorRT's nested phases of steps to one share of the whole. Its methods may be called from any thread."""

    def __init__(self, report: BuildProgress) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._spans: dict[str, tuple[float, float, int]] = {}  # where a phase begins, how long it is, its steps
        self._done: dict[str, int] = {}
        self._share = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins, as the step of its parent that is under way."""
        with self._lock:
            begin, length = 0.0, 1.0
            if parent in self._spans:
                first, whole, count = self._spans[parent]
                length = whole / count
                begin = first + length * min(self._done[parent], count - 1)
            self._spans[phase] = (begin, length, max(steps, 1))
            self._done[phase] = 0
            self._say(phase, begin)

    def step(self, phase: str, step: int) -> None:
        """Step number ``step``, from 0, of a phase is done."""
        with self._lock:
            if phase in self._spans:
                begin, length, steps = self._spans[phase]
                self._done[phase] = step + 1
                self._say(phase, begin + length * min(step + 1, steps) / steps)

    def finish(self, phase: str) -> None:
        """A phase is over, also where some of its steps were left out."""
        with self._lock:
            if phase in self._spans:
                begin, length, _ = self._spans.pop(phase)
                self._say(phase, begin + length)

    def _say(self, phase: str, share: float) -> None:
        self._share = max(self._share, min(share, 1.0))
        self._report(phase, self._share)


def build_plan(
    graph: bytes,
    profiles: Sequence[Profile],
    *,
    flavour: Flavour,
    targets: Sequence[str],
    progress: BuildProgress = lambda phase, share: None,
) -> bytes:
    """Build a plan.

    Args:
        graph: an ONNX file with one input, whose axes that are free are the batch and, where profiles have sides, its sides.
        profiles: the shapes; the plan takes any that one of them takes.
        flavour: the package that builds.
        targets: architectures, as in ``("sm86", "sm89")``; where the package builds for its own card only, that one.
        progress: told how far it is. What it raises ends the build and is raised here.

    Raises:
        DeviceError: TensorRT refuses the graph or fails.
    """
    trt = flavour.module
    log = make_logger(trt)
    monitor = _monitor(trt, Fractions(progress))
    builder = trt.Builder(log)
    if builder is None:
        raise DeviceError(f"{flavour.title} does not start ({log.said()})")
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise DeviceError(f"{flavour.title} cannot read the network: {_line(reasons[0]) if reasons else log.said()}")
    config = builder.create_builder_config()
    config.progress_monitor = monitor
    for profile in profiles:
        config.add_optimization_profile(_profile(builder, network.get_input(0), profile))
    if flavour.ahead_of_time:
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index)
    plan = builder.build_serialized_network(network, config)
    if monitor.stopped_by is not None:
        raise monitor.stopped_by
    if plan is None:
        raise DeviceError(f"{flavour.title} cannot build the network: {log.said()}")
    return bytes(plan)


def why_malformed(plan: bytes, flavour: Flavour) -> str:
    """Why bytes are no plan of this package and version; empty where they are, or where the package cannot tell.

    TensorRT for RTX reads a plan's header, and no more, without a card. Whether the plan will run is known on the card alone.
    """
    trt = flavour.module
    if not hasattr(trt.Runtime, "get_engine_validity"):
        return ""
    runtime = trt.Runtime(make_logger(trt))
    _, found = runtime.get_engine_validity(plan)
    wrong = trt.EngineInvalidityDiagnostics
    if int(found) & int(wrong.MALFORMED_ENGINE):
        return "damaged"
    return "made by another version" if int(found) & int(wrong.VERSION_MISMATCH) else ""


def _strongly_typed(trt: Any) -> int:
    """The flag of a network whose types are the graph's; from TensorRT 11 on every network is one."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _profile(builder: Any, given: Any, profile: Profile) -> Any:
    """TensorRT's form of a profile: each axis of the input that is free takes a batch, then sides."""
    free = [axis for axis, length in enumerate(given.shape) if length < 0]
    if len(free) != (3 if profile.sides else 1):
        raise DeviceError(f"the network's input has shape {tuple(given.shape)}, which the profile does not fit")
    shapes = []
    for which in range(3):
        shape = list(given.shape)
        shape[free[0]] = profile.batch[which]
        for axis in free[1:]:
            shape[axis] = profile.sides[which]
        shapes.append(tuple(shape))
    made = builder.create_optimization_profile()
    made.set_shape(given.name, *shapes)
    return made


def make_logger(trt: Any) -> Any:
    """A logger of TensorRT's that prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps TensorRT's errors for ours, and prints nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

        def said(self) -> str:
            return _line(self.errors[-1]) if self.errors else "it gives no reason"

    return Log()


def _monitor(trt: Any, fractions: Fractions) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Hands TensorRT's phases on. What is raised meanwhile, such as by Ctrl-C, ends the build: it may not pass through C++."""

        def __init__(self) -> None:
            super().__init__()
            self.stopped_by: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._safely(lambda: fractions.start(phase_name, parent_phase, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._safely(lambda: fractions.step(phase_name, step))
            return self.stopped_by is None

        def phase_finish(self, phase_name: str) -> None:
            self._safely(lambda: fractions.finish(phase_name))

        def _safely(self, call: Callable[[], None]) -> None:
            try:
                if self.stopped_by is None:
                    call()
            except BaseException as error:  # noqa: BLE001 - raised again by `build_plan`
                self.stopped_by = error

    return Monitor()


def _line(text: str) -> str:
    return " ".join(text.split())[:400]
