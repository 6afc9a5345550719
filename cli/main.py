"""The `faceembed` command."""

from __future__ import annotations

import click


@click.group()
def main() -> None:
    """Folders of photos into a searchable face index."""
