"""State and steps that both stages of CoRP share: current model, choice on `select`, decision on `gate`, record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, product

import numpy as np

from bench.stats.gate import decide
from bench.weights.points import Point, combine
from methods.corp.config import CorpConfig, CorpSchedule
from methods.corp.consolidation import Consolidation
from methods.gate import paired_correctness
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
        gated: Its evaluation on the gate examples; None until a gate needs it.
    """

    def __init__(self, context: Context, config: CorpConfig, schedule: CorpSchedule) -> None:
        self.context, self.config, self.schedule = context, config, schedule
        self.report = context.report
        self.report |= {"schedule": asdict(schedule), "gates": [], "rounds": []}
        self.point = Point()
        self.gated: Evaluation | None = None
        with context.stage("base", 2) as stage:
            self.selected = self.select(self.point)
            stage.advance(self.selected.reward)
            if schedule.first_level is not None:
                self.gated = self._gate(self.point, None)
            stage.advance()

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

    def _gate(self, point: Point, allowance: int | None) -> Evaluation:
        examples = range(self.schedule.gate)
        return self.context.evaluate(point, "gate", account="gate", examples=examples, allowance=allowance)

    @property
    def gate_reserve(self) -> int:
        """FLOPs reserved for one evaluation at the gate; 0 if no stage has a gate."""
        cost = self.gated.flops if self.gated else self.flops(self.schedule.gate)
        return int(self.config.gate_slack * cost)

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

    def commit(
        self, name: str, proposal: Proposal, selected: Evaluation, level: float | None, *, penalty: float
    ) -> bool:
        """Commit a proposal if the gate accepts it, or without a gate; return whether it was committed.

        Args:
            name: Name of the stage or round.
            proposal: The proposal.
            selected: Its evaluation on the select examples.
            level: Significance level of the gate; None for no gate.
            penalty: Cost of a regression, in units of a fix.
        """
        point = self.point + proposal.displacement
        if level is None:
            reason = f"no gate: gate = {self.config.gate} commits what the select split chose"
            decision = {"accepted": True, "reason": reason}
            gated = None
        else:
            with self.context.stage(f"{name}: gate", 1) as stage:
                gated = self._gate(point, min(self.gate_reserve, self.context.remaining))
                stage.advance(gated.reward)
            if not gated.complete:
                slack = f"{self.config.gate_slack:g}"
                self.abstain(name, f"needs more than {slack} times the FLOPs of what it would replace")
                return False
            assert self.gated is not None
            before, now = paired_correctness(self.gated, gated)
            decision = asdict(decide(before, now, level=level, z=self.config.z, penalty=penalty))
        self.report["gates"].append({"stage": name, **decision, "proposal": proposal.origin})
        if decision["accepted"]:
            self.point, self.selected, self.gated = point, selected, gated
        return bool(decision["accepted"])

    def evaluate_on_gate(self, name: str) -> bool:
        """Evaluate the current model on the gate examples if that is still to do; return False if it costs too much."""
        if self.gated is None:
            with self.context.stage(f"{name}: gate", 1) as stage:
                gated = self._gate(self.point, min(self.gate_reserve, self.context.remaining))
                stage.advance(gated.reward)
            if not gated.complete:
                self.abstain(
                    name, f"the model in force needs more than {self.config.gate_slack:g} times the base's FLOPs"
                )
                return False
            self.gated = gated
        return True

    def abstain(self, name: str, reason: str) -> None:
        """Record why a stage ended without a decision."""
        self.report["gates"].append({"stage": name, "accepted": False, "reason": reason})


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
