"""Check of a record's FLOPs, budget, tuning and times: what follows from its raw counts and the model's costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from bench.compute.budget import parse_budget
from bench.compute.flops import FLOPS_VERSION, is_present_rule
from bench.compute.ledger import ADAPTATION, Account, Work, model_flops
from bench.compute.profile import ComputeProfile
from bench.errors import shown
from bench.records import pricing
from bench.records.rows import Row
from bench.records.schema import BudgetInfo, Result
from bench.records.source import DeclaredSource
from bench.records.tuning import Trial
from reports.alike import alike, differences

TIMED = 2.0
"""Factor by which the cost of an evaluation may differ from the mean over `setup` under a budget in device time."""

Found = Iterator[tuple[str, Any, str]]
"""Fields that contradict others: the name, the value, and what was expected."""


def check_flops(result: Result, answers: int) -> Found:
    """Compare FLOPs with raw counts.

    Args:
        result: Result of a run.
        answers: Number of test items.
    """
    if result.versions is not None and result.versions.flops > FLOPS_VERSION:
        yield "versions.flops", result.versions.flops, f"at most {FLOPS_VERSION}, the present formula"
    if (profile := _priced(result)) is not None:
        for account, booked in result.ledger.items():
            yield from differences(f"ledger.{account}", booked, pricing.priced_account(profile, booked.work))
    for number, row in enumerate(result.rows):
        if row.work is None:
            if profile is not None:
                yield f"rows[{number}].work", None, "raw counts, as the model's costs are known"
        elif answers:
            cost = pricing.counted_cost(row.work, answers, row.cost.flops * answers)
            expected = cost if profile is None else pricing.answer_cost(profile, row.work, answers)
            yield from differences(f"rows[{number}].cost", row.cost, expected)
    yield from _accounts(result, answers)


def _priced(result: Result) -> ComputeProfile | None:
    """Return the costs of the model if the FLOPs of a record follow from them under the present formula."""
    present = result.versions is not None and is_present_rule(result.versions.flops)
    return result.model.costs if result.model and present else None


def check_budget(result: Result) -> Found:
    """Compare the budget with the one that was given, and what was planned and spent with the ledger."""
    budget = result.budget
    if budget is None:
        return
    if not math.isfinite(budget.evaluation_flops) or budget.evaluation_flops <= 0:
        yield "budget.evaluation_flops", budget.evaluation_flops, "a number above 0"
        return
    if budget.name != result.config.budget:
        yield "budget.name", budget.name, f"{result.config.budget}, which config.budget is"
    setup = result.ledger.get("setup")
    if (profile := _priced(result)) is not None and setup:
        measured = pricing.evaluation_cost(profile, setup.work) if setup.work.evaluations else 0.0
        # The measurement of the speed answers the same examples in larger batches, which may round to longer answers.
        timed = parse_budget(budget.name).unit == "seconds"
        near = measured / TIMED <= budget.evaluation_flops <= measured * TIMED
        if not (near if timed else alike(budget.evaluation_flops, measured)):
            about = "about " if timed else ""
            yield "budget.evaluation_flops", budget.evaluation_flops, f"{about}{measured}, the mean over account setup"
    yield from _size(result, budget)
    if sum(budget.planned.values()) > budget.evaluations:
        yield "budget.planned", budget.planned, f"at most {budget.evaluations} evaluations, the budget"
    if "gate" in result.ledger and not budget.planned.get("gate"):
        yield "budget.planned.gate", budget.planned.get("gate"), "a number above 0, as the ledger has an account gate"
    spent = sum(result.ledger[account].flops for account in ADAPTATION if account in result.ledger)
    if budget.spent != spent:
        yield "budget.spent", budget.spent, f"{spent}, the sum of the ledger's accounts {', '.join(ADAPTATION)}"
    if budget.spent > budget.flops:
        yield "budget.spent", budget.spent, f"at most {budget.flops}, the budget"
    planned = sum(count for account, count in budget.planned.items() if account != "gate")
    own = spent - (result.ledger["gate"].flops if "gate" in result.ledger else 0)
    registered = ":" not in result.config.method  # a class that somebody is still writing may plan what it does not do
    if registered and planned and not own and any(row.changed for row in result.artifacts):
        yield "ledger", list(result.ledger), f"an account of the {planned} evaluations that were planned to change rows"


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


def check_tuning(result: Result) -> Found:
    """Compare the trials with the configuration, with the ledger's account, and with what they chose."""
    tuning, trials = result.tuning, result.config.tune if result.source is None else 0
    if tuning is None:
        if trials and result.status == "ok":
            yield "tuning", None, f"{trials} trials, as config.tune is {trials}"
        return
    if not trials:
        yield "tuning", len(tuning.trials), "null, as the run had no trials"
        return
    booked = result.ledger["tune"].flops if "tune" in result.ledger else 0
    if tuning.flops > booked:  # the final run may book to this account as well
        yield "tuning.flops", tuning.flops, f"at most {booked}, the ledger's account tune"
    if (total := sum(trial.flops for trial in tuning.trials)) != tuning.flops:
        yield "tuning.trials", total, f"{tuning.flops} FLOPs in all, which tuning.flops is"
    planned = result.budget.planned.get("tune", 0) if result.budget else 0
    if (evaluations := sum(trial.evaluations for trial in tuning.trials)) > planned:
        yield "tuning.trials.evaluations", evaluations, f"at most {planned} in all, which budget.planned.tune is"
    names = [(trial.rung, trial.trial) for trial in tuning.trials]
    if len(set(names)) < len(names):
        yield "tuning.trials", names, "each trial of each rung once"
    if {trial.trial for trial in tuning.trials if trial.rung == 1} != set(range(trials)):
        yield "tuning.trials", names, f"trials 0 to {trials - 1} in rung 1, as config.tune is {trials}"
    settings: dict[int, Any] = {0: {}}
    for trial in tuning.trials:
        yield from _trial(trial)
        if trial.settings != (known := settings.setdefault(trial.trial, trial.settings)):
            what = "those of trial 0" if not trial.trial else f"those of trial {trial.trial} in the rung before"
            yield "tuning.trials.settings", trial.settings, f"{shown(known)}, {what}"
    scored = [trial for trial in tuning.trials if trial.score is not None]
    best = min(scored, key=_best_first).trial if scored else 0
    if tuning.trial != best:
        yield "tuning.trial", tuning.trial, f"{best}, the best trial of the latest rung"
    if tuning.chosen != settings.get(tuning.trial):
        yield "tuning.chosen", tuning.chosen, f"{shown(settings.get(tuning.trial))}, the settings of the chosen trial"


def _best_first(trial: Trial) -> tuple[float, ...]:
    return -trial.rung, -(trial.score or 0), -(trial.reward or 0), trial.trial


def _trial(trial: Trial) -> Found:
    scored = trial.score is not None
    if (trial.items > 0, trial.reward is not None, trial.reason is None) != (scored,) * 3:
        given = {"items": trial.items, "score": trial.score, "reward": trial.reward, "reason": trial.reason}
        yield "tuning.trials.score", given, "items, a score and a reward, or else a reason"
    if trial.score is not None and not alike(float(round(trial.score * trial.items)), trial.score * trial.items):
        yield "tuning.trials.score", trial.score, f"a share of {trial.items} items"


def check_timing(result: Result) -> Found:
    """Compare the times with one another, and what was generated meanwhile with its raw counts."""
    timing = result.timing
    if timing is None:
        return
    if (named := sum(timing.kinds.values())) > timing.total and not alike(named, timing.total):
        yield "timing.kinds", named, f"at most {timing.total} seconds in all, which timing.total is"
    if (work := timing.generation_work) is None:
        return
    if timing.new_tokens != work.decode_tokens:
        yield "timing.new_tokens", timing.new_tokens, f"{work.decode_tokens}, which timing.generation_work has"
    if (profile := _priced(result)) is not None and timing.generation_flops != (flops := model_flops(profile, work)):
        yield "timing.generation_flops", timing.generation_flops, f"{flops}, which timing.generation_work gives"


def _accounts(result: Result, answers: int) -> Found:
    """Compare the ledger's accounts of answers with the work of the rows, and name accounts that are missing."""
    if "analysis" in result.ledger:
        yield "ledger.analysis", result.ledger["analysis"].flops, "no such account: it is of work on finished runs"
    if result.status == "ok" and "setup" not in result.ledger and not isinstance(result.source, DeclaredSource):
        yield "ledger.setup", None, "the account on which the cost of an evaluation was measured"
    accounts: tuple[tuple[Account, tuple[Row, ...]], ...] = (
        ("evaluation", result.rows[:1]),
        ("inference", result.artifacts),
    )
    for account, rows in accounts:
        works = [row.work for row in rows] + [row.coverage.work for row in rows if row.coverage]
        known = [work for work in works if work is not None]
        total = sum(known, Work())
        if account not in result.ledger:
            if len(known) < len(works) or total != Work():
                yield f"ledger.{account}", None, "the account of the answers of the rows"
            continue
        booked = result.ledger[account].work
        if rows and len(known) == len(works) and booked != total:
            part = next(name for name, count in booked.model_dump().items() if count != total.model_dump()[name])
            counts = booked.model_dump()[part], total.model_dump()[part]
            yield f"ledger.{account}.work.{part}", counts[0], f"{counts[1]}, the sum over the rows"
        if rows and answers:
            yield from _costs(result, account, rows, answers)


def _costs(result: Result, account: Account, rows: tuple[Row, ...], answers: int) -> Found:
    """Compare an account of answers with the costs of these answers. This needs no costs of the model."""
    costs = [(row.cost, float(answers)) for row in rows]
    costs += [(c.cost, c.samples / c.k * (c.items + c.excluded)) for row in rows if (c := row.coverage)]
    booked = result.ledger[account]
    names = {
        "work.evaluations": (booked.work.evaluations, "evaluations"),
        "work.decode_tokens": (booked.work.decode_tokens, "new_tokens"),
        "flops": (booked.flops, "flops"),
    }
    for name, (count, part) in names.items():
        total = sum(getattr(cost, part) * number for cost, number in costs)
        if not alike(float(count), total):
            yield f"ledger.{account}.{name}", count, f"{total}, which the costs of the rows' answers give"
