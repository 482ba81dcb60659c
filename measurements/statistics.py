"""Simulated coverage of intervals and error rates of tests: prints the tables of docs/statistics.md.

python -m measurements.statistics
"""

from __future__ import annotations

import math

import click
import numpy as np
from scipy.special import ndtri

from bench.stats import Interval, paired_difference_interval, wilson_interval
from tests.simulations.simulated_answers import (
    ACCURACIES,
    ITEMS,
    accuracy_coverage,
    change,
    difference_coverage,
    exact_coverage,
    significant,
)
from tests.simulations.simulated_seeds import ITEMS as WORLD_ITEMS
from tests.simulations.simulated_seeds import (
    SEEDS,
    WORLDS,
    Rates,
    World,
    accuracy,
    clustered_coverage,
    former,
    joint_coverage,
    rates,
)

SEED_SD = 0.01
TABLES = {"-2 to +2": World((-0.02, 0.02), between=True, lost=0.05), "+15 or -15": WORLDS["+15 or -15"]}
TABLE_SEEDS = (5, 8, 10)
OF_ACCURACY = [name for name in WORLDS if name.startswith(("kept", "always kept, +5"))]
"""Worlds whose accuracies are measured too: the base's is .5."""
POINTS = 0.05


def newcombe(fixes: int, regressions: int, n: int, right: float) -> Interval:
    """Return Newcombe's square-and-add interval (1998, Statistics in Medicine 17:2635, method 10)."""
    both = min(max(round(right * n) - regressions, 0), n - fixes - regressions)
    before, after = both + regressions, both + fixes
    wrong = n - both - fixes - regressions
    a, b = wilson_interval(after, n), wilson_interval(before, n)
    p, q = after / n, before / n
    product = after * (n - after) * before * (n - before)
    excess = both * wrong - fixes * regressions
    excess = max(excess - n / 2, 0) if excess > 0 else excess
    phi = excess / math.sqrt(product) if product else 0.0
    low = (p - a.low) ** 2 - 2 * phi * (p - a.low) * (b.high - q) + (b.high - q) ** 2
    high = (q - b.low) ** 2 - 2 * phi * (q - b.low) * (a.high - p) + (a.high - p) ** 2
    return Interval(p - q - math.sqrt(max(low, 0.0)), p - q + math.sqrt(max(high, 0.0)))


def bootstrap(fixes: int, regressions: int, n: int) -> Interval:
    """Return the percentile bootstrap interval over items, with resamples drawn as counts."""
    rng = np.random.default_rng(0)
    draws = rng.multinomial(n, (fixes / n, regressions / n, 1 - (fixes + regressions) / n), 2000)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, (0.025, 0.975))
    return Interval(float(low), float(high))


def wald(fixes: int, regressions: int, n: int) -> Interval:
    """Return the Wald interval: the estimate plus and minus 1.96 standard errors."""
    difference = (fixes - regressions) / n
    half = float(ndtri(0.975)) * math.sqrt(((fixes + regressions) / n - difference**2) / n)
    return Interval(difference - half, difference + half)


def cells(*shares: float | None) -> str:
    return " | ".join("" if share is None else f"{100 * share:.1f}" for share in shares) + " |"


def before_and_now(before: Rates, now: Rates) -> str:
    """Return coverage before and now, such as `60 → 98.5 (20 %)`; a dash if no interval is shown."""
    after = f"{100 * now.covered:.1f} ({100 * now.shown:.0f} %)" if now.shown else "-"
    return f"{100 * before.covered:.0f} → {after}"


@click.command()
@click.option("--tables", default=2000, show_default=True, help="Simulated tables per coverage.")
@click.option("--comparisons", default=1000, show_default=True, help="Simulated tables per significance rate.")
@click.option("--worlds", default=2000, show_default=True, help="Simulated tables per world, and per cluster size.")
def main(tables: int, comparisons: int, worlds: int) -> None:
    grid = [(n, p) for n in ITEMS for p in ACCURACIES]
    sd = f"sd {100 * SEED_SD:g} between seeds"
    click.echo(f"Accuracy: coverage in % of {tables} tables.\n")
    click.echo(f"| items | accuracy | 1 seed | exact | counts at the edge | 5 seeds | 5 seeds, {sd} | 8 seeds, {sd} |")
    click.echo("|---:" * 8 + "|")
    for n, p in grid:
        apart = [accuracy_coverage(n, p, seeds=k, count=tables, seed_sd=SEED_SD) if p > 0.05 else None for k in (5, 8)]
        five = accuracy_coverage(n, p, seeds=5, count=tables)
        one = accuracy_coverage(n, p, seeds=1, count=tables)
        click.echo(f"| {n} | {p:g} | " + cells(one, *exact_coverage(n, p), five, *apart))

    click.echo(f"\nDifference, one seed: coverage in % of {tables} tables.\n")
    click.echo("| items | accuracy | true points | Tango | Newcombe | bootstrap | standard error |")
    click.echo("|---:" * 7 + "|")
    for n, p in grid:
        for effect in (0.0, POINTS):
            if p + effect > 0.94:
                continue
            simulated = change(p, effect)
            methods = (paired_difference_interval, lambda f, r, n, p=p: newcombe(f, r, n, p), bootstrap, wald)
            shares = [difference_coverage(n, simulated, count=tables, method=method) for method in methods]
            click.echo(f"| {n} | {p:g} | {100 * effect:g} | " + cells(*shares))

    click.echo(f"\nSignificant at .05, in % of {comparisons}; 'covered' is the interval's coverage.\n")
    click.echo(
        "| items | accuracy | A/A, 1 seed | A/A, 5 seeds | covered | "
        f"A/A, 5 seeds, {sd} | covered | A/A, 8 seeds | covered | +5, 1 seed | +5, 5 seeds | +5, 5 seeds, {sd} |"
    )
    click.echo("|---:" * 12 + "|")
    for n, p in grid:
        same, apart = change(p, 0.0), change(p, 0.0, SEED_SD) if p > 0.05 else None
        row: list[float | None] = [significant(n, same, seeds=1, count=comparisons)[0]]
        row += significant(n, same, seeds=5, count=comparisons)
        row += significant(n, apart, seeds=5, count=comparisons) if apart else (None, None)
        row += significant(n, same, seeds=8, count=comparisons)
        if p + POINTS < 0.94:
            more = change(p, POINTS)
            row += [significant(n, more, seeds=k, count=comparisons)[0] for k in (1, 5)]
            row += [significant(n, change(p, POINTS, SEED_SD), seeds=5, count=comparisons)[0]]
        else:
            row += [None] * 3
        click.echo(f"| {n} | {p:g} | " + cells(*row))

    click.echo(f"\nWorlds: coverage in % of {worlds} tables before → now (share of tables with an interval).\n")
    click.echo("| world | items | " + " | ".join(f"{k} seeds" for k in SEEDS) + " |")
    click.echo("|---" + "|---:" * (1 + len(SEEDS)) + "|")
    for name, world in WORLDS.items():
        for n in WORLD_ITEMS:
            found = [(rates(world, n, k, worlds, former), rates(world, n, k, worlds)) for k in SEEDS]
            click.echo(f"| {name} | {n} | " + " | ".join(before_and_now(*pair) for pair in found) + " |")

    click.echo(f"\nWorlds: coverage of the accuracy's interval in % of {worlds} tables (mean width in points).\n")
    click.echo("| world | items | " + " | ".join(f"{k} seeds" for k in TABLE_SEEDS) + " |")
    click.echo("|---" + "|---:" * (1 + len(TABLE_SEEDS)) + "|")
    for name in OF_ACCURACY:
        for n in WORLD_ITEMS[1:]:
            own = [rates(WORLDS[name], n, k, worlds, accuracy) for k in TABLE_SEEDS]
            shown = (f"{100 * each.covered:.1f} ({100 * each.width:.1f})" for each in own)
            click.echo(f"| {name} | {n} | " + " | ".join(shown) + " |")

    click.echo(f"\nTen rows: share of {worlds // 5} tables in which all simultaneous intervals cover.\n")
    click.echo("| world | items | " + " | ".join(f"{k} seeds" for k in TABLE_SEEDS) + " |")
    click.echo("|---" + "|---:" * (1 + len(TABLE_SEEDS)) + "|")
    for name, world in TABLES.items():
        for n in WORLD_ITEMS[1:]:
            click.echo(
                f"| {name} | {n} | " + cells(*(joint_coverage(world, n, k, 10, worlds // 5) for k in TABLE_SEEDS))
            )

    click.echo(f"\nClusters of 5 items: coverage in % of {worlds} tables.\n")
    click.echo("| clusters | seeds | accuracy, clusters unknown | known | difference, clusters unknown | known |")
    click.echo("|---:" * 6 + "|")
    for clusters in (10, 20, 50, 200):
        for k in (1, 5):
            unknown, known = (clustered_coverage(clusters, 5, k, worlds, known=each) for each in (False, True))
            pairs = [share for pair in zip(unknown, known, strict=True) for share in pair]
            click.echo(f"| {clusters} | {k} | " + cells(*pairs))


if __name__ == "__main__":
    main()
