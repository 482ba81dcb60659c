"""What both stages of CoRP share: the model in force, the choice on `select`, the decision on `gate`, the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, product

import numpy as np

from bench.stats.gate import decide
from bench.weights.points import Point, combine
from methods.corp.config import CorpConfig, CorpSchedule
from methods.corp.consolidation import Consolidation
from methods.gate import judged
from methods.interface import Context, Evaluation
from methods.search.population import next_allowance


@dataclass(frozen=True)
class Proposal:
    """A displacement from the model in force, and how it was made."""

    displacement: Point
    origin: dict[str, float]


class CorpRun:
    """One run of CoRP between its steps.

    Args:
        context: Evaluates and bills.
        config: Settings.
        schedule: What the budget buys.

    Attributes:
        point: The model in force, which a proposal would replace.
        selected: What it answers on the select examples.
        gated: What it answers on the gate examples; None as long as no gate needs to know.
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
        """FLOPs of so many evaluations of the base."""
        return int(evaluations * self.context.evaluation_flops)

    def affordable(self, budget: int) -> int:
        """How many points a budget can try on the select examples, at the base's cost; at least one."""
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
        """FLOPs put aside for one look at the gate; 0 if no stage asks."""
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
        """Evaluate proposals on select while the budget lasts; return the best, the first among equals."""
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
        """Proposals and their points; as many as the budget is expected to reach are announced."""
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
        """Put a proposal in force if the gate lets it pass, or at once where the level is None; return whether."""
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
            before, now = judged(self.gated, gated)
            decision = asdict(decide(before, now, level=level, z=self.config.z, penalty=penalty))
        self.report["gates"].append({"stage": name, **decision, "proposal": proposal.origin})
        if decision["accepted"]:
            self.point, self.selected, self.gated = point, selected, gated
        return bool(decision["accepted"])

    def meet_gate(self, name: str) -> bool:
        """Let the model in force answer the gate examples, unless it has; return whether it could."""
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
        """Put on record why a stage did not get as far as a decision."""
        self.report["gates"].append({"stage": name, "accepted": False, "reason": reason})


def mean_displacement(consolidation: Consolidation, displacements: Sequence[Point]) -> Point:
    """The pass-2 mean m'; alpha * m' is the paper's alpha * rss * u."""
    elite = (displacements[i] for i in consolidation.elite)
    return combine(zip(consolidation.pass2.tolist(), elite, strict=True))


def by_priority(count: int, *axes: tuple[float, ...]) -> list[tuple[float, ...]]:
    """The cells of a grid whose axes stand in order of priority, growing as a cube so that no axis waits for another.

    The first `count` cells, those expected to be reached, are grouped by all axes but the last, which lets the steps
    along one direction follow each other.
    """
    cells = sorted(product(*(range(len(axis)) for axis in axes)), key=lambda cell: (max(cell), sum(cell), cell))
    ordered = sorted(cells[:count]) + cells[count:]
    return [tuple(axis[i] for axis, i in zip(axes, cell, strict=True)) for cell in ordered]
