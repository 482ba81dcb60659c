"""State and steps that both stages of CoRP share: current model, choice and decision on `select`, record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, product
from typing import Any

import numpy as np

from bench.weights.points import Point, combine
from methods.corp.config import DECISION_SLACK, CorpConfig, CorpSchedule
from methods.corp.consolidation import Consolidation
from methods.corp.decision import decide, paired_correctness
from methods.interface import Context, Evaluation
from methods.search.population import next_allowance


@dataclass(frozen=True)
class Proposal:
    """A proposed step.

    Attributes:
        displacement: Displacement from the current model.
        origin: Grid entries that it was made with, such as `{"q": 0.7, "beta": 20.0, "alpha": 2.0}`.
    """

    displacement: Point
    origin: dict[str, float]


class CorpRun:
    """State of one CoRP run.

    Args:
        context: Access to the run.
        config: Settings.
        schedule: Schedule that the budget buys.

    Attributes:
        point: Current model, which the next proposal would replace.
        selected: Its evaluation on the select examples.
        decided: Its evaluation on the select examples that decide; None until a decision needs it.
    """

    def __init__(self, context: Context, config: CorpConfig, schedule: CorpSchedule) -> None:
        self.context, self.config, self.schedule = context, config, schedule
        self.report = context.report
        self.report |= {"schedule": asdict(schedule), "stages": [], "rounds": []}
        self.point = Point()
        self.decided: Evaluation | None = None
        with context.stage("base", 1) as stage:
            self.selected = self.select(self.point)
            stage.advance(self.selected.reward)

    def flops(self, evaluations: float) -> int:
        """Return the FLOPs of a number of evaluations at the base's cost."""
        return int(evaluations * self.context.evaluation_flops)

    def affordable(self, budget: int) -> int:
        """Return how many points a budget in FLOPs can score on the select examples at the base's cost; at least 1."""
        return max(1, int(budget / (self.schedule.select * self.context.evaluation_flops)))

    def select(self, point: Point, allowance: int | None = None) -> Evaluation:
        """Evaluate a point on the select examples."""
        examples = range(self.schedule.select)
        return self.context.evaluate(point, "select", account="select", examples=examples, allowance=allowance)

    def _decide(self, point: Point, allowance: int) -> Evaluation:
        """Evaluate a point on the select examples that decide, which chose nothing."""
        first = self.schedule.select
        examples = range(first, first + self.schedule.decision)
        return self.context.evaluate(point, "select", account="select", examples=examples, allowance=allowance)

    @property
    def decision_reserve(self) -> int:
        """FLOPs reserved for one evaluation at a decision of stage 2."""
        cost = self.decided.flops if self.decided else self.flops(self.schedule.decision)
        return int(DECISION_SLACK * cost)

    def choose(
        self,
        proposals: Iterable[Proposal],
        budget: int,
        name: str,
        planned: int,
        criterion: Callable[[Evaluation], float],
    ) -> tuple[Proposal, Evaluation] | None:
        """Evaluate proposals on select until a budget is spent; return the best, or the first of several best.

        Args:
            proposals: Proposals, in order of priority.
            budget: FLOPs for these evaluations.
            name: Name of the phase on the progress display.
            planned: Number of proposals that the budget is expected to cover.
            criterion: Function that returns the score of an evaluation; NaN rules the proposal out.

        Returns:
            The proposal and its evaluation; None if no proposal could be evaluated.
        """
        best: tuple[Proposal, Evaluation] | None = None
        spent: list[int] = []
        with self.context.stage(name, planned) as stage:
            waiting = self._announced(proposals, planned)
            while allowance := next_allowance(budget, self.context.remaining, spent):
                found = next(waiting, None)
                if found is None:
                    break
                proposal, point = found
                evaluation = self.select(point, allowance=allowance)
                spent.append(evaluation.flops)
                stage.advance(evaluation.reward)
                score = criterion(evaluation)
                if not np.isnan(score) and (best is None or score > criterion(best[1])):
                    best = proposal, evaluation
        return best

    def _announced(self, proposals: Iterable[Proposal], planned: int) -> Iterator[tuple[Proposal, Point]]:
        """Yield proposals with their points, and announce the first `planned` of them."""
        waiting = iter(proposals)
        expected = list(islice(waiting, planned))
        points = [self.point + proposal.displacement for proposal in expected]
        self.context.prepare(points, "select", examples=range(self.schedule.select))
        yield from zip(expected, points, strict=True)
        for proposal in waiting:
            yield proposal, self.point + proposal.displacement

    def commit(self, name: str, proposal: Proposal, selected: Evaluation, **decision: Any) -> None:
        """Make a proposal the current model.

        Args:
            name: Name of the stage or round.
            proposal: The proposal.
            selected: Its evaluation on the select examples.
            decision: What the record says about it, such as the reason.
        """
        self.point, self.selected, self.decided = self.point + proposal.displacement, selected, None
        self.report["stages"].append({"stage": name, "committed": True, **decision, "proposal": proposal.origin})

    def commit_if_better(self, name: str, proposal: Proposal, selected: Evaluation) -> bool:
        """Commit a proposal if it beats the current model on the examples that decide; return whether it did."""
        point = self.point + proposal.displacement
        with self.context.stage(f"{name}: decision", 1) as stage:
            now = self._decide(point, min(self.decision_reserve, self.context.remaining))
            stage.advance(now.reward)
        if not now.complete:
            self.abstain(name, f"needs more than {DECISION_SLACK:g} times the FLOPs of what it would replace")
            return False
        assert self.decided is not None
        decision = decide(*paired_correctness(self.decided, now), z=self.config.z, penalty=self.config.penalty)
        record = {key: value for key, value in asdict(decision).items() if key != "accepted"}
        if not decision.accepted:
            self.report["stages"].append({"stage": name, "committed": False, **record, "proposal": proposal.origin})
            return False
        self.commit(name, proposal, selected, **record)
        self.decided = now
        return True

    def prepare_decisions(self, name: str) -> bool:
        """Evaluate the current model on the examples that decide; return False if it costs too much."""
        with self.context.stage(f"{name}: decision", 1) as stage:
            now = self._decide(self.point, min(self.decision_reserve, self.context.remaining))
            stage.advance(now.reward)
        if not now.complete:
            self.abstain(name, f"the current model needs more than {DECISION_SLACK:g} times the base's FLOPs")
            return False
        self.decided = now
        return True

    def abstain(self, name: str, reason: str) -> None:
        """Record why a stage committed nothing."""
        self.report["stages"].append({"stage": name, "committed": False, "reason": reason})


def mean_displacement(consolidation: Consolidation, displacements: Sequence[Point]) -> Point:
    """Return the pass-2 mean m'. The paper's alpha * rss * u equals alpha * m'."""
    elite = (displacements[i] for i in consolidation.elite)
    return combine(zip(consolidation.pass2.tolist(), elite, strict=True))


def by_priority(count: int, *axes: tuple[float, ...]) -> list[tuple[float, ...]]:
    """Return the points of a grid, the most important first.

    Points are sorted by their largest index, so the first n^k points of k axes combine the first n entries of each
    axis. The first `count` points are then sorted again, so that points with the same direction (equal in all axes
    but the last) are consecutive.

    Args:
        count: Number of points that are expected to be evaluated.
        axes: Entries of each axis, in order of priority.
    """
    indices = sorted(product(*(range(len(axis)) for axis in axes)), key=lambda index: (max(index), sum(index), index))
    ordered = sorted(indices[:count]) + indices[count:]
    return [tuple(axis[i] for axis, i in zip(axes, index, strict=True)) for index in ordered]
