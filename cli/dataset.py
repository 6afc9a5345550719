"""The options of datasets and object stores, and `embed` into a dataset."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import click

from faceembed.cli.options import Decorator, a_place, collected
from faceembed.cli.reporter import clock, per_second

if TYPE_CHECKING:
    from faceembed.engine.distribute.store import Access
    from faceembed.engine.verbs.embed_dataset import DatasetReport


@dataclasses.dataclass(frozen=True)
class DatasetOptions:
    """The values of `access_options`."""

    endpoint_url: str | None
    anonymous: bool

    def access(self) -> Access:
        """How object stores are reached."""
        from faceembed.engine.distribute.store import Access

        return Access(self.endpoint_url or "", self.anonymous)


_ACCESS: tuple[Decorator, ...] = (
    click.option("--endpoint-url", metavar="URL", help="Of a store that speaks S3 elsewhere than at Amazon's."),
    click.option("--anonymous", is_flag=True, help="Reach object stores without credentials."),
)


def is_dataset(output: str) -> bool:
    """Whether an output is a dataset's by its name, or by what lies there."""
    return output.endswith(("/", os.sep)) or "://" in output or os.path.exists(os.path.join(output, "manifest.json"))


def index_or_dataset(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse what can be neither."""
    if value and "://" in value and value.endswith(".faiss"):
        place = value.removesuffix(".faiss")
        raise click.BadParameter(
            f"{value} is an address, where a dataset can lie but no index; write -o {place} and then: faceembed index {place} -o people.faiss"
        )
    return value if value and is_dataset(value) else a_place(ctx, param, value)


def access_options(command: Any) -> Any:
    """Add the options of object stores; the command receives them as ``access``."""
    return collected(command, _ACCESS, DatasetOptions, "access")


def summary(report: DatasetReport) -> str:
    """What a run into a dataset did."""
    pace = f" in {clock(report.seconds)} ({per_second(report.images_per_second)})" if report.embedded else " to embed"
    lines = [f"{report.embedded:,} photos{pace}" + (f", {report.skipped:,} done before" if report.skipped else "")]
    lines.append(f"{report.faces:,} faces in {report.shards:,} shards of {report.dataset}")
    if report.dropped:
        lines.append(f"{report.dropped:,} shards of before were replaced or are gone")
    if len(report.precisions) > 1:
        lines.append(
            "shards by precision: " + ", ".join(f"{count:,} {name}" for name, count in report.precisions.items())
        )
    if report.no_face or report.failed:
        lines.append(
            f"{report.no_face:,} photos without a face, {report.failed:,} failed: see {report.dataset.rstrip('/')}/errors"
        )
    return "\n".join(lines)
