"""How often split halves find a structure of rank 3, planted or not: `python -m measurements.split_half`.

Each figure is a share of synthetic populations; see `tests.simulations.simulated_populations`.
"""

from __future__ import annotations

import click

from bench.stats import wilson_interval
from tests.simulations.simulated_populations import World, found

WORLDS = {
    "nothing": World(),
    "qualities without direction": World(own=0.5),
    "planted, weak": World(planted=0.25),
    "planted": World(planted=0.5),
    "planted, in 64 dimensions": World(planted=0.5, dimensions=64),
    "planted, in 1024 dimensions": World(planted=0.5, dimensions=1024),
    "planted, strong, 800 candidates": World(planted=1.0, candidates=800),
}


@click.command()
@click.option("--draws", default=200, show_default=True)
@click.option("--permutations", default=99, show_default=True)
def main(draws: int, permutations: int) -> None:
    click.echo(f"{'world':<34}{'same candidates':>30}{'other candidates':>30}")
    click.echo(f"{'':<34}" + f"{'subspace':>10}{'mean':>8}{'either':>12}" * 2)
    for name, world in WORLDS.items():
        shares = found(world, draws, permutations=permutations)
        line = f"{name:<34}"
        for subspace, mean, either in (shares.reproduced, shares.shared):
            line += f"{subspace:>10.1%}{mean:>8.1%}{either:>12.1%}"
        low, high = wilson_interval(shares.shared[2] * draws, draws)
        click.echo(f"{line}  ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
