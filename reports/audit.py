"""Audit of a record: what its checks say, and how a repeated part of its run compares with it.

The comparison is pure: `bench.run.repeat` repeats, and this module compares. docs/trust.md explains the tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from bench.errors import BenchError, shown
from bench.records.digests import PARTS, check_digests, recorded_digest
from bench.records.rows import GateRecord, Move
from bench.records.samples import Sample
from bench.records.schema import Result
from bench.stats import mcnemar_exact
from bench.stats.gate import GAIN_ERROR
from reports.alike import alike
from reports.check import CHECKS
from reports.record import RIGHT, WRONG, Record

TOLERATED_ANSWERS = 0.1
"""Maximum share of answers of the same weights that may differ on another kind of processor."""
TOLERATED_FLOPS = 0.05
"""Maximum relative difference of the FLOPs of all accounts together on another kind of processor."""
TOLERATED_LEVEL = 0.01
"""On another kind of processor, a row adapted again differs if McNemar's exact test rejects equality at this level."""

Verdict = Literal["agrees", "differs", "tolerated", "not checked"]


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Plain):
    """Result of one check.

    Attributes:
        check: Name of the check.
        verdict: `tolerated`: differs no more than another kind of processor explains.
        detail: What was compared, what differs, or why it was not checked.
    """

    check: str
    verdict: Verdict
    detail: str = ""


class Difference(_Plain):
    """One value of a test item that differs.

    Attributes:
        row: Index of the row in the record; 0 is the base.
        item: Id of the test item.
        field: Field of the sample, such as `text`, or `verdict`.
        recorded: Value in the record.
        now: Value of the repetition.
    """

    row: int
    item: str
    field: str
    recorded: str
    now: str


class Audit(_Plain):
    """Audit of one record.

    Attributes:
        path: Run directory or record file.
        id: Id of the run; None if the record cannot be read.
        findings: Result of each check.
        differences: Values of test items that differ, those within the tolerance included.
    """

    path: str
    id: str | None
    findings: tuple[Finding, ...]
    differences: tuple[Difference, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no check found a difference beyond the tolerance."""
        return all(finding.verdict != "differs" for finding in self.findings)


class Audits(_Plain):
    """Output of `bench audit`.

    Attributes:
        audits: Audit of each record, in the order given.
    """

    audits: tuple[Audit, ...]


def check_parts(record: Record, path: Path) -> Iterator[Finding]:
    """Yield the result of each check of a record against itself and against the files of its run directory."""
    for name, check in CHECKS.items():
        found = [f"{field} is {shown(value)}; expected {expected}" for field, value, expected in check(record)]
        yield Finding(check=name, verdict="differs" if found else "agrees", detail="; ".join(found))
    if not path.is_dir():
        return
    for part in PARTS:
        if recorded_digest(record.result, part) is None or not (path / part).exists():
            reason = "not in the folder" if not (path / part).exists() else "the record has no digest of it"
            yield Finding(check=f"digest of {part}", verdict="not checked", detail=reason)
            continue
        try:
            check_digests(record.result, path, [part])
        except BenchError as error:
            yield Finding(check=f"digest of {part}", verdict="differs", detail=str(error))
        else:
            yield Finding(check=f"digest of {part}", verdict="agrees")


ADDED = ("status", "finish", "prompt_tokens", "new_tokens", "prompt_id", "prompt", "gold")
"""Fields of a sample that older records do not know."""
ANSWERED = ("prompt_sha256", "text", "answer", "correct", "reward", *ADDED)
"""Fields of a sample that a repetition must give again. Those that the record does not know are left out."""


def compare_answers(recorded: Sequence[Sample], again: Sequence[Sample]) -> tuple[tuple[Difference, ...], int]:
    """Compare answers with those of a repetition. Return the differences, and the number of answers that differ."""
    known = {(sample.row, sample.id): sample for sample in recorded}
    found, answers = [], 0
    for now in again:
        before = known.get((now.row, now.id))
        if before is None:
            values = {"text": ("(no sample)", now.text)}
        else:
            pairs = {name: (getattr(before, name), getattr(now, name)) for name in ANSWERED}
            values = {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and not _unknown(name, pair[0])}
        answers += bool(values)
        found += [
            Difference(row=now.row, item=now.id, field=name, recorded=shown(old), now=shown(new))
            for name, (old, new) in values.items()
        ]
    return tuple(found), answers


def _unknown(name: str, value: object) -> bool:
    return value is None and name in ADDED


def answers_finding(check: str, differing: int, answers: int, *, same: bool, what: str = "answers") -> Finding:
    """Return the result of a comparison of answers of the same weights.

    Args:
        check: Name of the check.
        differing: Number of answers that differ.
        answers: Number of answers that were compared.
        same: Whether record and repetition are of the same kind of processor.
        what: What was compared, in the plural.
    """
    if not differing:
        return Finding(check=check, verdict="agrees", detail=f"all {answers} {what} are the same")
    most = int(TOLERATED_ANSWERS * answers)
    detail = f"{differing} of {answers} {what} differ"
    if same:
        return Finding(check=check, verdict="differs", detail=f"{detail} on the same kind of processor")
    verdict: Verdict = "tolerated" if differing <= most else "differs"
    return Finding(check=check, verdict=verdict, detail=f"{detail} on another kind of processor; {most} may")


def compare_runs(
    record: Record, again: Record, ids: Sequence[str], *, same: bool
) -> tuple[tuple[Finding, ...], tuple[Difference, ...]]:
    """Compare a record with that of the whole run repeated: verdicts item by item, decisions, counts, and FLOPs.

    Args:
        record: Record to audit.
        again: Record of the repetition.
        ids: Ids of the test items of the repetition.
        same: Whether both are of the same kind of processor.
    """
    findings, differences = list(_same_run(record, again)), []
    for number, (row, before) in enumerate(_answered(record).items()):
        if number >= len(again.verdicts) or len(again.verdicts[number]) != len(before):
            findings.append(Finding(check=f"row {row}", verdict="differs", detail="the repetition has no such answers"))
            continue
        changed = [i for i, pair in enumerate(zip(before, again.verdicts[number], strict=True)) if len(set(pair)) > 1]
        differences += [
            Difference(row=row, item=ids[i], field="verdict", recorded=before[i], now=again.verdicts[number][i])
            for i in changed
        ]
        name = f"verdicts of row {row} {record.result.rows[row].label}".strip()
        findings.append(_verdicts(name, row, before, again.verdicts[number], same=same))
    findings.append(_numbers(record.result, again.result, same=same))
    findings.append(_flops(record.result, again.result, same=same))
    return tuple(findings), tuple(differences)


def _same_run(record: Record, again: Record) -> Iterator[Finding]:
    first, second = record.result, again.result
    pairs: Mapping[str, tuple[object, object]] = {
        "status": (first.status, second.status),
        "content hash": (first.content_hash, second.content_hash),
        "weights of the base": (first.model and first.model.digest, second.model and second.model.digest),
        "test items": (record.items, again.items),
    }
    for name, (before, now) in pairs.items():
        detail = "" if before == now else f"{shown(before)} in the record, and {shown(now)} now"
        yield Finding(check=f"{name}, repeated", verdict="differs" if detail else "agrees", detail=detail)


def _answered(record: Record) -> dict[int, str]:
    rows = [number for number, row in enumerate(record.result.rows) if row.answers_of is None]
    return dict(zip(rows, record.verdicts, strict=True))


def _verdicts(name: str, row: int, before: str, now: str, *, same: bool) -> Finding:
    pairs = list(zip(before, now, strict=True))
    differing = sum(one != two for one, two in pairs)
    if row == 0 or same or not differing:  # the base's weights are the same on every machine
        return answers_finding(name, differing, len(pairs), same=same, what="verdicts")
    p = mcnemar_exact(pairs.count((WRONG, RIGHT)), pairs.count((RIGHT, WRONG)))
    verdict: Verdict = "tolerated" if p >= TOLERATED_LEVEL else "differs"
    detail = f"{differing} of {len(pairs)} verdicts differ on another kind of processor; McNemar's test: p = {p:.3g}"
    return Finding(check=name, verdict=verdict, detail=detail)


def _same_gate(one: GateRecord | None, two: GateRecord | None) -> bool:
    """Return whether two decisions of the gate are equal. The detectable gain is a root, found to within an error."""
    if one is None or two is None:
        return one is two
    first, second = one.detectable, two.detectable
    near = first == second or (first is not None and second is not None and abs(first - second) <= 2 * GAIN_ERROR)
    return near and alike(one.model_copy(update={"detectable": None}), two.model_copy(update={"detectable": None}))


_COUNTED = ("kind", "label", "accuracy", "comparison", "answers_of", "changed", "weights", "truncated", "measures")
_FIGURES = (*_COUNTED, "thoughts", "move", "coverage", "curve", "cost", "work")


def _numbers(before: Result, now: Result, *, same: bool) -> Finding:
    """Compare figures and costs of the rows, the gate's decisions, the trials and the digests of the weights.

    Values that a record of an earlier version does not have are left out.
    """
    differing = []
    for number, (one, two) in enumerate(zip(before.rows, now.rows, strict=False)):
        for name in _FIGURES:
            first, second = getattr(one, name), getattr(two, name)
            if name == "move":
                second = _as_known(first, second)
            if first is not None and not alike(first, second) and (name != "weights" or second is not None):
                differing.append(f"rows[{number}].{name}")
        if not _same_gate(one.gate, two.gate):
            differing.append(f"rows[{number}].gate")
    if not alike(before.tuning, now.tuning):
        differing.append("tuning")
    if len(before.rows) != len(now.rows):
        differing.append(f"rows: {len(before.rows)} in the record, and {len(now.rows)} now")
    verdict: Verdict = "agrees" if not differing else "differs" if same else "tolerated"
    return Finding(check="counts, gate and weights, repeated", verdict=verdict, detail=", ".join(differing))


def _as_known(before: Move | None, now: Move | None) -> Move | None:
    """Return a repeated move without what the record's version did not measure."""
    if before is None or now is None or before.untouched is not None:
        return now
    return now.model_copy(update={"untouched": None, "energy": {}})


def _flops(before: Result, now: Result, *, same: bool) -> Finding:
    differing = []
    for account in sorted(before.ledger.keys() | now.ledger.keys()):
        first, second = (each.ledger[account].flops if account in each.ledger else 0 for each in (before, now))
        if first != second:
            differing.append(f"{account} {first} in the record, and {second} now")
    sums = [sum(account.flops for account in each.ledger.values()) for each in (before, now)]
    tolerated = not same and abs(sums[0] - sums[1]) <= TOLERATED_FLOPS * max(sums)
    verdict: Verdict = "agrees" if not differing else "tolerated" if tolerated else "differs"
    return Finding(check="FLOPs by account, repeated", verdict=verdict, detail="; ".join(differing))
