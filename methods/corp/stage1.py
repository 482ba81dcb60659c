"""Stage 1 of CoRP: score a population, consolidate it, and commit the best step along a consolidated direction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.seeds import derive
from bench.weights.points import Point
from methods.corp.config import CorpConfig
from methods.corp.consolidation import Consolidation, consolidate
from methods.corp.recentering import PrincipalDirections
from methods.corp.run import CorpRun, Proposal, by_priority, mean_displacement
from methods.interface import Evaluation
from methods.search.population import Candidate, score_population
from methods.search.race import Racing, race_population

Floats = NDArray[np.float64]


def consolidate_population(run: CorpRun) -> tuple[PrincipalDirections, float]:
    """Run stage 1.

    Returns:
        Principal directions of the consolidated population, and the mean sigma by pass-2 weight.
    """
    config, name = run.config, "stage 1"
    reserve = run.flops(run.schedule.recentering)
    proposing = max(0, run.flops(run.schedule.proposals) - run.selected.flops)
    scored = _score(run, run.context.remaining - reserve - proposing)
    if not any(candidate.finalist for candidate in scored):
        run.abstain(name, "no candidate could be scored within the budget")
        return PrincipalDirections((), ()), float(np.mean(config.sigmas))
    points = [candidate.displacement for candidate in scored]
    sigmas = np.array([point.norm for point in points])
    rewards = np.array([candidate.evaluation.reward if candidate.finalist else -math.inf for candidate in scored])
    budget = run.context.remaining - reserve
    count = run.affordable(budget)
    grid = by_priority(count, config.quantiles, config.betas, config.alphas)

    @cache
    def consolidated(q: float, beta: float) -> Consolidation:
        return consolidate(rewards, sigmas, q=q, beta=beta, rank=config.rank, reweight=config.reweight)

    @cache
    def mean(q: float, beta: float) -> Point:
        return mean_displacement(consolidated(q, beta), points)

    def propose() -> Iterator[Proposal]:
        for q, beta, alpha in grid:
            yield Proposal(alpha * mean(q, beta), {"q": q, "beta": beta, "alpha": alpha})

    chosen = run.choose(propose(), budget, f"{name}: proposals", count, _reward)
    q, beta = (chosen[0].origin["q"], chosen[0].origin["beta"]) if chosen else grid[0][:2]
    best = consolidated(q, beta)
    run.report["stage1"] = _report(best, scored, sigmas) | {
        "chosen": chosen[0].origin if chosen else None,
        "base_select_reward": run.selected.reward,
        "chosen_select_reward": chosen[1].reward if chosen else None,
    }
    if not chosen:
        run.abstain(name, "no proposal could be evaluated within the budget")
    elif not chosen[1].reward > run.selected.reward:
        run.abstain(name, "no proposal scores above the base on the select split")
    else:
        scores = f"{chosen[1].reward:.3f} against the base's {run.selected.reward:.3f}"
        run.commit(name, *chosen, reason=f"the best proposal scores above the base on the select split: {scores}")
    return PrincipalDirections.of(best, points), float(best.pass2 @ sigmas[best.elite])


def _score(run: CorpRun, budget: int) -> list[Candidate]:
    """Score single perturbations on support until a budget is spent; leave out those without any scored example."""
    seed, config = run.context.seed, run.config
    sigmas = np.random.default_rng(derive(seed, "corp", "sigma"))

    def draw(index: int) -> Point:
        sigma = float(sigmas.choice(config.sigmas))
        return Point({derive(seed, "corp", "population", index): sigma}, noise=config.drawn)

    name, examples = "stage 1: population", range(run.schedule.support)
    if config.racing:
        racing = Racing(lambda size: elite_size(size, config), config.confidence, lambda evaluation: evaluation.rewards)
        scored = race_population(run.context, name, draw, "support", examples, racing, budget=budget)
    else:
        scored = score_population(run.context, name, draw, "support", examples, budget=budget)
    return [candidate for candidate in scored if not np.isnan(candidate.evaluation.reward)]


def elite_size(population: int, config: CorpConfig) -> int:
    """Return how many of the best candidates determine the elite: its members and the next one, for interpolation."""
    return population - math.floor((population - 1) * min(config.quantiles))


def _reward(evaluation: Evaluation) -> float:
    return evaluation.reward


def _report(consolidation: Consolidation, scored: list[Candidate], sigmas: Floats) -> dict[str, Any]:
    """Return the record of stage 1, which shows how many candidates the direction effectively averages."""
    elite_sigmas, weights = sigmas[consolidation.elite], consolidation.pass2
    return {
        "population": len(scored),
        "asked": [candidate.evaluation.rewards.size for candidate in scored],
        "rewards": [candidate.evaluation.reward for candidate in scored],
        "sigmas": sigmas.tolist(),
        "elite": consolidation.elite.tolist(),
        "weights": weights.tolist(),
        "effective_sample_size": consolidation.effective_sample_size,
        "largest_weight": float(weights.max()),
        "weight_by_sigma": {
            f"{sigma:g}": float(weights[elite_sigmas == sigma].sum()) for sigma in np.unique(elite_sigmas)
        },
        "norm": consolidation.norm,
        "kappa": consolidation.kappa if np.isfinite(consolidation.kappa) else None,
        "effective_rank": consolidation.effective_rank,
        "eigenvalues": consolidation.eigenvalues.tolist(),
        "trace": consolidation.trace,
    }
