"""A method may put anything into its report. No command answers with a traceback, whatever is there."""

import copy
import json
import os
from contextlib import contextmanager

import click
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.cli import cli
from bench.errors import BenchError
from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute

METHODS = {
    "landscape": ("260", {}),
    "corp": ("800", {"smallest_population": 8, "attempts": 0, "sigmas": [0.02]}),
    "es": ("400", {}),
}
PLANTED = {
    "training": {"curve": {"step": [1, 2, 3], "reward": [0.1, 0.2, None]}, "collapse": "no reward"},
    "trajectory": [{"mean": 0.1, "max": 0.2, "sd": 0.1, "norm": 1.0}, {"mean": 0.2, "max": 0.4, "sd": 0.1}],
    "stages": [{"stage": "stage 1", "committed": True, "reason": "r", "gain": 0.1, "standard_error": 0.1}],
    "gates": [{"stage": "s", "accepted": True, "fixes": 3, "regressions": 1, "level": 0.05, "p_value": 0.1}],
    "rewards": {"default": 0.5, "swapped": 0.25},
    "eigenvalues": [1.0, 0.5],
}
"""Parts of the reports of other methods, beside those of the run's own."""
NUMBERS = st.sampled_from([0, -1, 1, 10**18, 10**299, 10**400, 1e308, -1e308, 1e-320, 0.5, True])
VALUES = st.recursive(
    NUMBERS | st.none() | st.sampled_from(["", "x", "0.5", "\x1b[2J", "a\nb", "[red]", "\u202e", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["step", "reward", "mean", "stage", "level", "\x9b"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    found = {}
    for method, (budget, given_) in METHODS.items():
        fields = {"method": method, "task": "addition", "model": "tiny-adder", "budget": budget, "limit": 20}
        prepared = prepare(RunConfig(**fields, method_config=given_), output, ProgressDisplay(quiet=True))
        assert execute(prepared, ProgressDisplay(quiet=True)).status == "ok"
        found[method] = prepared.folder
    return found


def commands(run, other, output):
    return (
        ["show", run],
        ["show", run, "-n", 1],
        ["show", run, "--time"],
        ["show", run, "--json"],
        ["leaderboard", run.parents[4]],
        ["leaderboard", run.parents[4], "--format", "markdown"],
        ["leaderboard", run.parents[4], "--format", "csv"],
        ["report", run, "-o", output],
        ["compare", run, other],
        ["analyze", "ledger", run],
        ["analyze", "gate", run],
        ["analyze", "density", run],
        ["analyze", "split-half", run, "--permutations", 2, "--dimensions", 0],
    )


def places(value, path=()):
    """Yield the path of each part of nested data."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for name, inner in parts:
        yield from places(inner, (*path, name))


def replaced(source, path, value):
    new = copy.deepcopy(source)
    inner = new
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return new


@contextmanager
def written(folder, result):
    file = folder / "result.json"
    before = file.read_bytes()
    file.write_text(json.dumps(result))
    try:
        yield
    finally:
        file.write_bytes(before)


def attempt(command):
    """Run a command. Anything but an answer or an error for the user raises."""
    done = CliRunner().invoke(cli, [*map(str, command)], standalone_mode=False)
    if done.exception is not None and not isinstance(done.exception, (BenchError, click.ClickException)):
        raise AssertionError(f"{' '.join(map(str, command))}: {done.exception!r}") from done.exception


SHAPES = [
    {"gates": 5},
    {"gates": ["x", 1, None]},
    {"gates": [{"level": "x", "accepted": 1}]},
    {"gates": [{"level": 0.05, "accepted": True}]},
    {"gates": [{"level": 2.0, "accepted": True, "fixes": 3, "regressions": -1}]},
    {"gate": [1, 2]},
    {"stages": "x"},
    {"stages": [1, {"stage": 3, "reason": ["a\nb"], "committed": "maybe"}]},
    {"stage1": [1, 2]},
    {"stage1": {"rewards": {"a": 1}, "sigmas": "x"}},
    {"sigmas": "x", "steps": 7},
    {"sigmas": [[1.0], None]},
    {"steps": [{"point": ["x"], "sigma": 1.0, "examples": 3}]},
    {"steps": [{"point": "x", "sigma": 1.0, "examples": [0, 5]}]},
    {"training": {"curve": {"reward": {"a": [1]}}}},
    {"training": {"curve": [1, 2], "collapse": ["\x1b[2J"]}},
    {"trajectory": [1, "x", {"mean": "x"}, {"mean": [1]}]},
    {"trajectory": {"mean": 3}},
    {"rewards": [1e308, -1e308, 10**299, True]},
    {"scores": [{}, [], None]},
]


@pytest.mark.parametrize("report", SHAPES, ids=map(str, range(len(SHAPES))))
def test_a_report_of_another_shape_is_shown_or_refused(report, runs, tmp_path):
    run, other = runs["landscape"], runs["es"]
    result = json.loads((run / "result.json").read_text())
    with written(run, result | {"report": result["report"] | report}):
        for command in commands(run, other, tmp_path):
            attempt(command)


@pytest.mark.parametrize("method", METHODS)
@settings(
    max_examples=int(os.environ.get("BENCH_EXAMPLES", "8")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_a_damaged_report_is_shown_or_refused(method, runs, tmp_path, data):
    run, other = runs[method], runs["es" if method != "es" else "corp"]
    result = json.loads((run / "result.json").read_text())
    if data.draw(st.booleans(), "planted"):
        result["report"] = {**result["report"], **PLANTED}
    parts = {name: result[name] for name in ("report", "timing")}
    place = data.draw(st.sampled_from(list(places(parts))[1:]), "place")
    damaged = result | replaced(parts, place, data.draw(VALUES, "value"))
    with written(run, damaged):
        for command in commands(run, other, tmp_path):
            attempt(command)
