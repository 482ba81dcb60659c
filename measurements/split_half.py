"""Rates at which split halves detect a planted structure of rank 3: `python -m measurements.split_half`.

Each number is a share of synthetic populations. See `tests.simulations.simulated_populations`.
"""

from __future__ import annotations

import click

from bench.stats import wilson_interval
from tests.simulations.simulated_populations import SimulatedPopulation, detection_rates

POPULATIONS = {
    "nothing": SimulatedPopulation(),
    "qualities without direction": SimulatedPopulation(own=0.5),
    "planted, weak": SimulatedPopulation(planted=0.25),
    "planted": SimulatedPopulation(planted=0.5),
    "planted, in 64 dimensions": SimulatedPopulation(planted=0.5, dimensions=64),
    "planted, in 1024 dimensions": SimulatedPopulation(planted=0.5, dimensions=1024),
    "planted, strong, 800 candidates": SimulatedPopulation(planted=1.0, candidates=800),
}


@click.command()
@click.option("--draws", default=200, show_default=True)
@click.option("--permutations", default=99, show_default=True)
def main(draws: int, permutations: int) -> None:
    click.echo(f"{'population':<34}{'same candidates':>30}{'other candidates':>30}")
    click.echo(f"{'':<34}" + f"{'subspace':>10}{'mean':>8}{'either':>12}" * 2)
    for name, population in POPULATIONS.items():
        rates = detection_rates(population, draws, permutations=permutations)
        line = f"{name:<34}"
        for subspace, mean, either in (rates.reproduced, rates.shared):
            line += f"{subspace:>10.1%}{mean:>8.1%}{either:>12.1%}"
        low, high = wilson_interval(rates.shared[2] * draws, draws)
        click.echo(f"{line}  ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
