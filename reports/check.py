"""Check of a record against itself: what its numbers say of one another.

A record is a function of a few of its parts: its id follows from its configuration, its counts from its verdicts, its
FLOPs from its raw counts and the model's shape. `check_record` computes them again. Of pass@k it checks the costs and
the bounds alone (see `_coverage`). A record that was edited in one
place is refused. A record that was made up as a whole, with all its parts in agreement, is not: that a run took place
cannot be seen in a record alone. See docs/trust.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.compute.budget import parse_budget
from bench.compute.ledger import ADAPTATION, Account, Work
from bench.errors import BenchError, UsageError, shown
from bench.records import pricing
from bench.records.derived import accuracy_of, comparison_of
from bench.records.rows import GateRecord, Row
from bench.records.schema import BudgetInfo, Result
from bench.records.source import DeclaredSource
from bench.records.tuning import DECLARED
from bench.run.run_id import run_id
from bench.stats import PairedCounts
from bench.strategy import curve_of
from reports.record import Record, outcomes

_SHA256 = "[0-9a-f]{64}"
CLOSE = 1e-9
"""Relative difference of two floats that are still called equal: libraries differ in the last digits."""


def check_record(record: Record, path: Path) -> None:
    """Check that the parts of a record agree.

    Args:
        record: Record in the present schema.
        path: Where it was read from, for the message.

    Raises:
        BenchError: If two parts contradict each other. The message names the field, its value and the one expected.
    """
    for field, value, expected in contradictions(record):
        raise BenchError(
            f"{path}: {field} is {shown(value)}; expected {expected}. The record was changed or is damaged"
        )


def contradictions(record: Record) -> Iterator[tuple[str, Any, str]]:
    """Yield each field that contradicts the rest of a record: its name, its value, and what was expected."""
    for check in CHECKS.values():
        yield from check(record)


def _identity(record: Record) -> Iterator[tuple[str, Any, str]]:
    result = record.result
    config, tuned = result.config, f"tuned {result.config.tune}"
    if config.tune and result.ruleset != tuned:
        yield "ruleset", result.ruleset, f"{tuned}, as config.tune is {config.tune}"
    if not config.tune and result.ruleset.startswith("tuned"):
        yield "ruleset", result.ruleset, "no number of trials, as config.tune is 0"
    if (result.ruleset == DECLARED) != isinstance(config.source, DeclaredSource):
        yield "ruleset", result.ruleset, f"{DECLARED} for models that were trained elsewhere, and for no others"
    if not re.fullmatch(_SHA256, result.id):
        yield "id", result.id, "64 hexadecimal digits"
        return
    if result.versions is None or result.content_hash is None or result.model is None:
        return
    try:
        size = parse_budget(config.budget).identity
        content = (result.content_hash, result.model.fingerprint, size)
        identity = run_id(config, result.versions, *content, version=result.identity_version)
    except UsageError as error:
        yield "config", config.budget, str(error)
        return
    if result.id != identity:
        yield "id", result.id, f"{identity}, the id of its configuration under rule {result.identity_version}"


def _ending(record: Record) -> Iterator[tuple[str, Any, str]]:
    result = record.result
    if result.status != "ok":
        if result.rows:
            yield "rows", len(result.rows), f"none, as status is {result.status}"
        if not result.reason:
            yield "reason", result.reason, f"a sentence, as status is {result.status}"
        return
    for name in ("versions", "content_hash", "model", "budget"):
        if name == "budget" and result.ruleset == DECLARED:
            continue
        if getattr(result, name) is None:
            yield name, None, "a value, as status is ok"
    for name in ("rows", "ledger", "splits"):
        if not getattr(result, name):
            yield name, None, "at least one entry, as status is ok"


def _verdicts(record: Record) -> Iterator[tuple[str, Any, str]]:
    result = record.result
    if not result.rows:
        if record.items or record.verdicts:
            yield "verdicts", len(record.verdicts), "none, as there are no rows"
        return
    if not re.fullmatch(_SHA256, record.items):
        yield "items", record.items, "64 hexadecimal digits"
    if label := result.rows[0].label:
        yield "rows[0].label", label, "an empty label, as the row is the base's"
    tested = result.splits.get("test", 0)
    tested = min(tested, result.config.limit or tested)
    if len(record.base) != tested:
        yield "verdicts", f"{len(record.base)} characters", f"{tested}, one for each test item"


def _rows(record: Record) -> Iterator[tuple[str, Any, str]]:
    if record.result.status == "ok":
        for number, row in enumerate(record.result.rows):
            yield from _row(record, number, row)
            yield from _coverage(record.result, number, row)


def _row(record: Record, number: int, row: Row) -> Iterator[tuple[str, Any, str]]:
    """Compare a row with the verdicts on its answers."""
    answered = [index for index, each in enumerate(record.result.rows) if each.answers_of is None]
    given = dict(zip(answered, record.verdicts, strict=True))
    source = row.answers_of if row.answers_of is not None else number
    if source not in given:
        yield f"rows[{number}].answers_of", source, f"one of {answered}, the rows with answers"
        return
    before, after = outcomes(record.base), outcomes(given[source])
    judged = (after >= 0) & (before >= 0)
    right, items = int((after[judged] == 1).sum()), int(judged.sum())
    if not items:
        yield f"verdicts[{number}]", given[source], "at least one item that was judged"
        return
    expected = accuracy_of(right, items, judged.size - items, row.accuracy.mean_reward)
    yield from _differences(f"rows[{number}].accuracy", row.accuracy, expected)
    if row.answers_of is not None:
        same = record.result.rows[source]
        for field in ("accuracy", "cost", "work", "changed", "weights", "coverage"):
            if getattr(row, field) != getattr(same, field):
                yield f"rows[{number}].{field}", "another value", f"that of row {source}, whose answers it has"
    if row.kind == "method" and not row.changed and given[source] != record.base:
        yield f"rows[{number}].changed", False, "true, as its verdicts are not the base's"
    if row.gate is not None:
        yield from _gate(number, row.gate)
    if row.comparison is not None:
        fixes = int((judged & (before == 0) & (after == 1)).sum())
        regressions = int((judged & (before == 1) & (after == 0)).sum())
        both = int((judged & (before == 1) & (after == 1)).sum())
        counts = PairedCounts(both, fixes, regressions, items - both - fixes - regressions)
        yield from _differences(f"rows[{number}].comparison", row.comparison, comparison_of(counts))


def _gate(number: int, gate: GateRecord) -> Iterator[tuple[str, Any, str]]:
    """Compare a decision of the gate with the counts of its last look."""
    field = f"rows[{number}].gate"
    gain = (gate.fixes - gate.regressions) / gate.items if gate.items else 0.0
    if not _equal(gate.gain, gain):
        yield f"{field}.gain", gate.gain, f"{gain}, which fixes, regressions and items give"
    if not 0 < gate.level < 1 or gate.items > gate.max_items:
        yield field, [gate.level, gate.items], f"a level between 0 and 1, and at most {gate.max_items} items"
    if not gate.looks:
        if gate.accepted or gate.items:
            yield f"{field}.looks", [], "at least one, as items were answered"
        return
    last = gate.looks[-1]
    for name in ("items", "fixes", "regressions"):
        if getattr(gate, name) != getattr(last, name):
            yield f"{field}.{name}", getattr(gate, name), f"{getattr(last, name)}, as at its last look"
    if gate.accepted != (last.needed is not None and last.fixes >= last.needed):
        yield f"{field}.accepted", gate.accepted, f"what {last.fixes} fixes of {last.needed} needed give"


def _coverage(result: Result, number: int, row: Row) -> Iterator[tuple[str, Any, str]]:
    """Compare the pass@k of a row with its bounds, its work, the strategy and, for a gated row, the row it comes from.

    The values themselves, their intervals and their differences from the base cannot be computed again: they follow
    from the verdicts on all samples, and a record has those on greedy answers alone. Nor can the work of a curve's
    other k, beyond that all k share the samples of the largest.
    """
    name, ks = f"rows[{number}]", curve_of(result.config.strategy)
    if any(row.curve != source.curve for place, source in enumerate(result.rows) if place == row.answers_of):
        yield f"{name}.curve", "another value", f"that of row {row.answers_of}, whose answers it has"
    if (given := tuple(each.k for each in row.coverages)) != ks:
        yield f"{name}.coverage", given, f"pass@k for k in {ks}, those of config.strategy"
    priced = result.versions is not None and result.versions.flops == pricing.FLOPS_VERSION
    for place, each in enumerate(row.coverages):
        part = f"{name}.coverage" if each is row.coverage else f"{name}.curve[{place}]"
        if not -CLOSE <= each.low <= each.value + CLOSE <= each.high + 2 * CLOSE <= 1 + 3 * CLOSE:
            yield f"{part}.value", each.value, f"a number from low, {each.low}, to high, {each.high}, within 0 to 1"
        if row.coverage and each.samples != row.coverage.samples:
            yield f"{part}.samples", each.samples, f"{row.coverage.samples}, which all k share"
        if row.coverage and each.work != row.coverage.work:
            yield f"{part}.work", each.work, "that of the largest k, whose samples it shares"
        if result.model and result.model.shape and priced and each.work is not None:
            expected = pricing.priced_coverage(result.model.shape, each).cost
            yield from _differences(f"{part}.cost", each.cost, expected)


def _differences(name: str, given: Any, expected: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield the numbers of a part that differ from those expected."""
    for field in type(expected).model_fields:
        value, wanted = getattr(given, field), getattr(expected, field)
        if not _equal(value, wanted):
            yield f"{name}.{field}", value, f"{wanted}"


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, float) or isinstance(wanted, float):
        return math.isclose(value, wanted, rel_tol=CLOSE, abs_tol=CLOSE)
    return bool(value == wanted)


def _compute(record: Record) -> Iterator[tuple[str, Any, str]]:
    """Compare FLOPs with raw counts, and what was spent with the budget."""
    result = record.result
    shape = result.model.shape if result.model else None
    present = result.versions is not None and result.versions.flops == pricing.FLOPS_VERSION
    if shape is not None and present:
        for account, booked in result.ledger.items():
            yield from _differences(f"ledger.{account}", booked, pricing.priced_account(shape, booked.work))
        answers = sum(result.splits.get("test", 0) for _ in result.rows[:1])
        answers = min(answers, result.config.limit or answers)
        for number, row in enumerate(result.rows):
            if row.work is None:
                yield f"rows[{number}].work", None, "raw counts, as the model's shape is known"
            elif answers:
                yield from _differences(f"rows[{number}].cost", row.cost, pricing.answer_cost(shape, row.work, answers))
    yield from _answers(result)
    budget = result.budget
    if budget is None:
        return
    if not math.isfinite(budget.evaluation_flops) or budget.evaluation_flops <= 0:
        yield "budget.evaluation_flops", budget.evaluation_flops, "a number above 0"
        return
    yield from _size(result, budget)
    if sum(budget.planned.values()) > budget.evaluations:
        yield "budget.planned", budget.planned, f"at most {budget.evaluations} evaluations, the budget"
    spent = sum(result.ledger[account].flops for account in ADAPTATION if account in result.ledger)
    if budget.spent != spent:
        yield "budget.spent", budget.spent, f"{spent}, the sum of the ledger's accounts {', '.join(ADAPTATION)}"
    if budget.spent > budget.flops:
        yield "budget.spent", budget.spent, f"at most {budget.flops}, the budget"


def _size(result: Result, budget: BudgetInfo) -> Iterator[tuple[str, Any, str]]:
    """Compare the size of a budget with the one that was given, in its unit."""
    given = parse_budget(result.config.budget)
    if given.unit == "evaluations":
        if budget.evaluations != given.amount:
            yield "budget.evaluations", budget.evaluations, f"{given.amount}, which config.budget is"
        flops = int(budget.evaluations * budget.evaluation_flops)
    else:
        flops = given.amount if given.unit == "flops" else budget.flops  # a time became FLOPs at a measured speed
        evaluations = int(flops / budget.evaluation_flops)
        if budget.evaluations != evaluations:
            yield "budget.evaluations", budget.evaluations, f"{evaluations}, flops over evaluation_flops"
    if budget.flops != flops:
        yield "budget.flops", budget.flops, f"{flops}, which config.budget is"


def _tuning(record: Record) -> Iterator[tuple[str, Any, str]]:
    """Compare the trials with the ledger's account and with what they chose."""
    result, tuning = record.result, record.result.tuning
    if tuning is None or "tune" not in result.ledger:
        return
    booked = result.ledger["tune"].flops
    if tuning.flops > booked:  # the final run may book to this account as well
        yield "tuning.flops", tuning.flops, f"at most {booked}, the ledger's account tune"
    if (total := sum(trial.flops for trial in tuning.trials)) != tuning.flops:
        yield "tuning.trials", total, f"{tuning.flops} FLOPs in all, which tuning.flops is"
    names = [(trial.rung, trial.trial) for trial in tuning.trials]
    if len(set(names)) < len(names):
        yield "tuning.trials", names, "each trial of each rung once"
    for trial in tuning.trials:
        if trial.trial >= max(result.config.tune, 1):
            yield "tuning.trials.trial", trial.trial, f"a number below {result.config.tune}, which config.tune is"
        if trial.score is not None and not _equal(round(trial.score * trial.items), trial.score * trial.items):
            yield "tuning.trials.score", trial.score, f"a share of {trial.items} items"
        if trial.trial == tuning.trial and trial.settings != tuning.chosen:
            yield "tuning.chosen", tuning.chosen, f"{shown(trial.settings)}, the settings of trial {trial.trial}"
    if all(trial.trial != tuning.trial for trial in tuning.trials):
        yield "tuning.trial", tuning.trial, "the number of one of the trials"


def _answers(result: Result) -> Iterator[tuple[str, Any, str]]:
    """Compare the ledger's accounts of answers with the work of the rows."""
    accounts: tuple[tuple[Account, tuple[Row, ...]], ...] = (
        ("evaluation", result.rows[:1]),
        ("inference", result.artifacts),
    )
    for account, rows in accounts:
        works = [row.work for row in rows] + [row.coverage.work for row in rows if row.coverage]
        known = [work for work in works if work is not None]
        if not rows or len(known) < len(works) or account not in result.ledger:
            continue
        total, booked = sum(known, Work()), result.ledger[account].work
        if booked != total:
            part = next(name for name, count in booked.model_dump().items() if count != total.model_dump()[name])
            counts = booked.model_dump()[part], total.model_dump()[part]
            yield f"ledger.{account}.work.{part}", counts[0], f"{counts[1]}, the sum over the rows"


CHECKS: dict[str, Callable[[Record], Iterator[tuple[str, Any, str]]]] = {
    "id and ruleset": _identity,
    "status": _ending,
    "verdicts": _verdicts,
    "counts and intervals": _rows,
    "FLOPs and budget": _compute,
    "tuning": _tuning,
}
"""The checks by name, in the order in which they are made."""
