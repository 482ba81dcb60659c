"""Savings and losses of racing compared with a full evaluation of every candidate: `python -m measurements.racing`.

The populations are simulated: true accuracies with mean .3 and a standard deviation of 3 points, and binary rewards. In
`equal` populations all examples are equally difficult. In `mixed` populations examples differ in difficulty, and a
candidate's advantage is the same on all of them.
"""

from __future__ import annotations

import click
import numpy as np

from methods.search.elimination import race

CANDIDATES, EXAMPLES = 500, 200


@click.command()
@click.option("--populations", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(populations: int, seed: int) -> None:
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
