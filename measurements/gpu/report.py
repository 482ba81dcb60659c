"""Report of a check as tables, for a terminal and for the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from bench.console import PlainConsole, PlainTable
from bench.errors import usage_error
from bench.plain import markdown, sentence
from bench.records.files import read
from measurements.gpu.schema import Report, Section


def load(path: Path) -> Report:
    """Read a report.

    Raises:
        UsageError: If the file is no report. The message names the field.
    """
    try:
        return Report.model_validate_json(read(path))
    except ValidationError as error:
        raise usage_error(str(path), error, Report) from error


def show(report: Report) -> None:
    """Print a report."""
    tables = [
        PlainTable(["section", "state", "seconds", "checks", "reason"], left=["section", "state", "reason"]),
        PlainTable(["section", "figure", "value"], left=["section", "figure"]),
    ]
    for table, rows in zip(tables, (sections(report), figures(report)), strict=True):
        for row in rows:
            table.add_row(*row)
    console = PlainConsole()
    console.print(sentence(machine(report)), soft_wrap=True)
    console.print(*(table for table in tables if table.rows), sep="\n")


def as_markdown(report: Report) -> str:
    """Return a report as text and tables in Markdown."""
    tables = (
        (("section", "state", "seconds", "checks", "reason"), sections(report)),
        (("section", "figure", "value"), figures(report)),
    )
    parts = [markdown(sentence(machine(report)))]
    for headings, rows in tables:
        lines = [headings, ["---"] * len(headings), *([markdown(sentence(cell)) for cell in row] for row in rows)]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def machine(report: Report) -> str:
    """Return where and how the check ran, in one line."""
    at = report.machine
    packages = ", ".join(f"{name} {version}" for name, version in at.packages.items() if version)
    cuda = f", CUDA {at.cuda}" if at.cuda else ""
    waiting = f"; interrupted, {report.waiting} sections are missing" if report.waiting else ""
    return (
        f"{at.device}: {at.name}, {at.memory / 1e9:.0f} GB, {at.cores} cores, Python {at.python}{cuda}, {packages}; "
        f"shape {report.shape}, {report.seconds:.0f} s, begun {report.begun}{waiting}"
    )


def sections(report: Report) -> Iterator[tuple[str, ...]]:
    for section in report.sections:
        yield section.name, section.state, f"{section.seconds:.1f}", checks(section), section.reason or ""


def checks(section: Section) -> str:
    return f"{sum(section.checks.values())} of {len(section.checks)} true" if section.checks else "none"


def figures(report: Report) -> Iterator[tuple[str, ...]]:
    for section in report.sections:
        for name, value in section.figures.items():
            yield section.name, name, f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
