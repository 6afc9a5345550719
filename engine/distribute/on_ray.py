"""The seam filled by Ray Core: one actor a node, which has all of its cores and reads its photos itself.

    with on_ray("auto")(job, tasks, notice) as run: ...

Through Ray go names of shards and what became of them, never pixels: Ray Data, which moves the bytes, took twice the processor time
(64 s where this took 38 and one process 32, 13,233 photos). An actor that ends costs the shards that it had not put into the store. Its
first unfinished shard is tried once more alone; if that ends the process again, halves of its photos are tried until the photos are
found that do, and these become rows of the errors. What is tried again is counted, so that nothing is tried for ever.
"""

from __future__ import annotations

import collections
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from faceembed.cores import available_cores
from faceembed.engine.distribute.dataset import read_footer
from faceembed.engine.distribute.plan import Task, members
from faceembed.engine.distribute.seam import Executor
from faceembed.engine.distribute.store import Store
from faceembed.engine.distribute.worker import Done, Job, Worker
from faceembed.errors import DeviceError, FaceEmbedError, UsageError
from faceembed.install import pip_install

_LEAST = (2, 40)  # of Ray: streaming results of actors
_AT_ONCE = 8  # shards that an actor is given in one go
_SUSPECT = 2  # ends of a process at one shard, from which on its photos are looked at
_GIVEN_UP = 4  # such looks that found nothing
_STARTS = 3  # of an actor on a node, none of which finished a shard
_START_SECONDS = 180  # that Ray's own processes may take on a busy machine; its default is 30
_LOOK_SECONDS = 10.0  # after which nodes that have joined are looked for
_OBJECT_STORE = 80 << 20  # bytes, Ray's least: names alone go through it
_DEADLY = "ends the process that reads it; it was left out"


def on_ray(address: str, *, worker: type[Worker] = Worker) -> Executor:
    """An executor.

    Args:
        address: ``local`` starts Ray on this machine alone, ``auto`` joins the cluster that this machine is in, else a cluster's address.
        worker: what computes in each actor.
    """

    @contextlib.contextmanager
    def execute(job: Job, tasks: Sequence[Task], notice: Callable[[str], None]) -> Iterator[Iterator[Done]]:
        ray = joined(address)
        try:
            yield _Run(ray.module, job, tasks, notice, worker).run()
        finally:
            if ray.ours:
                ray.module.shutdown()

    return execute


class Joined(NamedTuple):
    """Ray, started or joined."""

    module: Any
    ours: bool
    """Whether to leave it at the end: not where a program had it running."""


def joined(address: str) -> Joined:
    """Ray, silent; as it is where this program has it running.

    Raises:
        UsageError: it is not installed, or too old.
        DeviceError: there is no such cluster, or it is of another version.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # on by default: it would send
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # 15 by default: beside anything else, the work that is waited for stands still
    os.environ.setdefault("RAY_raylet_start_wait_time_s", str(_START_SECONDS))
    try:
        import ray  # optional: what [ray] installs
    except ImportError as error:
        raise UsageError(f"--ray needs Ray: {pip_install('ray')}") from error
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < _LEAST:
        wanted = ".".join(map(str, _LEAST))
        raise UsageError(f"Ray {ray.__version__} is too old, --ray needs {wanted} or newer: {pip_install('ray')}")
    if ray.is_initialized():
        return Joined(ray, ours=False)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address == "local":  # without it Ray joins whatever a file of an older cluster names
        options |= {
            "num_cpus": available_cores(),
            "object_store_memory": _OBJECT_STORE,
            "include_dashboard": False,
        }
    try:
        ray.init(address=address, **options)
    except Exception as error:  # of many kinds, some of which are nothing more
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise DeviceError(
            f"--ray {address}: Ray cannot be reached ({reason}); start one (`ray start --head`) or use --ray local"
        ) from error
    return Joined(ray, ours=True)


class _Actor:
    """A `Worker` in a process of its own. It says what is wrong as data: Ray would wrap an error in its own."""

    def __init__(self, job: Job, kind: type[Worker]) -> None:
        self._said: list[str] = []
        self._worker: Worker | None = None
        self._kind = kind
        self._job = job

    def start(self) -> tuple[str, str, list[str]]:
        """Node, precision and what was said on the way; the last is an error where there is no precision."""
        try:
            self._worker = self._kind(self._job, notice=self._said.append)
        except FaceEmbedError as error:
            return "", "", [str(error)]
        return self._worker.node, self._worker.precision, self._said

    def run(self, tasks: list[Task], skip: dict[str, str]) -> Iterator[Done | str]:
        """Each shard when it is in the store; a text is an error that ends the run."""
        assert self._worker is not None
        try:
            yield from self._worker.run(tasks, skip=skip)
        except (FaceEmbedError, OSError) as error:
            yield str(error)

    def probe(self, task: Task, paths: list[str]) -> bool:
        """Compute and keep nothing."""
        assert self._worker is not None
        self._worker.probe(task, paths)
        return True


class _Node:
    """A node's actor, and what it is at."""

    def __init__(self, number: str, resources: dict[str, float]) -> None:
        self.number, self.resources = number, resources
        self.actor: Any = None
        self.starting: Any = None
        self.results: Any = None
        self.tasks: list[Task] = []
        self.starts = 0
        self.left_alone = False


class _Run:
    """Gives shards to nodes until none is left."""

    def __init__(
        self, ray: Any, job: Job, tasks: Sequence[Task], notice: Callable[[str], None], worker: type[Worker]
    ) -> None:
        self._worker = worker
        self._ray, self._job, self._notice = ray, job, notice
        self._store = Store.of(job.output, job.access)
        self._tasks = tasks
        self._next = 0
        self._again: collections.deque[Task] = collections.deque()
        self._ends: collections.Counter[str] = collections.Counter()
        self._looks: collections.Counter[str] = collections.Counter()
        self._skip: dict[str, str] = {}
        self._nodes: dict[str, _Node] = {}
        self._precisions: dict[str, str] = {}

    def run(self) -> Iterator[Done]:
        """Each shard once, when it is in the store."""
        while True:
            self._look_for_nodes()
            for node in self._nodes.values():
                idle = node.results is None and node.starting is None and not node.left_alone
                if idle and (tasks := self._take()):
                    self._give(node, tasks)
            busy = {
                node.results or node.starting: node for node in self._nodes.values() if node.results or node.starting
            }
            if not busy:
                if self._next < len(self._tasks) or self._again:
                    raise DeviceError(
                        "no node of the Ray cluster is left to compute on; what is done is kept, run it again"
                    )
                return
            ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=_LOOK_SECONDS)
            for ref in ready:
                yield from self._heard(busy[ref])

    def _take(self) -> list[Task]:
        if self._again:  # alone: whose fault an end is must be clear
            return [self._again.popleft()]
        left = len(self._tasks) - self._next
        count = min(
            _AT_ONCE, max(1, left // (2 * max(1, len(self._nodes))))
        )  # smaller towards the end, for all to end together
        taken = [self._tasks[at] for at in range(self._next, self._next + min(count, left))]
        self._next += len(taken)
        return taken

    def _look_for_nodes(self) -> None:
        """An actor on every node that has come; none on those that have gone."""
        alive = {
            n["NodeID"]: n["Resources"] for n in self._ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1
        }
        for number, resources in alive.items():
            if number not in self._nodes:
                self._nodes[number] = _Node(number, resources)
        for number in [
            number
            for number, node in self._nodes.items()
            if number not in alive and not (node.results or node.starting)
        ]:
            del self._nodes[number]

    def _give(self, node: _Node, tasks: list[Task]) -> None:
        node.tasks = tasks
        if node.actor is None:
            self._start(node)
        else:
            node.results = node.actor.run.options(num_returns="streaming").remote(tasks, self._skip_of(tasks))

    def _skip_of(self, tasks: Sequence[Task]) -> dict[str, str]:
        return self._skip if any(self._looks[task.shard] for task in tasks) else {}

    def _start(self, node: _Node) -> None:
        """A new actor, with all that the node has."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # optional: what [ray] installs

        node.starts += 1
        kind = self._ray.remote(
            num_cpus=int(node.resources["CPU"]),
            num_gpus=int(node.resources.get("GPU", 0)),
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.number, soft=False),
        )(_Actor)
        node.actor = kind.remote(self._job, self._worker)
        node.starting = node.actor.start.remote()

    def _heard(self, node: _Node) -> Iterator[Done]:
        """What a node has to say: that it has started, a shard, or that its process has ended."""
        try:
            if node.starting is not None:
                self._welcome(node, *self._ray.get(node.starting))
                return
            try:
                said = self._ray.get(next(node.results))
            except StopIteration:
                node.results, node.tasks = None, []
                return
            if isinstance(said, str):
                raise DeviceError(f"{said}; what is done is kept, run it again")
            node.starts = 0
            node.tasks = [task for task in node.tasks if task.shard != said.task.shard]
            yield said
        except self._ray.exceptions.RayError as error:
            yield from self._ended(node, error)

    def _welcome(self, node: _Node, name: str, precision: str, said: list[str]) -> None:
        node.starting = None
        if not precision:
            raise DeviceError(said[-1])
        if not self._precisions:
            for line in said:
                self._notice(line)
        elif precision not in self._precisions.values():  # nobody sees what a node prints
            self._notice(
                f"{name} computes in {precision}, {next(iter(self._precisions))} in {next(iter(self._precisions.values()))}: {said[-1]}"
            )
        self._precisions[name] = precision
        self._give(node, node.tasks)

    def _ended(self, node: _Node, error: Exception) -> Iterator[Done]:
        """A node's process has ended, or the node has."""
        if isinstance(error, self._ray.exceptions.RayTaskError):  # a fault of ours, not an end
            raise DeviceError(f"a worker failed: {str(error).strip().splitlines()[-1][:300]}") from error
        tasks, was_starting = node.tasks, node.starting is not None
        node.actor = node.starting = node.results = None
        node.tasks = []
        left: list[Task] = []
        for task in tasks:
            footer = read_footer(self._store, task.shard) if not was_starting else None
            if footer is not None and footer.photos == task.photos:  # put there, and no time to say so
                yield Done(task, footer, 0.0, node.number)
            else:
                left.append(task)
        if node.starts >= _STARTS:
            self._notice(f"node {node.number[:8]} is left alone: {_STARTS} workers ended there before a shard was done")
            node.left_alone = True
            self._again.extendleft(reversed(left))
            if all(other.left_alone for other in self._nodes.values()):
                raise DeviceError(
                    f"workers end on every node before a shard is done ({str(error).splitlines()[0][:160]}); what is done is kept"
                )
            return
        if left and not was_starting:
            self._ends[left[0].shard] += 1
            if self._ends[left[0].shard] >= _SUSPECT:
                self._find_deadly(node, left[0])
        self._again.extendleft(reversed(left))

    def _find_deadly(self, node: _Node, task: Task) -> None:
        """Try halves of a shard's photos until those are known that end a process, twice each."""
        self._ends[task.shard] = 0
        self._looks[task.shard] += 1
        paths = [photo.path for photo in members(self._store, task) if photo.path not in self._skip]
        found = 0
        parts = [paths[: len(paths) // 2], paths[len(paths) // 2 :]]
        while parts:
            part = parts.pop()
            if not part or self._survives(node, task, part):
                continue
            if len(part) > 1:
                parts += [part[: len(part) // 2], part[len(part) // 2 :]]
            elif not self._survives(node, task, part):
                found += 1
                self._skip[part[0]] = _DEADLY
        if not found and self._looks[task.shard] >= _GIVEN_UP:
            raise DeviceError(
                f"shard {task.shard} ended its process {_GIVEN_UP * _SUSPECT} times, and no single photo of it does: is there too little memory?"
            )
        node.starts = 0

    def _survives(self, node: _Node, task: Task, paths: list[str]) -> bool:
        try:
            if node.actor is None:
                self._start(node)
                starting, node.starting = node.starting, None
                self._ray.get(starting)
            return bool(self._ray.get(node.actor.probe.remote(task, paths)))
        except self._ray.exceptions.RayActorError:
            node.actor = None
            return False
