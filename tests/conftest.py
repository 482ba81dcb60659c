"""Settings of the whole suite: threads and order under pytest-xdist, the cost of coverage, Hypothesis, garbage."""

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest
from hypothesis import settings

# Workers of pytest-xdist share the cores. One thread each: a pool of threads per worker would only compete.
if "PYTEST_XDIST_WORKER" in os.environ:
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(pool, "1")
    # pytest-cov 7.1 takes a worker for a whole session at first, and never ends that measurement: `no_cover` would have
    # no effect. It begins another one for the worker before tests are collected.
    if "coverage" in sys.modules and (first := sys.modules["coverage"].Coverage.current()) is not None:
        first.stop()

# A pipe has no width. Workers of pytest-xdist get one.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# A shell starts a job in the background without Ctrl-C, and its children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Processes that tests start import what the tests do: the working directory may hold other copies of our packages.
os.environ["PYTHONSAFEPATH"] = "1"

# The server that forks processes for tests imports torch and trl once, and not each of them.
multiprocessing.get_context("forkserver").set_forkserver_preload(
    ["bench.conformance.method.session", "bench.engines.transformers", "methods.training.trainers"]
)
if "PYTEST_XDIST_WORKER" in os.environ:  # before a test starts it with fewer imports
    forkserver.ensure_running()

# A deadline would measure the machine's load.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


MEASURED = [
    Path(__file__).parent / name
    for name in (
        *("bench/cli/test_analyze.py", "bench/compute", "bench/engines/test_decoding.py", "bench/records"),
        *("bench/run/test_forecast.py", "bench/run/test_run_id.py", "bench/sandbox/inside", "bench/stats"),
        *("bench/test_seeds.py", "bench/weights", "methods/corp", "methods/test_voting.py", "reports/analysis"),
        "tasks/test_interface.py",
    )
]
"""Tests of the modules of which coverage is required (pyproject.toml). No other test is slowed down to measure it."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run slow tests first, and measure coverage in the quick tests of the pure modules only.

    A slow test that starts last would leave the other workers idle. Coverage doubles the time of a test, and makes a
    simulation in pure Python three times as slow.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    slow_set = set(slow)
    if config.pluginmanager.hasplugin("pytest_cov"):
        for item in items:
            if item in slow_set or not any(item.path.is_relative_to(path) for path in MEASURED):
                item.add_marker("no_cover")
    items[:] = slow + [item for item in items if item not in slow_set]


def pytest_runtest_setup() -> None:
    """Exempt what was imported and collected from collections of garbage.

    Each training starts with one, which would search the 900,000 objects of this suite.
    """
    if not gc.get_freeze_count():  # at first, and after a training with PPO, which ends the exemption
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def measurements() -> Iterator[Path]:
    """Root of the repository, from which `measurements` can be imported meanwhile. It belongs to no wheel."""
    root = Path(__file__).parents[1]
    sys.path.append(str(root))
    yield root
    sys.path.remove(str(root))
