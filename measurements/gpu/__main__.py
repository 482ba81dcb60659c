"""Check what only a GPU can show, in at most eight minutes and without a network: `python -m measurements.gpu`.

The model has random weights of the shape of Qwen2.5-0.5B, which are made on the spot. The file is written after every
section, so that an interrupted check leaves those that have ended.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from bench.errors import BenchError
from bench.records.files import write_atomically
from measurements.gpu.report import as_markdown, load, show
from measurements.gpu.runner import SECTIONS, check
from measurements.gpu.shapes import SHAPES


@click.command(help=__doc__)
@click.option("--device", default="cuda", show_default=True, help="Torch device.")
@click.option("--shape", type=click.Choice(list(SHAPES)), default="0.5b", show_default=True, help="Shape of the model.")
@click.option(
    "--only", multiple=True, type=click.Choice([each.name for each in SECTIONS[1:]]), help="Section to run; repeatable."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default="gpu.json", show_default=True)
@click.option("--report", type=click.Path(path_type=Path), help="Print the tables of this file in Markdown, and end.")
def main(device: str, shape: str, only: Sequence[str], output: Path, report: Path | None) -> None:
    """Run the check, or print a report."""
    try:
        if report is not None:
            click.echo(as_markdown(load(report)))
            return
        from bench.run.prepare import resolved_device

        planned = [each for each in SECTIONS if not only or each.name in ("model", *only)]
        found = check(
            resolved_device(device),
            shape,
            planned,
            lambda so_far: write_atomically(output, so_far.model_dump_json(indent=2) + "\n"),
        )
        show(found)
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(any(section.state == "failed" for section in found.sections))


if __name__ == "__main__":
    main()
