"""CoRP end to end: population, stage 1, gate, stage 2, each stage within its part of the budget.

What differs from the released code, and why: noise is i.i.d. over tensors; the base is scored wherever a candidate is;
proposals are chosen on `select` and decided on `gate`, whose error rate covers every look; the line search runs on
`select`, so that each round asks the gate once; the low-rank part of a local candidate carries its share of the energy;
and every evaluation is billed. A proposal that the base beats on `select` is not put to the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.seeds import derive
from bench.weights.points import Point, combine, gram
from methods.corp.config import LOCAL_SHARE, CorpConfig, Schedule, describe, make_schedule
from methods.corp.consolidation import Consolidation, consolidate, consolidate_gram
from methods.corp.gate import GateDecision, decide
from methods.corp.recentering import (
    Cloud,
    cloud_of_positives,
    constructive,
    ess_target,
    local_displacement,
    next_isotropic,
)
from methods.interface import AdaptationSplit, Artifact, Context, Evaluation, Method, Plan, SingleModel


class Corp(Method):
    """Reward-weighted consolidation of random weight perturbations into one model, behind a held-out gate."""

    name = "corp"
    version = "1"
    Config = CorpConfig
    config: CorpConfig

    def plan(self, evaluations: int, sizes: dict[str, int]) -> Plan:
        """Return the schedule that this budget buys."""
        return describe(make_schedule(evaluations, sizes, self.config), self.config)

    def adapt(self, context: Context) -> Artifact:
        """Run stage 1, and stage 2 where the schedule holds it; return the last model that passed the gate."""
        evaluations = round(context.budget / context.evaluation_flops)
        schedule = make_schedule(evaluations, context.sizes, self.config)
        run = _Run(context, self.config, schedule)
        cloud, sigma = run.consolidate_population()
        if schedule.attempts:
            run.recentre(cloud, sigma)
        return SingleModel(run.centre.point, run.report)


@dataclass
class _Centre:
    """The model that a proposal would replace, and what it answers on the two deciding splits."""

    point: Point
    select: Evaluation
    gate: Evaluation


@dataclass(frozen=True)
class _Proposal:
    """A displacement from the centre, and how it was made."""

    displacement: Point
    origin: dict[str, float]


class _Run:
    def __init__(self, context: Context, config: CorpConfig, schedule: Schedule) -> None:
        self.context, self.config, self.schedule = context, config, schedule
        self.report: dict[str, Any] = {"schedule": asdict(schedule), "gates": [], "rounds": []}
        with context.stage("base", 2) as stage:
            self.centre = _Centre(Point(), self.select(Point()), self.evaluate_gate(Point(), None))
            stage.advance(self.centre.select.reward)
            stage.advance()

    def flops(self, evaluations: float) -> int:
        """FLOPs of so many evaluations of the base."""
        return int(evaluations * self.context.evaluation_flops)

    def select(self, point: Point, allowance: int | None = None) -> Evaluation:
        """Evaluate a point on the select split."""
        size = self.schedule.select
        return self.context.evaluate(point, "select", account="select", size=size, allowance=allowance)

    def evaluate_gate(self, point: Point, allowance: int | None) -> Evaluation:
        """Evaluate a point on the gate split."""
        size = self.schedule.gate
        return self.context.evaluate(point, "gate", account="gate", size=size, allowance=allowance)

    @property
    def gate_reserve(self) -> int:
        """FLOPs put aside for one look at the gate."""
        return int(self.config.gate_slack * self.centre.gate.flops)

    # Stage 1

    def consolidate_population(self) -> tuple[Cloud, float]:
        """Score a population, consolidate it, put the best proposal to the gate; return its cloud and mean sigma."""
        reserve = self.flops(self.schedule.recentering) + (1 + self.schedule.rounds) * self.gate_reserve
        proposing = max(0, self.flops(self.schedule.proposals) - self.centre.select.flops)
        points, rewards, sigmas = self.sample_population(self.context.remaining - reserve - proposing)
        if not points:
            self.abstain("stage 1", "no candidate could be scored within the budget")
            return Cloud((), ()), float(np.mean(self.config.sigmas))
        budget = self.context.remaining - reserve
        count = self.affordable(budget, self.schedule.select)
        grid = _by_priority(count, self.config.quantiles, self.config.betas, self.config.alphas)

        @cache
        def consolidated(q: float, beta: float) -> Consolidation:
            return consolidate(rewards, sigmas, q=q, beta=beta, rank=self.config.rank)

        def propose() -> Iterator[_Proposal]:
            for q, beta, alpha in grid:
                yield _Proposal(alpha * _mean(consolidated(q, beta), points), {"q": q, "beta": beta, "alpha": alpha})

        chosen, evaluation = self.choose(propose(), budget, "stage 1: proposals", count, _reward)
        q, beta = (chosen.origin["q"], chosen.origin["beta"]) if chosen else grid[0][:2]
        best = consolidated(q, beta)
        self.report["stage1"] = _stage_report(best, rewards, sigmas) | {
            "population": len(points),
            "chosen": chosen.origin if chosen else None,
            "base_select_reward": self.centre.select.reward,
            "chosen_select_reward": evaluation.reward if evaluation else None,
        }
        if chosen and evaluation:
            if evaluation.reward < self.centre.select.reward:
                self.abstain("stage 1", "the base is better on the select split than every proposal")
            else:
                self.ask_gate("stage 1", chosen, evaluation, self.schedule.first_level, penalty=1.0)
        else:
            self.abstain("stage 1", "no proposal could be evaluated within the budget")
        return Cloud.of(best, points), float(best.pass2 @ sigmas[best.elite])

    def sample_population(self, budget: int) -> tuple[list[Point], NDArray[np.float64], NDArray[np.float64]]:
        """Score single perturbations on the support split until the budget is spent."""
        sigmas = np.random.default_rng(derive(self.context.seed, "corp", "sigma"))

        def draw(index: int) -> Point:
            return Point(
                {derive(self.context.seed, "corp", "population", index): float(sigmas.choice(self.config.sigmas))}
            )

        size = self.schedule.support
        scored = self.sample("stage 1: population", self.schedule.population, budget, draw, "support", size)
        scored = [(point, evaluation) for point, evaluation in scored if not np.isnan(evaluation.reward)]
        points = [point for point, _ in scored]
        rewards = np.array([evaluation.reward for _, evaluation in scored])
        return points, rewards, np.array([point.norm for point in points])

    def sample(
        self,
        name: str,
        planned: int,
        budget: int,
        draw: Callable[[int], Point],
        split: AdaptationSplit,
        size: int,
    ) -> list[tuple[Point, Evaluation]]:
        """Evaluate displacements from the centre while the budget lasts; what it cuts off is spent and left out."""
        scored: list[tuple[Point, Evaluation]] = []
        spent: list[int] = []
        with self.context.stage(name, planned) as stage:
            while _affords(budget, spent):
                displacement = draw(len(spent))
                evaluation = self.context.evaluate(
                    self.centre.point + displacement,
                    split,
                    account="sample",
                    size=size,
                    allowance=budget - sum(spent),
                )
                if not evaluation.complete:
                    break
                spent.append(evaluation.flops)
                scored.append((displacement, evaluation))
                stage.advance(evaluation.reward)
        return scored

    # Stage 2

    def recentre(self, cloud: Cloud, sigma: float) -> None:
        """Search around the centre in rounds; each ends in at most one look at the gate."""
        config = self.config
        isotropic, eta = config.isotropic, 1.0
        patience, acceptances = config.patience, config.acceptances
        for attempt in range(self.schedule.attempts):
            # Rounds that take place even if all fail share what is left, so that the last one spends it.
            certain = min(self.schedule.attempts - attempt, patience, acceptances)
            share = self.context.remaining // certain - self.gate_reserve
            name = f"stage 2, round {attempt + 1}"
            displacements, scores = self.sample_local(
                name, attempt, cloud, int(LOCAL_SHARE * share), sigma=sigma, isotropic=isotropic
            )
            if len(displacements) < 3:
                self.abstain(name, "fewer than 3 local candidates could be scored within the budget")
                break
            products = gram(displacements)
            positive = float(np.mean(scores > 0))
            record: dict[str, Any] = {"sigma": sigma, "isotropic": isotropic, "eta": eta, "positive": positive}
            record["population"] = len(displacements)
            self.report["rounds"].append(record)
            accepted = self.propose_local(name, displacements, scores, products, eta, certain)
            target = ess_target(attempt, self.schedule.attempts, config.ess_start, config.ess_end)
            cloud = cloud_of_positives(displacements, scores, products, target=target, rank=config.rank) or cloud
            isotropic = next_isotropic(isotropic, positive)
            if accepted:
                eta, patience, acceptances = accepted.origin["eta"], config.patience, acceptances - 1
            else:
                sigma, patience = sigma / 2, patience - 1
            if not (patience and acceptances):
                break

    def sample_local(
        self, name: str, attempt: int, cloud: Cloud, budget: int, *, sigma: float, isotropic: float
    ) -> tuple[list[Point], NDArray[np.float64]]:
        """Score local candidates around the centre on the select split until the budget is spent."""
        normals = np.random.default_rng(derive(self.context.seed, "corp", "local", attempt))

        def draw(index: int) -> Point:
            seed = derive(self.context.seed, "corp", "local", attempt, index)
            z = normals.standard_normal(len(cloud.directions))
            return local_displacement(seed, cloud, z, sigma=sigma, isotropic=isotropic)

        planned = self.affordable(budget, self.schedule.select)
        sampled = self.sample(f"{name}: population", planned, budget, draw, "select", self.schedule.select)
        scored = [(displacement, self.constructive(evaluation)) for displacement, evaluation in sampled]
        scored = [(displacement, score) for displacement, score in scored if not np.isnan(score)]
        return [displacement for displacement, _ in scored], np.array([score for _, score in scored])

    def propose_local(
        self,
        name: str,
        displacements: list[Point],
        scores: NDArray[np.float64],
        products: NDArray[np.float64],
        eta: float,
        certain: int,
    ) -> _Proposal | None:
        """Consolidate the local population, choose a step on select, ask the gate; return what was accepted."""
        config = self.config
        budget = self.context.remaining // certain - self.gate_reserve
        line_search = self.flops(len(config.line_search) * self.schedule.select)
        count = self.affordable(budget - line_search, self.schedule.select)

        def propose() -> Iterator[_Proposal]:
            for q, beta, factor in _by_priority(count, config.quantiles, config.betas, config.etas):
                local = consolidate_gram(scores, products, q=q, beta=beta, rank=config.rank)
                origin = {"q": q, "beta": beta, "eta": factor * eta, "alpha": 1.0}
                yield _Proposal(factor * eta * _mean(local, displacements), origin)

        chosen, evaluation = self.choose(
            propose(), budget - line_search, f"{name}: proposals", count, self.constructive
        )
        if chosen and evaluation:
            scaled = [
                _Proposal(alpha * chosen.displacement, chosen.origin | {"alpha": alpha}) for alpha in config.line_search
            ]
            left = self.context.remaining // certain - self.gate_reserve
            longer, measured = self.choose(scaled, left, f"{name}: line search", len(scaled), self.constructive)
            if longer and measured and self.constructive(measured) > self.constructive(evaluation):
                chosen, evaluation = longer, measured
        if not (chosen and evaluation):
            self.abstain(name, "no proposal could be evaluated within the budget")
        elif self.constructive(evaluation) <= 0:
            self.abstain(name, "no proposal is constructive on the select split")
        elif self.ask_gate(name, chosen, evaluation, self.schedule.later_level, penalty=config.penalty):
            return chosen
        return None

    def constructive(self, evaluation: Evaluation) -> float:
        """Fixes less penalised regressions against the centre, on the select split; NaN if incomplete."""
        if not evaluation.complete:
            return float("nan")
        before, now = _judged(self.centre.select, evaluation)
        return constructive(before, now, self.config.penalty)

    # Both stages

    def affordable(self, budget: int, examples: int) -> int:
        """How many evaluations of so many examples a budget buys, at the base's cost; at least one."""
        return max(1, int(budget / (examples * self.context.evaluation_flops)))

    def choose(
        self,
        proposals: Iterable[_Proposal],
        budget: int,
        name: str,
        planned: int,
        criterion: Callable[[Evaluation], float],
    ) -> tuple[_Proposal | None, Evaluation | None]:
        """Evaluate proposals on select while the budget lasts; return the best, the first among equals."""
        best: tuple[_Proposal | None, Evaluation | None] = (None, None)
        spent: list[int] = []
        with self.context.stage(name, planned) as stage:
            for proposal in proposals:
                if not _affords(budget, spent):
                    break
                evaluation = self.select(self.centre.point + proposal.displacement, allowance=budget - sum(spent))
                spent.append(evaluation.flops)
                stage.advance(evaluation.reward)
                score = criterion(evaluation)
                if not np.isnan(score) and (best[1] is None or score > criterion(best[1])):
                    best = proposal, evaluation
        return best

    def ask_gate(self, name: str, proposal: _Proposal, select: Evaluation, level: float, *, penalty: float) -> bool:
        """Put one proposal to the gate; make it the centre if it passes."""
        point = self.centre.point + proposal.displacement
        with self.context.stage(f"{name}: gate", 1) as stage:
            gate = self.evaluate_gate(point, min(self.gate_reserve, self.context.remaining))
            stage.advance(gate.reward)
        if not gate.complete:
            self.abstain(name, f"needs more than {self.config.gate_slack:g} times the FLOPs of what it would replace")
            return False
        before, now = _judged(self.centre.gate, gate)
        decision = decide(before, now, level=level, z=self.config.z, penalty=penalty)
        self.note_gate(name, proposal, decision)
        if decision.accepted:
            self.centre = _Centre(point, select, gate)
        return decision.accepted

    def note_gate(self, name: str, proposal: _Proposal, decision: GateDecision) -> None:
        """Put a decision on record."""
        self.report["gates"].append({"stage": name, **asdict(decision), "proposal": proposal.origin})

    def abstain(self, name: str, reason: str) -> None:
        """Put on record why a stage did not get as far as a decision."""
        self.report["gates"].append({"stage": name, "accepted": False, "reason": reason})


def _reward(evaluation: Evaluation) -> float:
    return evaluation.reward


def _affords(budget: int, spent: Sequence[int]) -> bool:
    """Whether a budget covers one more evaluation at the mean cost of those before; the first is always tried."""
    return budget > 0 and sum(spent) + (sum(spent) / len(spent) if spent else 0) <= budget


def _mean(consolidation: Consolidation, displacements: Sequence[Point]) -> Point:
    """The pass-2 mean m'; alpha * m' is the paper's alpha * rss * u."""
    elite = (displacements[i] for i in consolidation.elite)
    return combine(zip(consolidation.pass2.tolist(), elite, strict=True))


def _judged(before: Evaluation, now: Evaluation) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Correctness of both on the examples that the judge could judge for both."""
    judged = ~(np.isnan(before.rewards) | np.isnan(now.rewards))
    return before.correct[judged], now.correct[judged]


def _by_priority(count: int, *axes: tuple[float, ...]) -> list[tuple[float, ...]]:
    """The cells of a grid whose axes stand in order of priority, growing as a cube so that no axis waits for another.

    The first `count` cells, those expected to be reached, are grouped by all axes but the last, which lets the steps
    along one direction follow each other.
    """
    cells = sorted(product(*(range(len(axis)) for axis in axes)), key=lambda cell: (max(cell), sum(cell), cell))
    ordered = sorted(cells[:count]) + cells[count:]
    return [tuple(axis[i] for axis, i in zip(axes, cell, strict=True)) for cell in ordered]


def _stage_report(
    consolidation: Consolidation, rewards: NDArray[np.float64], sigmas: NDArray[np.float64]
) -> dict[str, Any]:
    """What a reader needs to see how much of the population the direction really rests on."""
    elite_sigmas = sigmas[consolidation.elite]
    return {
        "rewards": rewards.tolist(),
        "sigmas": sigmas.tolist(),
        "elite": consolidation.elite.tolist(),
        "weights": consolidation.pass2.tolist(),
        "effective_sample_size": consolidation.effective_sample_size,
        "largest_weight": float(consolidation.pass2.max()),
        "weight_by_sigma": {
            f"{sigma:g}": float(consolidation.pass2[elite_sigmas == sigma].sum()) for sigma in np.unique(elite_sigmas)
        },
        "norm": consolidation.norm,
        "kappa": consolidation.kappa if np.isfinite(consolidation.kappa) else None,
        "effective_rank": consolidation.effective_rank,
        "eigenvalues": consolidation.eigenvalues.tolist(),
        "trace": consolidation.trace,
    }
