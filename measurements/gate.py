"""Power, cost and false acceptance of the gate, beside one exact test: prints the tables of docs/gate.md.

python -m measurements.gate

Every run is simulated by the whole procedure: counts of fixes and regressions on its gate items, look by look, and the
gate's own decisions. The exact test decides on the first n of the same items; the gate uses up to 2n. See
`tests.simulations.simulated_gate`.
"""

from __future__ import annotations

import itertools

import click
import numpy as np

from bench.stats import wilson_interval
from bench.stats.gate import GateDesign, detectable_gain, expected_items, keep_probability
from tests.simulations.simulated_gate import LEVEL, conditional_rates, shares, simulate

SIZES = (16, 64, 136, 272, 1000)
CHANGES = tuple(itertools.product((0.15, 0.3, 1.0), (0.12, 0.5)))
GAINS = (0.03, 0.06, 0.1, 0.2)


def percent(*values: float) -> str:
    return " | ".join(f"{value:.1%}" for value in values)


@click.command()
@click.option("--runs", default=2000, show_default=True, help="Simulated runs per power.")
@click.option("--null-runs", default=400_000, show_default=True, help="Simulated runs per false-acceptance rate.")
@click.option("--sets", default=800, show_default=True, help="Gate splits per percentile.")
@click.option("--set-runs", default=400, show_default=True, help="Simulated runs per gate split.")
def main(runs: int, null_runs: int, sets: int, set_runs: int) -> None:
    gains = " | ".join(f"+{100 * gain:g}" for gain in GAINS)
    click.echo(
        f"Kept by one exact test on n items → by the gate on up to 2n, in % of {runs} runs; items used, over n.\n"
    )
    click.echo(f"| n | flip rate | accuracy | {gains} | items without a gain | at +6 |")
    click.echo("|---:" * (5 + len(GAINS)) + "|")
    worst = {}
    for n in SIZES:
        design = GateDesign(2 * n, LEVEL)
        for flips, accuracy in CHANGES:
            powers = [simulate(n, *shares(flips, accuracy, gain), runs) for gain in GAINS]
            cells = " | ".join(f"{100 * old:.0f} → {100 * new:.0f}" for old, new in powers)
            items = [expected_items(design, *shares(flips, accuracy, gain)) / n for gain in (0.0, 0.06)]
            click.echo(f"| {n} | {flips:g} | {accuracy:g} | {cells} | {items[0]:.2f} | {items[1]:.2f} |")
        worst[n] = max(CHANGES, key=lambda change: keep_probability(design, *shares(*change, 0.0)))

    click.echo(f"\nFalse acceptance at the worst of these flip rates and accuracies, {null_runs:,} runs.\n")
    click.echo("| n | flip rate | accuracy | exact test | gate | 95 % interval |\n|---:|---:|---:|---:|---:|---:|")
    for n, (flips, accuracy) in worst.items():
        old, new = simulate(n, *shares(flips, accuracy, 0.0), null_runs)
        low, high = wilson_interval(round(new * null_runs), null_runs)
        click.echo(f"| {n} | {flips:g} | {accuracy:g} | {old:.2%} | {new:.2%} | {low:.2%} to {high:.2%} |")

    click.echo(f"\nFalse acceptance for fixed gate splits: mean and 95th percentile over {sets} splits.\n")
    same, drawn = "same 2n items in every run: mean", "2n items drawn per run: mean"
    click.echo(f"| n | flip rate | {same} | 95th percentile | {drawn} | 95th percentile |")
    click.echo("|---:" * 6 + "|")
    for n in SIZES[:-1]:
        for flips in (0.15, 1.0):
            rates = [conditional_rates(n, split, flips, 0.5, sets, set_runs) for split in (2 * n, 8 * n)]
            cells = percent(*itertools.chain(*((r.mean(), np.quantile(r, 0.95)) for r in rates)))
            click.echo(f"| {n} | {flips:g} | {cells} |")

    click.echo("\nGain kept in 80 % of runs if 5 % of the items regress.\n")
    click.echo("| items at most | detectable gain | items without a gain | items at this gain |\n|---:|---:|---:|---:|")
    for items in (16, 32, 64, 128, 272, 544, 1000, 2000):
        design, gain = GateDesign(items, LEVEL), detectable_gain(GateDesign(items, LEVEL))
        assert gain is not None
        used = [expected_items(design, 0.05 + more, 0.05) for more in (0.0, gain)]
        click.echo(f"| {items} | +{100 * gain:.1f} points | {used[0]:.0f} | {used[1]:.0f} |")

    click.echo("\nPower if 2 % of the items regress, in %.\n")
    click.echo("| items at most | +5 | +10 | +20 | items at +10 |\n|---:|---:|---:|---:|---:|")
    for items in range(24, 80, 8):
        design = GateDesign(items, LEVEL)
        power = percent(*(keep_probability(design, 0.02 + gain, 0.02) for gain in (0.05, 0.1, 0.2)))
        click.echo(f"| {items} | {power} | {expected_items(design, 0.12, 0.02):.0f} |")


if __name__ == "__main__":
    main()
