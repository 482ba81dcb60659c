"""HTML page of one run: results, ledger, gate, training history, configuration and samples. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.compute.ledger import ADAPTATION
from bench.records.rows import GateLook, Row
from bench.records.samples import Sample
from bench.records.schema import Result
from bench.stats import Estimate
from reports.html.analysis import NONE, Analyses, analysis_sections, ledger_plot
from reports.html.coverage import coverage_sections
from reports.html.page import render
from reports.html.population import gate_plot, sections
from reports.html.table import Heading, HtmlCell, HtmlTable, interval, percent, whiskers
from reports.run.history import MethodDecision, configuration, gate_summary, gates
from reports.run.summary import (
    lost_moves,
    named_rows,
    noise_shares,
    origin,
    row_name,
    run_title,
    spent,
    statements,
    trials,
)

SHOWN = 8
"""Maximum number of samples shown per kind and row."""
KINDS = (
    ("Fixes: base wrong, this run right", False, True),
    ("Regressions: base right, this run wrong", True, False),
    ("Both right", True, True),
    ("Both wrong", False, False),
)
"""Kinds of samples: heading, whether the base's answer is correct, whether this run's is."""


LONGEST = 4000
"""Number of characters after which an answer is cut off on the page. Answers may have millions."""


@dataclass(frozen=True)
class Cut:
    """Beginning of a text.

    Attributes:
        text: At most `LONGEST` characters.
        more: Number of characters left out.
    """

    text: str
    more: int


@dataclass(frozen=True)
class ShownSample:
    """Answers to one test item.

    Attributes:
        id: Id of the item.
        now: The artifact's answer.
        before: The base's answer.
        detail: Detail from the scorer on the artifact's answer.
        question: Prompt that the base answered; empty if it is not known.
        gold: Reference answer; empty if the task has none, or it is not known.
    """

    id: str
    now: Cut
    before: Cut
    detail: Cut
    question: Cut
    gold: Cut


@dataclass(frozen=True)
class SampleKind:
    """Answers of one kind.

    Attributes:
        heading: Name of the kind.
        total: Number of items of this kind.
        shown: The answers to the first `SHOWN` of them.
    """

    heading: str
    total: int
    shown: tuple[ShownSample, ...]

    @property
    def is_cut(self) -> bool:
        """Whether an answer is not shown in full."""
        parts = (each for s in self.shown for each in (s.now, s.before, s.question, s.gold))
        return any(part.more for part in parts)


def run_page(
    result: Result, samples: Sequence[Sample] = (), analyses: Analyses = NONE, *, board: str = "", raw: str = ""
) -> str:
    """Return the page of a run.

    Args:
        result: Result of a finished run.
        samples: Test answers of the run; empty if they are not available.
        analyses: Results of `bench analyze` for the run.
        board: Address of the leaderboard page, for a link back; empty for no link.
        raw: Address of the run's samples.jsonl, for a link from answers that are cut off; empty for no link.
    """
    rows = named_rows(result)
    looks = gates(result.report)
    return render(
        "run.html",
        title=run_title(result.config),
        result=result,
        board=board,
        accuracies=_accuracies(rows) if rows else None,
        statements=[
            *origin(result),
            *statements(rows),
            *noise_shares(result.report),
            *lost_moves(result),
            *trials(result.tuning),
        ],
        untested={f"{result.config.method} {label}".strip(): why for label, why in result.untested.items()},
        ledger=_ledger(result) if result.ledger else None,
        compute=ledger_plot(result.ledger) if result.ledger else None,
        spent=spent(result.budget) if result.budget else "",
        gated=_gated(result) if result.gated else None,
        looks=_looks(looks) if looks else None,
        gate=gate_plot(looks),
        gate_summary=list(gate_summary(result.report)),
        sections=[*coverage_sections(rows), *sections(result.report), *analysis_sections(analyses)],
        configuration=configuration(result),
        config=result.config.model_dump_json(indent=1),
        samples=sample_kinds(result, samples),
        raw=raw,
    )


def _accuracies(rows: Sequence[tuple[str, Row]]) -> HtmlTable:
    shown = [(name, row.accuracy, row.cost) for name, row in rows]
    estimates = [Estimate(a.accuracy, a.low, a.high) for _, a, _ in shown]
    drawn = whiskers(estimates, estimates[0].value)  # the first row is the base's
    highest = max(cost.flops for _, _, cost in shown) or 1.0
    headings = (
        Heading("row", number=False, head=True),
        Heading("accuracy", descending=True),
        Heading("95 % intervals", number=False, sortable=False, drawn=True),
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
    seconds = result.timing.accounts if result.timing else {}
    headings = (
        Heading("account", number=False, head=True),
        Heading("FLOPs", descending=True),
        Heading("of the budget", descending=True),
        Heading("evaluations", descending=True),
        Heading("prompt tokens", descending=True),
        Heading("new tokens", descending=True),
        Heading("tokens in training", descending=True),
        Heading("backward passes", descending=True),
        Heading("weight moves", descending=True),
        Heading("noise values", descending=True),
        Heading("seconds", descending=True),
    )
    cells = []
    for name, row in result.ledger.items():
        billed = name in ADAPTATION
        share = row.flops / limit if limit and billed else None
        work = row.work
        answered = (work.evaluations, work.prefill_tokens, work.decode_tokens)
        counts = (*answered, work.forward_tokens, work.backward_passes, work.weight_moves)
        cells.append(
            (
                HtmlCell(name, name),
                HtmlCell(f"{row.flops:.3g}", float(row.flops), bar=row.flops / most, faint=not billed),
                HtmlCell("not billed" if share is None else percent(share), share),
                *(HtmlCell(f"{count:,}", float(count)) for count in counts),
                HtmlCell(f"{work.noise_values:.3g}", float(work.noise_values)),
                HtmlCell("" if name not in seconds else f"{seconds[name]:,.1f}", seconds.get(name)),
            )
        )
    return HtmlTable("Ledger by account; accounts outside the budget have a grey bar", headings, tuple(cells))


def _gated(result: Result) -> HtmlTable:
    """Return the looks of the harness's gate, with the decision after the last look of each row."""
    headings = (
        Heading("row", number=False, head=True),
        Heading("items"),
        Heading("fixes"),
        Heading("regressions"),
        Heading("fixes needed"),
        Heading("decision", number=False, sortable=False),
    )
    cells: list[tuple[HtmlCell, ...]] = []
    for row in result.gated:
        assert row.gate is not None
        name = row_name(result, row)
        looks = row.gate.looks or (GateLook(items=0, fixes=0, regressions=0, needed=None),)
        for number, look in enumerate(looks, start=1):
            cells.append(
                (
                    HtmlCell(name, name),
                    *(_number(count, "") for count in (look.items, look.fixes, look.regressions, look.needed)),
                    HtmlCell(row.gate.reason if number == len(looks) else ""),
                )
            )
    return HtmlTable("Looks of the harness's gate", headings, tuple(cells))


def _looks(looks: Sequence[MethodDecision]) -> HtmlTable:
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
    return HtmlTable("Decisions of the method, in the order of the run", headings, cells)


def _number(value: float | None, form: str) -> HtmlCell:
    return HtmlCell() if value is None else HtmlCell(format(value, form), float(value))


def sample_kinds(result: Result, samples: Iterable[Sample]) -> list[SampleKind]:
    """Group the answers of each artifact by their verdict and the base's on the same item."""
    by_row: dict[int, dict[str, Sample]] = {}
    for sample in samples:
        by_row.setdefault(sample.row, {})[sample.id] = sample
    base, found = by_row.get(0, {}), []
    for number, row in enumerate(result.rows):
        if row.kind != "method":
            continue
        pairs = [(base[i], sample) for i, sample in by_row.get(number, {}).items() if i in base]
        verdicts = [(before.correct, now.correct) for before, now in pairs]
        kinds = [(name, [p for p, v in zip(pairs, verdicts, strict=True) if v == (b, n)]) for name, b, n in KINDS]
        kinds.append(("Not judged", [p for p, v in zip(pairs, verdicts, strict=True) if None in v]))
        label = f"{row.label}: " if row.label else ""
        found += [
            SampleKind(label + name, len(kind), tuple(_shown(*p) for p in kind[:SHOWN])) for name, kind in kinds if kind
        ]
    return found


def _shown(base: Sample, sample: Sample) -> ShownSample:
    texts = (sample.text, base.text, sample.detail, base.question, base.gold or "")
    return ShownSample(sample.id, *map(_cut, texts))


def _cut(text: str) -> Cut:
    return Cut(text[:LONGEST], max(0, len(text) - LONGEST))
