"""Savings and losses of racing compared with a full evaluation of every candidate: `python -m measurements.racing`.

The populations are simulated: true accuracies with mean .3 and a standard deviation of 3 points, and binary rewards. In
`equal` populations all examples are equally difficult. In `mixed` populations examples differ in difficulty, and a
candidate's advantage is the same on all of them.

`--run FOLDER` replays the race on a population that a run has scored in full, such as one of `landscape`.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from methods.search.elimination import race
from reports.analysis.population import read_population

CANDIDATES, EXAMPLES = 500, 200


@click.command()
@click.option("--populations", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--run", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(populations: int, seed: int, folder: Path | None) -> None:
    if folder is not None:
        replay(folder)
        return
    click.echo(f"{CANDIDATES} candidates, {EXAMPLES} examples, {populations} populations per row")
    click.echo(
        f"{'items':<8}{'top':>5}{'confidence':>12}{'evaluations':>13}{'points lost':>13}{'± se':>8}{'same top':>10}"
    )
    for mixed in (False, True):
        for top, confidence in ((50, 0.9), (50, 0.95), (50, 0.99), (5, 0.95), (150, 0.95), (250, 0.95)):
            rng = np.random.default_rng(seed)
            rows = np.array([compare(rng, mixed=mixed, top=top, confidence=confidence) for _ in range(populations)])
            share, lost, same = rows.mean(axis=0)
            error = rows[:, 1].std(ddof=1) / np.sqrt(populations)
            items = "mixed" if mixed else "equal"
            click.echo(
                f"{items:<8}{top:>5}{confidence:>12}{share:>13.1%}{100 * lost:>13.3f}{100 * error:>8.3f}{same:>10.1%}"
            )


def replay(folder: Path) -> None:
    """Print the savings on a scored population, and what the chosen top loses in reward on the same examples."""
    _, population = read_population(folder)
    rewards = population.rewards
    candidates, examples = rewards.shape
    scores = rewards.mean(axis=1)
    click.echo(f"{candidates} candidates, {examples} examples; mean {scores.mean():.1%}, best {scores.max():.1%}")
    click.echo(f"{'top':>5}{'confidence':>12}{'evaluations':>13}{'points lost':>13}{'same top':>10}")
    for top in (1, 5, round(0.3 * candidates), candidates // 2):
        for confidence in (0.9, 0.95, 0.99):
            scored = race(rewards, top=top, confidence=confidence)
            full = np.argsort(-scores, kind="stable")[:top]
            raced = np.argsort(-np.where(scored == examples, scores, -1.0), kind="stable")[:top]
            lost, same = scores[full].mean() - scores[raced].mean(), len(set(full) & set(raced)) / top
            click.echo(f"{top:>5}{confidence:>12}{scored.mean() / examples:>13.1%}{100 * lost:>13.2f}{same:>10.0%}")


def compare(rng: np.random.Generator, *, mixed: bool, top: int, confidence: float) -> tuple[float, float, float]:
    """Race one simulated population, and compare the result with a full evaluation.

    Returns:
        Share of the evaluations that racing needs, loss in the mean true accuracy of the top, and share of the top that
        is the same.
    """
    true = np.clip(rng.normal(0.3, 0.03, CANDIDATES), 0, 1)
    odds = np.broadcast_to(true[:, None], (CANDIDATES, EXAMPLES))
    if mixed:
        odds = np.clip(odds - 0.3 + rng.beta(0.3, 0.7, EXAMPLES), 0, 1)
    rewards = (rng.random(odds.shape) < odds).astype(np.float64)
    asked = race(rewards, top=top, confidence=confidence)
    scores, merit = rewards.mean(axis=1), odds.mean(axis=1)
    full = np.argsort(-scores, kind="stable")[:top]
    raced = np.argsort(-np.where(asked == EXAMPLES, scores, -1.0), kind="stable")[:top]
    same = len(set(full.tolist()) & set(raced.tolist())) / top
    return float(asked.mean()) / EXAMPLES, float(merit[full].mean() - merit[raced].mean()), same


if __name__ == "__main__":
    main()
