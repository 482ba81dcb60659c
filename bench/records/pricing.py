"""FLOPs of a record, computed from its raw counts and the model's compute profile. Pure functions.

A run prices its work with these functions, and `reprice` applies them again. A record is therefore repriced under the
present formula exactly as a fresh run would book it.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.compute.budget import parse_budget
from bench.compute.flops import FLOPS_VERSION
from bench.compute.ledger import ADAPTATION, Account, Work, hardware_flops, model_flops
from bench.compute.profile import ComputeProfile
from bench.errors import Refused
from bench.records.rows import AnswerCost, Frozen, PassAtK, Row
from bench.records.schema import AccountRow, BudgetInfo, Result, Timing
from bench.records.tuning import Tuning


def priced_account(profile: ComputeProfile, work: Work) -> AccountRow:
    """Return an account of the ledger with the FLOPs of its work."""
    return AccountRow(work=work, flops=model_flops(profile, work), hardware_flops=hardware_flops(profile, work))


def answer_cost(profile: ComputeProfile, work: Work, answers: float) -> AnswerCost:
    """Return the mean cost of one answer.

    Args:
        profile: Compute profile of the model.
        work: Work of all answers.
        answers: Number of answers.
    """
    return counted_cost(work, answers, model_flops(profile, work))


def counted_cost(work: Work, answers: float, flops: float) -> AnswerCost:
    """Return the mean cost of one answer, given the FLOPs of all answers."""
    return AnswerCost(
        evaluations=work.evaluations / answers, flops=flops / answers, new_tokens=work.decode_tokens / answers
    )


def reprice(result: Result) -> Result:
    """Return a result with all its FLOPs computed again, under the present formula.

    Only the FLOPs that the harness books are repriced: ledger, budget, tuning, costs of answers and timing. What the
    method decided, any FLOPs in its own report, and those of each trial, which has no counts, stay as they were.

    Raises:
        Refused: If the record lacks the model's compute profile or the raw counts of a row.
    """
    profile = result.model and result.model.costs
    lacking = [] if profile else ["the model's costs"]
    if any(row.work is None or any(c.work is None for c in row.coverages) for row in result.rows):
        lacking.append("the raw counts of its rows")
    if lacking or not profile:
        raise Refused(
            f"run {result.id[:8]}: its record lacks {' and '.join(lacking)}, so its FLOPs cannot be computed again; "
            "records of schema 3 have them if the model was loaded"
        )
    ledger = {name: priced_account(profile, account.work) for name, account in result.ledger.items()}
    return result.model_copy(
        update={
            "versions": result.versions and result.versions.model_copy(update={"flops": FLOPS_VERSION}),
            "ledger": ledger,
            "budget": result.budget and _budget(profile, result.budget, ledger),
            "tuning": result.tuning and _tuning(result, result.tuning, ledger["tune"]),
            "rows": tuple(_row(profile, row) for row in result.rows),
            "timing": result.timing and _timing(profile, result.timing),
        }
    )


def _tuning(result: Result, tuning: Tuning, account: AccountRow) -> Tuning:
    """Return the tuning with its FLOPs repriced, if nothing else was booked to its account."""
    alone = tuning.flops == result.ledger["tune"].flops
    return tuning.model_copy(update={"flops": account.flops}) if alone else tuning


class Price(Frozen):
    """A figure as recorded, and computed again.

    Attributes:
        recorded: Figure in the record; None if it is not known.
        repriced: Figure under the present formula; None if it cannot be computed.
    """

    recorded: int | float | None
    repriced: int | float | None


class Repricing(Frozen):
    """FLOPs of a record under two versions of the formula.

    Attributes:
        flops_version: Version of the formula.
        figures: FLOPs by name, see `flops_of`.
    """

    flops_version: Price
    figures: dict[str, Price]


def repricing(result: Result) -> Repricing:
    """Return all FLOPs of a record, as recorded and under the present formula.

    Raises:
        Refused: As `reprice` does.
    """
    new = reprice(result)
    before, now = flops_of(result), flops_of(new)
    recorded = result.versions.flops if result.versions else None
    return Repricing(
        flops_version=Price(recorded=recorded, repriced=FLOPS_VERSION),
        figures={name: Price(recorded=before[name], repriced=now[name]) for name in before},
    )


def flops_of(result: Result) -> dict[str, float]:
    """Return all FLOPs of a result by name, such as `{"budget.spent": 1.2e9, "ledger.sample.flops": 1.1e9, ...}`."""
    found: dict[str, float] = {}
    if result.budget:
        for name in ("evaluation_flops", "flops", "spent"):
            found[f"budget.{name}"] = getattr(result.budget, name)
    if result.tuning:
        found["tuning.flops"] = result.tuning.flops
    for number, row in enumerate(result.rows):
        found[f"rows.{number}.cost.flops"] = row.cost.flops
        for place, coverage in enumerate(row.coverages):
            name = "coverage" if coverage is row.coverage else f"curve.{place}"
            found[f"rows.{number}.{name}.cost.flops"] = coverage.cost.flops
    for account, priced in result.ledger.items():
        found[f"ledger.{account}.flops"] = priced.flops
        found[f"ledger.{account}.hardware_flops"] = priced.hardware_flops
    if result.timing and result.timing.generation_flops is not None:
        found["timing.generation_flops"] = result.timing.generation_flops
    return found


def evaluation_cost(profile: ComputeProfile, calibration: Work) -> float:
    """Return the model FLOPs of one evaluation of the base: the mean over the calibration (account `setup`)."""
    return model_flops(profile, calibration) / calibration.evaluations


def _budget(profile: ComputeProfile, budget: BudgetInfo, ledger: Mapping[Account, AccountRow]) -> BudgetInfo:
    evaluation_flops = evaluation_cost(profile, ledger["setup"].work)
    return budget.model_copy(
        update={
            "evaluation_flops": evaluation_flops,
            "flops": _limit(budget, evaluation_flops),
            "spent": sum(ledger[name].flops for name in ADAPTATION if name in ledger),
        }
    )


def _limit(budget: BudgetInfo, evaluation_flops: float) -> int:
    """Return a budget in FLOPs. One that was given in FLOPs or in time does not depend on the cost of an evaluation."""
    given_in_evaluations = parse_budget(budget.name).unit == "evaluations"
    return int(budget.evaluations * evaluation_flops) if given_in_evaluations else budget.flops


def _row(profile: ComputeProfile, row: Row) -> Row:
    assert row.work is not None
    cost = answer_cost(profile, row.work, row.accuracy.items + row.accuracy.excluded)
    coverage = row.coverage and priced_coverage(profile, row.coverage)
    curve = tuple(priced_coverage(profile, found) for found in row.curve)
    return row.model_copy(update={"cost": cost, "coverage": coverage, "curve": curve})


def priced_coverage(profile: ComputeProfile, found: PassAtK) -> PassAtK:
    """Return pass@k with the cost of its k answers. Its work must be known, which is that of all samples."""
    assert found.work is not None
    answers = found.samples / found.k * (found.items + found.excluded)
    return found.model_copy(update={"cost": answer_cost(profile, found.work, answers)})


def _timing(profile: ComputeProfile, timing: Timing) -> Timing:
    if timing.generation_work is None:
        return timing
    return timing.model_copy(update={"generation_flops": model_flops(profile, timing.generation_work)})
