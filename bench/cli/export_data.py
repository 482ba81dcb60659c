"""`bench export-data`: write finished runs as parquet files."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import json_option, left_out, output_json, say
from bench.cli.outputs import ExportDataOutput, ExportedTable
from bench.cli.paths import Place


@click.command("export-data")
@click.argument("runs", nargs=-1, type=Place(exists=True))
@click.option("-o", "--output", type=Place(file_okay=False), required=True, metavar="DIR", help="Folder to write to.")
@json_option
def export_data(runs: tuple[Path, ...], output: Path, as_json: bool) -> int:
    """Write finished runs as parquet files, one for each table.

    docs/data-frames.md lists the tables and their columns. `bench.read` in Python returns the same as pandas
    DataFrames.
    RUNS are run directories, record files, or folders of these. Default: `runs`. Existing files of the same names are
    replaced, and other files in the folder are kept. A run that cannot be read is named and left out, and the exit
    status is then 1.
    """
    from bench.amounts import counted
    from reports import frames

    found = frames.read(runs or (Path("runs"),))
    paths = frames.write(found, output)
    tables = tuple(
        ExportedTable(name=name, path=str(path), lines=len(found.tables[name]), bytes=path.stat().st_size)
        for name, path in paths.items()
    )
    if as_json:
        output_json(ExportDataOutput(tables=tables, unfinished=found.unfinished, unreadable=found.unreadable))
    else:
        for table in tables:
            say(f"{table.path}: {counted(table.lines, 'line')}, {table.bytes / 1e6:.2f} MB")
        if found.unfinished:
            say(f"left out {len(found.unfinished)} unfinished: {', '.join(found.unfinished)}", err=True)
    return left_out(found.unreadable)
