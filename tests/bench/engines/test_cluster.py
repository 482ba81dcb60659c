"""Engines on Ray. The whole file shares one cluster and its actors, because starting them is slow."""

import json
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import pytest
import ray
from ray import cloudpickle

import bench.engines.cluster as cluster
from bench.engines.cluster import RayWorkers, cores_each
from bench.engines.placement import Engines
from bench.engines.transformers import TransformersEngine
from bench.errors import UsageError
from bench.models.source import resolve
from bench.records.schema import RunConfig, find_runs
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.weights.points import Point
from methods.interface import Method, Plan

cloudpickle.register_pickle_by_value(sys.modules[__name__])

CORP = {"method": "corp", "budget": "1500", "method_config": {"smallest_population": 3}}
RANDOPT = {"method": "randopt", "budget": "800", "method_config": {"top_k": [1, 3]}}


class Unlimited(Method):
    """Method that evaluates points until the budget ends."""

    name = "unlimited"
    version = "1"

    def plan(self, evaluations, task):
        return Plan(())

    def adapt(self, context):
        points = [Point({seed: 1e-3}) for seed in range(1, 200)]
        context.prepare(points, "support", examples=range(20))
        for point in points:
            context.evaluate(point, "support", account="sample", examples=range(20))


class Broken(TransformersEngine):
    """Engine that fails at every point except the base."""

    def generate(self, prompts, sampling, meter, end_rules=(), added=None):
        if not self.point.is_base:
            raise ZeroDivisionError("on purpose")
        return super().generate(prompts, sampling, meter, end_rules)


@pytest.fixture(scope="module")
def actors():
    """Four engines on a cluster that is started as a run starts it."""
    with cluster.connected(None):
        yield [ray.remote(num_cpus=0)(cluster._Actor).remote() for _ in range(4)]
    assert not ray.is_initialized()


@pytest.fixture
def on_ray(actors, monkeypatch):
    """Use the shared actors instead of new ones. A test may set `loads`, `first` and `watch`."""

    class Use:
        loads = None
        first = 0

        def watch(self, workers):
            return workers

    use = Use()

    @contextmanager
    def started(load, count, address, device):
        chosen = actors[use.first : use.first + count]
        yield use.watch(RayWorkers(chosen, use.loads or load, 1))

    monkeypatch.setattr(cluster, "started", started)
    return use


def run(folder, count=1, **fields):
    config = RunConfig(task="addition", model="tiny-adder", limit=60, **fields)
    prepared = prepare(config, folder, ProgressDisplay(quiet=True))
    result = execute(prepared, ProgressDisplay(quiet=True), Engines(count, "auto" if count > 1 else None))
    return prepared, result.model_copy(update={"timing": None})


@pytest.mark.slow
@pytest.mark.parametrize("settings", [CORP, RANDOPT], ids=["corp", "randopt"])
def test_a_run_ends_the_same_on_one_two_and_four_engines(tmp_path, on_ray, settings):
    prepared, alone = run(tmp_path / "1", **settings)
    assert alone.status == "ok"
    early = 0
    for count in (2, 4):
        other, result = run(tmp_path / str(count), count, **settings)
        assert result == alone
        assert other.folder.relative_to(tmp_path / str(count)) == prepared.folder.relative_to(tmp_path / "1")
        assert (other.folder / "samples.jsonl").read_bytes() == (prepared.folder / "samples.jsonl").read_bytes()
        early += (other.folder / "journal.jsonl").read_bytes().count(b'{"prefetched"')
        attempt = json.loads((other.folder / "attempts" / "1.json").read_text())
        assert attempt["engines"] == {"count": count, "address": "auto"}
    assert early  # some jobs were prefetched; with two engines on a busy machine there may be none


@pytest.mark.slow
def test_a_run_goes_over_budget_at_the_same_point_as_on_one_engine(tmp_path, on_ray):
    unlimited = {"method": f"{__name__}:Unlimited", "budget": "300"}
    _, alone = run(tmp_path / "1", **unlimited)
    _, result = run(tmp_path / "2", 2, **unlimited)
    assert result == alone
    assert result.status == "over_budget"


@pytest.mark.slow
def test_an_error_in_an_engine_fails_the_run_with_its_traceback(tmp_path, on_ray):
    on_ray.loads = partial(Broken, resolve("tiny-adder").prepare().path)
    _, result = run(tmp_path, 2, **RANDOPT)
    assert result.status == "failed"
    assert result.reason.startswith("ZeroDivisionError: on purpose (")
    assert "in generate" in result.traceback


@pytest.mark.slow
def test_an_existing_cluster_is_used_and_left_running(tmp_path, actors):
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "bench", "run", "-m", "base", "-t", "addition", "-M", "tiny-adder", "-L", "20"]
    command += ["--engines", "1", "--ray-address", address, "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = find_runs(tmp_path)
    assert json.loads((folder / "attempts" / "1.json").read_text())["engines"]["address"] == address
    assert ray.get(actors[0].__ray_ready__.remote())
    # Starting engines on a connected cluster does not disconnect it afterwards.
    assert sum(node["Alive"] for node in ray.nodes()) == 1
    with cluster.started(lambda: None, 1, None, "cpu"):
        pass
    assert ray.is_initialized()


@pytest.mark.slow
def test_too_few_gpus_are_an_error_that_says_so(actors):
    with (
        pytest.raises(UsageError, match=r"--engines 2: each takes a GPU, and the cluster has 0"),
        cluster.started(lambda: None, 2, None, "cuda"),
    ):
        pass


@pytest.mark.slow
def test_the_jobs_of_a_dead_engine_are_given_to_another(tmp_path, on_ray, actors):
    """Kills a shared engine, so it is the last test that uses the actors."""
    on_ray.first = 2
    starts = []

    def watch(workers):
        start = workers.start

        def killing(worker, job, limit):
            start(worker, job, limit)
            starts.append(worker)
            if len(starts) == 8:
                ray.kill(workers._actors[1])

        workers.start = killing
        return workers

    on_ray.watch = watch
    _, alone = run(tmp_path / "1", **RANDOPT)
    _, result = run(tmp_path / "2", 2, **RANDOPT)
    assert result == alone
    assert 1 in starts
    assert set(starts[-10:]) == {0}


@pytest.mark.parametrize(
    ("nodes", "engines", "each"),
    [([2], 1, 2), ([2], 2, 1), ([2], 4, 0), ([16], 3, 5), ([8, 8], 3, 4), ([8, 8], 2, 8), ([8, 0], 2, 4), ([], 1, 0)],
)
def test_cores_are_shared_so_that_every_engine_finds_room(nodes, engines, each):
    assert cores_each(nodes, engines) == each
