"""CPU seconds for building a leaderboard of many records, by step: `python -m measurements.leaderboard`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from bench.compute.budget import BUDGETS
from bench.compute.flops import FLOPS_VERSION
from bench.compute.ledger import Work
from bench.records.config import RunConfig
from bench.records.derived import accuracy_of, comparison_of
from bench.records.rows import AnswerCost, Row
from bench.records.schema import AccountRow, BudgetInfo, ModelInfo, Result, Timing, Versions
from bench.run.run_id import IDENTITY_VERSION, run_id
from bench.stats import paired_counts
from reports.leaderboard.build import make_board
from reports.leaderboard.text import markdown
from reports.reading import find_records, gc_disabled, read_record
from reports.record import Record

METHODS = ("base", "self-consistency", "corp", "randopt", "es", "grpo", "ppo", "prompt-search", "cat", "best-of-n")
SEEDS = 5
ITEMS = 164


def synthetic(count: int) -> Iterator[Record]:
    """Yield synthetic records: ten methods and five seeds per group, with as many groups as needed."""
    rng = np.random.default_rng(0)
    cost = AnswerCost(evaluations=1, flops=4e10, new_tokens=100)
    account = AccountRow(work=Work(evaluations=4000, prefill_tokens=1, decode_tokens=2), flops=98, hardware_flops=99)
    versions = Versions(method="1", task="1", noise="n", flops=FLOPS_VERSION)
    model = ModelInfo(name="a-model", origin="o", fingerprint="f", digest="d" * 64, licence=None)
    base = rng.random(ITEMS) < 0.3
    for number in range(count):
        line, seed = divmod(number, SEEDS)
        group, method = divmod(line, len(METHODS))
        config = RunConfig(method=METHODS[method], task=f"task-{group:04}", model="a-model", budget="small", seed=seed)
        now = base ^ (rng.random(ITEMS) < 0.1)
        adapts = method > 1
        before, after = (accuracy_of(int(right.sum()), ITEMS, 0, float(right.mean())) for right in (base, now))
        compared = comparison_of(paired_counts(base, now))
        result = Result(
            identity_version=IDENTITY_VERSION,
            id=run_id(config, versions, "c" * 64, model.fingerprint, BUDGETS["small"]),
            status="ok",
            config=config,
            versions=versions,
            content_hash="c" * 64,
            splits={"support": 100, "test": ITEMS},
            model=model,
            engine={"backend": "transformers", "dtype": "float32", "device": "cpu", "batch_size": 64},
            budget=BudgetInfo(
                name="small",
                evaluations=BUDGETS["small"],
                evaluation_flops=1.0,
                flops=BUDGETS["small"],
                planned={"sample": BUDGETS["small"]} if adapts else {},
                spent=98 if adapts else 0,
            ),
            rows=(
                Row(kind="base", accuracy=before, cost=cost, changed=False),
                Row(accuracy=after, cost=cost, comparison=compared, changed=method > 0),
            ),
            ledger={"sample": account, "setup": account} if adapts else {"setup": account},
            timing=Timing(total=100.0, stages={"adaptation": 60.0, "test": 40.0}),
        )
        answers = ["".join("01"[int(right)] for right in array) for array in (base, now)]
        yield Record(result=result, items="1" * 64, verdicts=tuple(answers))


@click.command()
@click.option("--records", default=10_000, show_default=True)
def main(records: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, record in enumerate(synthetic(records)):
            Path(folder, f"seed-{number}.json").write_text(record.model_dump_json())
        clocks = [time.process_time()]
        with gc_disabled():
            paths, _ = find_records([Path(folder)])
            read = [read_record(path) for path in paths]
            clocks.append(time.process_time())
            board = make_board(read)
            clocks.append(time.process_time())
            text = markdown(board)
            clocks.append(time.process_time())
    parts = [
        f"{name} {b - a:.2f} s" for name, a, b in zip(("read", "board", "Markdown"), clocks, clocks[1:], strict=False)
    ]
    rows = sum(len(group.lines) for group in board.groups)
    click.echo(f"{records} records, {rows} rows, {len(text)} characters: " + ", ".join(parts))


if __name__ == "__main__":
    main()
