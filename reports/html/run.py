"""HTML page of one run: results, ledger, gate, training history, configuration and samples. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.compute.ledger import ADAPTATION
from bench.records.schema import Accuracy, AnswerCost, Result, Row, Sample
from bench.stats import Estimate
from reports.html.analysis import NONE, Analyses, analysis_sections, ledger_plot
from reports.html.page import render
from reports.html.population import GateLook, gate_plot, read_gates, sections
from reports.html.table import Heading, HtmlCell, HtmlTable, interval, percent, whiskers
from reports.run.history import configuration, gate_summary
from reports.run.summary import comparison, coverages, named_rows, run_title, spent

SHOWN = 8
"""Maximum number of samples shown per kind and row."""
KINDS = (
    ("Fixes: base wrong, this run right", False, True),
    ("Regressions: base right, this run wrong", True, False),
    ("Both right", True, True),
    ("Both wrong", False, False),
)
"""Kinds of samples: heading, whether the base's answer is correct, whether this run's is."""


@dataclass(frozen=True)
class Samples:
    """Samples of one kind.

    Attributes:
        heading: Name of the kind.
        total: Number of samples of this kind.
        shown: The first `SHOWN` of them.
    """

    heading: str
    total: int
    shown: tuple[Sample, ...]


def run_page(result: Result, samples: Sequence[Sample] = (), analyses: Analyses = NONE, *, board: str = "") -> str:
    """Return the page of a run.

    Args:
        result: Result of a finished run.
        samples: Test answers of the run; empty if they are not available.
        analyses: Results of `bench analyze` for the run.
        board: Address of the leaderboard page, for a link back; empty for no link.
    """
    rows = named_rows(result)
    looks = read_gates(result.report)
    return render(
        "run.html",
        title=run_title(result.config),
        result=result,
        board=board,
        accuracies=_accuracies(result, rows) if result.base and result.base_cost else None,
        statements=[comparison(name, row) for name, row in rows if result.config.method != "base"]
        + coverages(result, rows),
        refused={f"{result.config.method} {label}".strip(): why for label, why in result.refused.items()},
        ledger=_ledger(result) if result.ledger else None,
        compute=ledger_plot(result.ledger) if result.ledger else None,
        spent=spent(result.budget) if result.budget else "",
        looks=_looks(looks) if looks else None,
        gate=gate_plot(looks),
        gate_summary=list(gate_summary(result.report)),
        sections=[*sections(result.report), *analysis_sections(analyses)],
        configuration=configuration(result),
        config=result.config.model_dump_json(indent=1),
        samples=[kind for row in result.rows for kind in _kinds(row.label, samples)],
    )


def _accuracies(result: Result, rows: Sequence[tuple[str, Row]]) -> HtmlTable:
    assert result.base
    assert result.base_cost
    shown: list[tuple[str, Accuracy, AnswerCost]] = [("base", result.base, result.base_cost)]
    shown += [(name, row.accuracy, row.cost) for name, row in rows if result.config.method != "base"]
    estimates = [Estimate(a.accuracy, a.low, a.high) for _, a, _ in shown]
    drawn = whiskers(estimates, result.base.accuracy)
    highest = max(cost.flops for _, _, cost in shown) or 1.0
    headings = (
        Heading("row", number=False, head=True),
        Heading("accuracy", descending=True),
        Heading("95 % intervals", number=False, sortable=False),
        Heading("correct"),
        Heading("not judged"),
        Heading("passes per answer"),
        Heading("new tokens per answer"),
        Heading("FLOPs per answer"),
    )
    cells = tuple(
        (
            HtmlCell(name, name),
            HtmlCell(percent(a.accuracy), a.accuracy, interval(a.low, a.high)),
            HtmlCell(whisker=whisker),
            HtmlCell(f"{a.correct} of {a.items}", float(a.correct)),
            HtmlCell(str(a.excluded), float(a.excluded)),
            HtmlCell(f"{cost.evaluations:g}", cost.evaluations),
            HtmlCell(f"{cost.new_tokens:.1f}", cost.new_tokens),
            HtmlCell(f"{cost.flops:.3g}", cost.flops, bar=cost.flops / highest),
        )
        for (name, a, cost), whisker in zip(shown, drawn, strict=True)
    )
    return HtmlTable("Accuracy on the test items, and cost per answer", headings, cells)


def _ledger(result: Result) -> HtmlTable:
    limit = result.budget.flops if result.budget else 0
    most = max(row.flops for row in result.ledger.values()) or 1
    headings = (
        Heading("account", number=False, head=True),
        Heading("FLOPs", descending=True),
        Heading("of the budget", descending=True),
        Heading("evaluations", descending=True),
        Heading("prompt tokens", descending=True),
        Heading("new tokens", descending=True),
        Heading("weight moves", descending=True),
    )
    cells = []
    for name, row in result.ledger.items():
        billed = name in ADAPTATION
        share = row.flops / limit if limit and billed else None
        work = row.work
        counts = (work.evaluations, work.prefill_tokens, work.decode_tokens, work.weight_moves)
        cells.append(
            (
                HtmlCell(name, name),
                HtmlCell(f"{row.flops:.3g}", float(row.flops), bar=row.flops / most, faint=not billed),
                HtmlCell("not billed" if share is None else percent(share), share),
                *(HtmlCell(f"{count:,}", float(count)) for count in counts),
            )
        )
    return HtmlTable("Ledger by account; accounts outside the budget have a grey bar", headings, tuple(cells))


def _looks(looks: Sequence[GateLook]) -> HtmlTable:
    headings = (
        Heading("stage", number=False, head=True),
        Heading("kept", number=False),
        Heading("fixes"),
        Heading("regressions"),
        Heading("gain", descending=True),
        Heading("p"),
        Heading("level"),
        Heading("reason", number=False, sortable=False),
    )
    cells = tuple(
        (
            HtmlCell(gate.stage, float(number)),
            HtmlCell("yes" if gate.accepted else "no", float(gate.accepted)),
            _number(gate.fixes, ""),
            _number(gate.regressions, ""),
            HtmlCell() if gate.gain is None else HtmlCell(f"{100 * gate.gain:+.1f}", gate.gain),
            _number(gate.p_value, ".3g"),
            _number(gate.level, ".3g"),
            HtmlCell(gate.reason),
        )
        for number, gate in enumerate(looks)
    )
    return HtmlTable("Gate decisions, in the order of the run", headings, cells)


def _number(value: float | None, form: str) -> HtmlCell:
    return HtmlCell() if value is None else HtmlCell(format(value, form), float(value))


def _kinds(label: str, samples: Iterable[Sample]) -> list[Samples]:
    mine = [sample for sample in samples if sample.row == label]
    found = []
    for name, base, now in KINDS:
        members = [sample for sample in mine if (sample.base_correct, sample.correct) == (base, now)]
        if members:
            heading = f"{label}: {name}" if label else name
            found.append(Samples(heading, len(members), tuple(members[:SHOWN])))
    unjudged = [sample for sample in mine if sample.correct is None or sample.base_correct is None]
    return found + (
        [Samples(f"{label}: not judged".removeprefix(": "), len(unjudged), tuple(unjudged[:SHOWN]))] if unjudged else []
    )
