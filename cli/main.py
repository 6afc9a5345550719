"""The `faceembed` command. Its subcommands import what they need when they run: help loads no numpy, runtime or torch."""

from __future__ import annotations

import os

import click

from faceembed.cli.attack import attack
from faceembed.cli.bench import bench
from faceembed.cli.build_engine import build_engine
from faceembed.cli.cluster import cluster
from faceembed.cli.compare import compare
from faceembed.cli.data import data
from faceembed.cli.doctor import doctor
from faceembed.cli.embed import embed
from faceembed.cli.evaluate import evaluate
from faceembed.cli.explain import explain
from faceembed.cli.export import export
from faceembed.cli.gallery import enrol, gallery
from faceembed.cli.group import Program
from faceembed.cli.identify import identify
from faceembed.cli.index import index
from faceembed.cli.libraries import keep_at_home, keep_small, sleep_soon
from faceembed.cli.matrix import matrix
from faceembed.cli.models import models
from faceembed.cli.project import project
from faceembed.cli.regions import regions, write_names
from faceembed.cli.relocate import relocate
from faceembed.cli.remove import remove
from faceembed.cli.search import search
from faceembed.cli.serve import serve
from faceembed.cli.status import status
from faceembed.cli.train import train
from faceembed.cli.vectors import export_vectors, import_vectors
from faceembed.cli.verify import verify
from faceembed.cores import thread_limits
from faceembed.version import __version__


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="faceembed")
def main() -> None:
    """Folders of photos into a searchable face index, at the speed of the hardware.

    \b
    Example:
        faceembed embed photos -o people.faiss
        faceembed search people.faiss query.jpg
    """
    keep_at_home()
    keep_small()
    sleep_soon()
    for name, value in thread_limits().items():  # before a library is loaded that reads them
        os.environ.setdefault(name, value)


for _command in (
    embed,
    search,
    verify,
    matrix,
    enrol,
    identify,
    gallery,
    cluster,
    regions,
    write_names,
    project,
    remove,
    relocate,
    status,
    index,
    export_vectors,
    import_vectors,
    evaluate,
    compare,
    bench,
    build_engine,
    doctor,
    models,
    data,
    explain,
    attack,
    export,
    train,
    serve,
):
    main.add_command(_command)
