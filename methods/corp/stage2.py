"""Stage 2 of CoRP (recentering): search around the current model in rounds, each of which commits at most one step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.seeds import derive
from bench.weights.points import Point, gram
from methods.corp.config import LOCAL_SHARE
from methods.corp.consolidation import consolidate_gram
from methods.corp.decision import paired_correctness
from methods.corp.recentering import (
    PrincipalDirections,
    cloud_of_positives,
    constructive,
    ess_target,
    local_displacement,
    next_isotropic,
)
from methods.corp.run import CorpRun, Proposal, by_priority, mean_displacement
from methods.interface import Evaluation
from methods.search.population import score_population

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Round:
    """Settings of one round.

    Attributes:
        name: Name on the display and in the record.
        attempt: Index of the round, from 0.
        sigma: Length of a local candidate, in units of one noise direction.
        isotropic: Share of isotropic energy in a local candidate.
        eta: Current step size.
        later: FLOPs reserved for later rounds.
    """

    name: str
    attempt: int
    sigma: float
    isotropic: float
    eta: float
    later: int

    def left(self, run: CorpRun) -> int:
        """Return the FLOPs that this round may still spend, excluding the reserve for its decision."""
        return run.context.remaining - self.later - run.decision_reserve


@dataclass(frozen=True)
class _Local:
    """A scored local population.

    Attributes:
        displacements: Displacements from the current model, [candidates].
        scores: Constructive scores, [candidates].
        products: Inner products of the displacements, [candidates, candidates].
    """

    displacements: list[Point]
    scores: Floats
    products: Floats


def recentre(run: CorpRun, cloud: PrincipalDirections, sigma: float) -> None:
    """Run stage 2.

    Args:
        run: State of the run.
        cloud: Principal directions that stage 1 found.
        sigma: Length of the first local candidates; the mean sigma that stage 1 found.
    """
    config, schedule = run.config, run.schedule
    if not run.prepare_decisions("stage 2"):
        return
    isotropic, eta = config.isotropic, 1.0
    patience, acceptances = config.patience, config.acceptances
    for attempt in range(schedule.attempts):
        # Rounds that take place in any case share the rest of the budget, so the last of them spends all of it.
        certain = min(schedule.attempts - attempt, patience, acceptances)
        later = run.context.remaining - run.context.remaining // certain
        now = _Round(f"stage 2, round {attempt + 1}", attempt, sigma, isotropic, eta, later)
        local = _score(run, now, cloud)
        if len(local.displacements) < 3:
            run.abstain(now.name, "fewer than 3 local candidates could be scored within the budget")
            break
        positive = float(np.mean(local.scores > 0))
        record: dict[str, Any] = {"sigma": sigma, "isotropic": isotropic, "eta": eta, "positive": positive}
        run.report["rounds"].append(record | {"population": len(local.displacements)})
        committed = _propose(run, now, local)
        target = ess_target(attempt, schedule.attempts, config.ess_start, config.ess_end)
        positives = cloud_of_positives(
            local.displacements, local.scores, local.products, target=target, rank=config.rank
        )
        cloud = positives or cloud
        isotropic = next_isotropic(isotropic, positive)
        if committed:
            eta, patience, acceptances = committed.origin["eta"], config.patience, acceptances - 1
        else:
            sigma, patience = sigma / 2, patience - 1
        if not (patience and acceptances):
            break


def _score(run: CorpRun, now: _Round, cloud: PrincipalDirections) -> _Local:
    """Score local candidates on select until their share of the round is spent."""
    seed, config = run.context.seed, run.config
    normals = np.random.default_rng(derive(seed, "corp", "local", now.attempt))

    def draw(index: int) -> Point:
        return local_displacement(
            derive(seed, "corp", "local", now.attempt, index),
            cloud,
            normals.standard_normal(len(cloud.directions)),
            sigma=now.sigma,
            isotropic=now.isotropic,
            noise=config.drawn,
            low_rank_energy=config.low_rank_energy,
        )

    scored = score_population(
        run.context,
        f"{now.name}: population",
        draw,
        "select",
        range(run.schedule.select),
        budget=int(LOCAL_SHARE * now.left(run)),
        place=run.point.__add__,
    )
    pairs = [(candidate.displacement, _constructive(run, candidate.evaluation)) for candidate in scored]
    pairs = [(displacement, score) for displacement, score in pairs if not np.isnan(score)]
    displacements = [displacement for displacement, _ in pairs]
    return _Local(displacements, np.array([score for _, score in pairs]), gram(displacements))


def _propose(run: CorpRun, now: _Round, local: _Local) -> Proposal | None:
    """Consolidate the local population, choose a step and its length on select; return the proposal if committed."""
    config = run.config

    def criterion(evaluation: Evaluation) -> float:
        return _constructive(run, evaluation)

    budget = now.left(run) - run.flops(len(config.line_search) * run.schedule.select)
    count = run.affordable(budget)

    @cache
    def mean(q: float, beta: float) -> Point:
        consolidation = consolidate_gram(
            local.scores, local.products, q=q, beta=beta, rank=config.rank, reweight=config.reweight
        )
        return mean_displacement(consolidation, local.displacements)

    def propose() -> Iterator[Proposal]:
        for q, beta, factor in by_priority(count, config.quantiles, config.betas, config.etas):
            eta = factor * now.eta
            yield Proposal(eta * mean(q, beta), {"q": q, "beta": beta, "eta": eta, "alpha": 1.0})

    chosen = run.choose(propose(), budget, f"{now.name}: proposals", count, criterion)
    if chosen:
        scaled = [
            Proposal(alpha * chosen[0].displacement, chosen[0].origin | {"alpha": alpha})
            for alpha in config.line_search
        ]
        scaled_best = run.choose(scaled, now.left(run), f"{now.name}: line search", len(scaled), criterion)
        if scaled_best and criterion(scaled_best[1]) > criterion(chosen[1]):
            chosen = scaled_best
    if not chosen:
        run.abstain(now.name, "no proposal could be evaluated within the budget")
    elif criterion(chosen[1]) <= 0:
        run.abstain(now.name, "no proposal is constructive on the select split")
    elif run.commit_if_better(now.name, *chosen):
        return chosen[0]
    return None


def _constructive(run: CorpRun, evaluation: Evaluation) -> float:
    """Return the constructive score against the current model on the select examples; NaN if incomplete."""
    if not evaluation.complete:
        return float("nan")
    before, now = paired_correctness(run.selected, evaluation)
    return constructive(before, now, run.config.penalty)
