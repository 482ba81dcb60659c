"""Check of a record against itself: what its numbers say of one another.

A record is a function of a few of its parts: its id follows from its configuration, its counts from its verdicts, its
FLOPs from its raw counts and the model's shape. `check_record` computes them again. Of pass@k it checks the costs and
the bounds alone (see `_coverage`). A record that was edited in one
place is refused. A record that was made up as a whole, with all its parts in agreement, is not: that a run took place
cannot be seen in a record alone. See docs/trust.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.compute.budget import parse_budget
from bench.compute.flops import MEASURED, is_present_rule
from bench.errors import BenchError, UsageError, shown
from bench.records import pricing
from bench.records.derived import accuracy_of, comparison_of
from bench.records.rows import GateRecord, PassAtK, Row
from bench.records.schema import Result
from bench.records.source import DeclaredSource, RunSource
from bench.records.tuning import DECLARED
from bench.run.run_id import run_id
from bench.stats import PairedCounts
from bench.stats.gate import GateDesign, decide
from bench.strategy import curve_of
from reports.alike import CLOSE, alike, differences
from reports.check_compute import check_budget, check_flops, check_timing, check_tuning
from reports.record import Record, outcomes

_SHA256 = "[0-9a-f]{64}"
_WITH_GATE = 3
"""Rule of the run id under which gate and tuning exist, and since which records have the shape of the model."""
MOST_CHANGED = 50_000
"""Number of changed answers up to which a gate's bounds are computed again. The time grows with its square: it is
about a second for this number."""


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
    if result.identity_version < _WITH_GATE and (config.gate != "off" or config.tune):
        given = f"gate {config.gate}, tune {config.tune}"
        yield "config", given, f"gate off, tune 0: runs under rule {result.identity_version} of the id had neither"
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
    if result.model and result.model.costs is None and result.identity_version >= _WITH_GATE:
        yield "model.profile", None, "the costs of the model, from which FLOPs follow"
    yield from _profile(result)
    if result.model and result.rows and result.rows[0].weights not in (None, result.model.digest):
        yield "rows[0].weights", result.rows[0].weights, f"{result.model.digest}, which model.digest is"
    yield from _engine(result)


def _profile(result: Result) -> Iterator[tuple[str, Any, str]]:
    """Compare the costs of the model with its dimensions and the version of the FLOPs formula."""
    if not (result.model and result.versions and result.model.costs):
        return
    profile, measured = result.model.profile, result.versions.flops >= MEASURED
    if (profile is not None) != measured:
        yield "model.profile", profile and str(profile), f"{'a value' if measured else 'null'}, by versions.flops"
    if result.model.shape and profile not in (None, expected := result.model.shape.profile()):
        yield "model.profile", str(profile), f"{expected}, which model.shape gives"


def _engine(result: Result) -> Iterator[tuple[str, Any, str]]:
    """Compare the settings of the engine with those that were asked for. `auto` and None stand for any.

    A record has the type of the device alone, such as `cuda` for `cuda:1`. An engine halves its batch if memory runs
    out, so the recorded size may be below the one asked for.
    """
    config, engine = result.config, result.engine
    asked = {"backend": config.engine, "dtype": config.dtype, "device": config.device.partition(":")[0]}
    for name, wanted in asked.items():
        if wanted != "auto" and name in engine and engine[name] != wanted:
            yield f"engine.{name}", engine[name], f"{wanted}, as in config"
    size, most = engine.get("batch_size"), config.batch_size
    if size is not None and most is not None and not (isinstance(size, int) and 1 <= size <= most):
        yield "engine.batch_size", size, f"a whole number from 1 to {most}, which config.batch_size is"
    if config.prompt != "auto" and result.prompt != config.prompt:
        yield "prompt", result.prompt, f"{config.prompt}, as in config"


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
    if record.clusters is not None:
        labels: dict[int, int] = {}
        numbered = tuple(labels.setdefault(label, len(labels)) for label in record.clusters)
        if record.clusters != numbered or len(labels) == len(numbered):
            yield "clusters", record.clusters[:9], "labels in the order of their first items, two of them equal"
    if len(record.base) != tested:
        yield "verdicts", f"{len(record.base)} characters", f"{tested}, one for each test item"


def _rows(record: Record) -> Iterator[tuple[str, Any, str]]:
    if record.result.status == "ok":
        for number, row in enumerate(record.result.rows):
            yield from _row(record, number, row)
            yield from _coverage(record, number, row)
        yield from _gated(record.result)


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
    yield from differences(f"rows[{number}].accuracy", row.accuracy, expected)
    if row.answers_of is not None:
        same = record.result.rows[source]
        for field in type(row).model_fields.keys() - {"kind", "label", "comparison", "gate", "answers_of", "curve"}:
            if getattr(row, field) != getattr(same, field):
                yield f"rows[{number}].{field}", "another value", f"that of row {source}, whose answers it has"
    if row.kind == "method" and not row.changed and given[source] != record.base:
        yield f"rows[{number}].changed", False, "true, as its verdicts are not the base's"
    if row.truncated is not None and not alike(float(round(row.truncated * judged.size)), row.truncated * judged.size):
        yield f"rows[{number}].truncated", row.truncated, f"a share of {judged.size} answers"
    if row.thoughts is not None:  # a thought that was cut may be followed by one that never ended: both counts have it
        for name in ("cut", "unended"):
            if (count := getattr(row.thoughts, name)) > judged.size:
                yield f"rows[{number}].thoughts.{name}", count, f"at most {judged.size}, the number of answers"
    if row.comparison is not None:
        fixes = int((judged & (before == 0) & (after == 1)).sum())
        regressions = int((judged & (before == 1) & (after == 0)).sum())
        both = int((judged & (before == 1) & (after == 1)).sum())
        counts = PairedCounts(both, fixes, regressions, items - both - fixes - regressions)
        yield from differences(f"rows[{number}].comparison", row.comparison, comparison_of(counts))


def _gated(result: Result) -> Iterator[tuple[str, Any, str]]:
    """Check that each artifact was gated or the record says why not, and compute the decisions again."""
    gated = {row.label: row.gate for row in result.gated if row.gate}
    if gated and result.ungated is not None:
        yield "ungated", result.ungated, "null, as there are gated rows"
    if gated and result.config.gate == "off":
        yield "rows", sorted(gated), "no gated rows, as config.gate is off"
    # A test answers with the artifacts that its own strategy applies to, and its source may have gated others.
    required = result.config.gate == "harness" and result.ungated is None and not isinstance(result.source, RunSource)
    if required and (missing := [row.label for row in result.artifacts if row.label not in gated]):
        yield "rows", missing, "a gated row after each artifact, as config.gate is harness and ungated is null"
    for number, row in enumerate(result.rows):
        if row.gate is not None:
            for name, value, expected in _gate(result, row.gate):
                yield f"rows[{number}].gate.{name}", value, expected
    answered = max((gate.items for gate in gated.values()), default=0)
    booked = result.ledger.get("gate")
    if answered > (booked.work.evaluations if booked else 0):
        what = f"an account of at least {answered} evaluations, the base's answers to the gate's items"
        yield "ledger.gate", booked and booked.work.evaluations, what
    if booked and not gated:
        yield "ledger.gate", booked.work.evaluations, "no account, as there are no gated rows"


def _gate(result: Result, gate: GateRecord) -> Iterator[tuple[str, Any, str]]:
    """Compute a decision of the gate again from the counts at its looks."""
    design = GateDesign(gate.max_items)
    if gate.level != design.level:
        yield "level", gate.level, f"{design.level}"
    if result.source is None and gate.max_items > result.splits.get("gate", 0):
        yield "max_items", gate.max_items, f"at most {result.splits.get('gate', 0)}, the size of the gate split"
    if gate.fixes + gate.regressions + gate.excluded > gate.items:
        yield "items", gate.items, f"at least {gate.fixes + gate.regressions + gate.excluded}, the answers counted"
    if gate.detectable is not None and not 0 <= gate.detectable <= 1:
        yield "detectable", gate.detectable, "a number from 0 to 1"
    if not gate.looks:  # rejected without a test, or its answers cost more than was reserved
        if gate.accepted:
            yield "accepted", True, "false, as there are no looks"
        if not gate.reason.startswith("rejected: "):
            yield "looks", [], f"those that {shown(gate.reason)} speaks of"
        if gate.items not in (0, *design.looks[:-1]):
            yield "items", gate.items, f"0, or one of {design.looks[:-1]}, where the gate looks"
        gain = (gate.fixes - gate.regressions) / gate.items if gate.items else 0.0
        if not alike(gate.gain, gain):
            yield "gain", gate.gain, f"{gain}, which fixes, regressions and items give"
        return
    last = gate.looks[-1]
    if (changed := last.fixes + last.regressions) > MOST_CHANGED:
        yield "looks", changed, f"at most {MOST_CHANGED} changed answers, from which the decision can be computed again"
        return
    try:
        expected = decide(design, [(look.fixes, look.regressions) for look in gate.looks])
    except ValueError as error:
        yield "looks", len(gate.looks), f"looks that a gate can take: {error}"
        return
    if expected is None:
        yield "looks", len(gate.looks), "further looks, until the gate decides"
        return
    for number, (look, wanted) in enumerate(zip(gate.looks, expected.looks, strict=True)):
        for name in ("items", "needed"):
            if getattr(look, name) != getattr(wanted, name):
                yield f"looks[{number}].{name}", getattr(look, name), f"{getattr(wanted, name)}"
    for name in ("accepted", "items", "fixes", "regressions", "gain"):
        if not alike(getattr(gate, name), getattr(expected, name)):
            yield name, getattr(gate, name), f"{getattr(expected, name)}, as the counts at its looks give"
    if not gate.reason.startswith(expected.reason):
        yield "reason", gate.reason, expected.reason


def _coverage(record: Record, number: int, row: Row) -> Iterator[tuple[str, Any, str]]:
    """Compare the pass@k of a row with its bounds, its work, the strategy and, for a gated row, the row it comes from.

    The values themselves, their intervals and their differences from the base cannot be computed again: they follow
    from the verdicts on all samples, and a record has those on greedy answers alone. Nor can the work of a curve's
    other k, beyond that all k share the samples of the largest.
    """
    result = record.result
    name, ks = f"rows[{number}]", curve_of(result.config.strategy)
    if any(row.curve != source.curve for place, source in enumerate(result.rows) if place == row.answers_of):
        yield f"{name}.curve", "another value", f"that of row {row.answers_of}, whose answers it has"
    if (given := tuple(each.k for each in row.coverages)) != ks:
        yield f"{name}.coverage", given, f"pass@k for k in {ks}, those of config.strategy"
    present = result.versions is not None and is_present_rule(result.versions.flops)
    profile = result.model.costs if result.model and present else None
    for place, each in enumerate(row.coverages):
        part = f"{name}.coverage" if each is row.coverage else f"{name}.curve[{place}]"
        if not -CLOSE <= each.low <= each.value + CLOSE <= each.high + 2 * CLOSE <= 1 + 3 * CLOSE:
            yield f"{part}.value", each.value, f"a number from low, {each.low}, to high, {each.high}, within 0 to 1"
        if row.coverage and each.samples != row.coverage.samples:
            yield f"{part}.samples", each.samples, f"{row.coverage.samples}, which all k share"
        if row.coverage and each.work != row.coverage.work:
            yield f"{part}.work", each.work, "that of the largest k, whose samples it shares"
        if each.items + each.excluded != len(record.base) or each.k > each.samples:
            yield f"{part}.items", each.items, f"{len(record.base)} test items, those excluded included"
        yield from _gain(result.rows[0], row, each, part)
        if profile and each.work is None:
            yield f"{part}.work", None, "raw counts, as the model's costs are known"
        if profile and each.work is not None:
            expected = pricing.priced_coverage(profile, each).cost
            yield from differences(f"{part}.cost", each.cost, expected)


def _gain(base: Row, row: Row, found: PassAtK, part: str) -> Iterator[tuple[str, Any, str]]:
    """Compare the difference of pass@k from the base with both values. It is over the items that both have."""
    gain = found.difference
    if (gain is None) != (row is base or row.answers_of == 0):
        yield f"{part}.difference", gain and gain.difference, "a value for all rows but the base's"
    if gain is None:
        return
    if not gain.low - CLOSE <= gain.difference <= gain.high + CLOSE or max(abs(gain.low), abs(gain.high)) > 1 + CLOSE:
        yield f"{part}.difference", gain.difference, f"a number from low, {gain.low}, to high, {gain.high}, within 1"
    if not 0 <= gain.p_value <= 1:
        yield f"{part}.difference.p_value", gain.p_value, "a number from 0 to 1"
    if gain.items != found.items:
        yield f"{part}.difference.items", gain.items, f"{found.items}, which have pass@k"
    before = next((each for each in base.coverages if each.k == found.k), None)
    if before and not before.excluded and not found.excluded and not alike(gain.difference, found.value - before.value):
        yield f"{part}.difference", gain.difference, f"{found.value - before.value}, the value less the base's"


def _compute(record: Record) -> Iterator[tuple[str, Any, str]]:
    yield from check_flops(record.result, len(record.base))
    yield from check_budget(record.result)


CHECKS: dict[str, Callable[[Record], Iterator[tuple[str, Any, str]]]] = {
    "id and ruleset": _identity,
    "status": _ending,
    "verdicts": _verdicts,
    "counts and intervals": _rows,
    "FLOPs and budget": _compute,
    "tuning": lambda record: check_tuning(record.result),
    "times": lambda record: check_timing(record.result),
}
"""The checks by name, in the order in which they are made."""
