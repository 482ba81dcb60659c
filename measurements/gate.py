"""False-positive rate and power of the full CoRP procedure: `python -m measurements.gate`.

Each row runs both stages with every proposal on simulated answers. With effect 0, "accepted" is the false-positive rate
(family-wise over the run); otherwise it is the power. Example row:

    setting                  accuracy  flips  effect  gate n   runs accepted  95 % interval
    small on 24/12/200           0.50   1.00   +0.00     200   2000    3.10%  2.42% to 3.95%
"""

from __future__ import annotations

import math

import click

from bench.stats import wilson_interval
from methods.corp.config import CorpConfig, make_schedule
from tests.simulations.simulated_corp import acceptance_rate

SETTINGS = {
    "small on 24/12/200": (2200, {"support": 24, "select": 12, "gate": 200}),
    "small on 400/400/1000": (4096, {"support": 400, "select": 400, "gate": 1000}),
    "medium on 400/400/1000": (65_536, {"support": 400, "select": 400, "gate": 1000}),
}


@click.command()
@click.option("--runs", default=2000, show_default=True)
@click.option("--power-runs", default=300, show_default=True)
def main(runs: int, power_runs: int) -> None:
    heads = f"{'accuracy':>9}{'flips':>7}{'effect':>8}{'gate n':>8}{'runs':>7}{'accepted':>9}"
    click.echo(f"{'setting':<24}{heads}  95 % interval")
    for name, (evaluations, sizes) in SETTINGS.items():
        gate = make_schedule(evaluations, sizes, CorpConfig()).gate
        for effect in (0.0, 0.03, 0.06):
            for accuracy, flips in ((0.5, 1.0), (0.5, 0.15), (0.12, 0.3)):
                n = runs if effect == 0 and evaluations < 10_000 else power_runs
                share = acceptance_rate(n, sizes, evaluations, accuracy=accuracy, flip_rate=flips, effect=effect)
                low, high = wilson_interval(math.floor(share * n + 0.5), n)
                click.echo(
                    f"{name:<24}{accuracy:>9.2f}{flips:>7.2f}{effect:>+8.2f}{gate:>8}{n:>7}{share:>9.2%}"
                    f"  {low:.2%} to {high:.2%}"
                )


if __name__ == "__main__":
    main()
