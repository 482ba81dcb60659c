"""The real libraries, offline: a run is tracked while it is running, and what they stored is read back."""

import json
import os
import shutil
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from pydantic import TypeAdapter

from bench.cli import cli
from bench.records.schema import find_runs, read_result
from bench.track import live
from bench.track.follow import Budget
from bench.track.interface import SPENT, TRACKERS, Point, TrackedRun, load
from bench.track.process import TrackerProcess
from bench.track.result import final

CONTINUED = ("mlflow", "trackio", "tensorboard")
"""Trackers that can continue a run offline."""
RUN = "run -m grpo -t addition -M tiny-adder -b 200 -L 8 --dtype float32 --gate off".split()  # noqa: SIM905


def tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = folder.iterdir()
    read = EventAccumulator(str(run), {"scalars": 0, "tensors": 0}).Reload()
    curves = {tag: [(each.step, each.value) for each in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    texts = {tag: read.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in read.Tags()["tensors"]}
    return SimpleNamespace(curves=curves, text=" ".join(texts.values()))


def mlflow(uri, project):
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name(project).experiment_id])
    curves = {
        key: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, key)]
        for key in run.data.metrics
    }
    return SimpleNamespace(curves=curves, text=f"{run.info.status} {run.data.tags} {run.data.params}")


READ = """
import json, sys, trackio
(run,) = trackio.Api().runs(sys.argv[1])
print(json.dumps([run.config, trackio.SQLiteStorage.get_logs(sys.argv[1], run.name)], default=str))
"""


def trackio(project):
    # In another process: the library reads TRACKIO_DIR when it is imported, and TRL may have imported it before.
    told = subprocess.run([sys.executable, "-c", READ, project], capture_output=True, text=True, check=True)
    config, logs = json.loads(told.stdout.splitlines()[-1])
    keys = dict.fromkeys(key for each in logs for key in each)
    curves = {key: [(each["step"], each[key]) for each in logs if key in each] for key in keys}
    texts = [curves.pop(key) for key in ("artifact/sha256", "status") if key in curves]
    return SimpleNamespace(curves=curves, text=f"{config} {texts}")


def wandb(folder):
    """Read the records of an offline run: messages of wandb's own protocol in blocks as LevelDB's log has them."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, place, parts = path.read_bytes(), 7, b""
    curves, summary, config, identity = {}, {}, {}, ""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # the end of a block is filled up
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind not in (1, 4):  # the whole record, or its last part
            continue
        record, parts = Record.FromString(parts), b""
        values = {each.nested_key[0] if each.nested_key else each.key: each.value_json for each in record.history.item}
        for key, value in values.items():
            curves.setdefault(key, []).append((round(float(values["spent/base_evaluations"])), float(value)))
        summary |= {each.key or each.nested_key[0]: each.value_json for each in record.summary.update}
        config |= {each.key or each.nested_key[0]: each.value_json for each in record.run.config.update}
        identity = record.run.run_id or identity
    last = curves["spent/base_evaluations"][-1][0]
    curves |= {key: [(last, float(value))] for key, value in summary.items() if is_number(key, value)}
    return SimpleNamespace(curves=curves, text=f"{identity} {summary} {config}")


def is_number(key, value):
    return key.startswith("final/") and not value.startswith('"')


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run that all trackers followed, and the environment that says where they store it."""
    folder = tmp_path_factory.mktemp("tracked")
    variables = {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "TRACKIO_DIR": str(folder / "trackio"),
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr(live, "LIMIT", 300)  # a machine that runs other tests is slow
        patch.chdir(folder)  # MLflow makes a folder for artifacts
        options = [word for name in TRACKERS for word in ("--track", name)]
        arguments = [*RUN, "-o", str(folder / "runs"), *options]
        done = CliRunner().invoke(cli, arguments, standalone_mode=False, catch_exceptions=False)
        assert done.return_value == 0, done.stderr
        assert "failed" not in done.stderr
        (run,) = find_runs(folder / "runs")
        yield SimpleNamespace(folder=folder, run=run, result=read_result(run))


def stored(name, folder, project="bench"):
    if name == "wandb":
        return wandb(folder)
    if name == "mlflow":
        return mlflow(os.environ["MLFLOW_TRACKING_URI"], project)
    return trackio(project) if name == "trackio" else tensorboard(folder / "tensorboard")


def process_of(name, **message):
    """Let a tracker's own process follow a run: some libraries read the environment once, when they are imported."""
    with TrackerProcess(name) as process:
        process.send_last(message)
        process.wait(300)
    assert process.error is None


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKERS)
def test_it_stores_curves_configuration_and_result(name, tracked):
    found, result = stored(name, tracked.folder), tracked.result
    close = {"rel": 1e-6, "abs": 1e-12}  # event files of tensorboard have 24 bits
    curve = result.report["training"]["curve"]
    for column in ("step", "reward", "length", "entropy", "loss"):
        values = [value for _, value in found.curves[f"training/{column}"]]
        assert values == pytest.approx(curve[column], **close), column
    assert found.curves["spent/flops"][-1][1] == pytest.approx(result.budget.spent, **close)
    assert found.curves["account/train"][-1][1] == pytest.approx(result.ledger["train"].flops, **close)
    last = round(result.budget.spent / result.budget.flops * result.budget.evaluations)
    assert found.curves["spent/flops"][-1][0] == last
    for key, value in final(result).items():
        if isinstance(value, float):
            assert found.curves[key.replace("=", ":")] == [(last, pytest.approx(value, **close))], key
    for text in (result.id[:16], result.saved.sha256, "tiny-adder", "method_config.lr"):
        assert text in found.text, text
    assert name != "mlflow" or found.text.startswith("FINISHED")


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTINUED)
def test_what_a_tracker_has_is_not_logged_again(name, tracked):
    before = stored(name, tracked.folder).curves
    process_of(name, finished=str(tracked.run))
    now = stored(name, tracked.folder).curves
    assert {key: set(now[key]) for key in now} == {key: set(before[key]) for key in before}
    curves = [key for key in now if not key.startswith("final/")]
    assert {key: now[key] for key in curves} == {key: before[key] for key in curves}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTINUED)
def test_a_resumed_run_goes_on_where_it_was_interrupted(name, tracked, tmp_path, monkeypatch):
    for variable in ("MLFLOW_EXPERIMENT_NAME", "TRACKIO_PROJECT"):
        monkeypatch.setenv(variable, "resumed")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tensorboard"))
    interrupted = tmp_path / tracked.run.name
    interrupted.mkdir()
    for file in ("config.json", "journal.jsonl"):
        lines = (tracked.run / file).read_bytes().splitlines(keepends=True)
        (interrupted / file).write_bytes(b"".join(lines if file == "config.json" else lines[: len(lines) // 2]))
    budget = tracked.result.budget
    allowed = Budget(tracked.result.model.costs, budget.evaluations, budget.flops)
    allowed = TypeAdapter(Budget).dump_python(allowed, mode="json")
    process_of(name, folder=str(interrupted), id=tracked.result.id, budget=allowed)
    half = stored(name, tmp_path, "resumed")
    shutil.copy(tracked.run / "journal.jsonl", interrupted)
    shutil.copy(tracked.run / "result.json", interrupted)
    process_of(name, finished=str(interrupted))
    whole = stored(name, tracked.folder)
    now = stored(name, tmp_path, "resumed")
    assert 0 < len(half.curves["spent/flops"]) < len(whole.curves["spent/flops"])
    assert not any(key.startswith("final/") for key in half.curves)
    for key in ("spent/flops", "account/train", "training/step", "training/reward"):
        values, expected = ([value for _, value in found.curves[key]] for found in (now, whole))
        assert values == expected, key
    assert {key for key in now.curves if key.startswith("final/")} == {
        key for key in whole.curves if key.startswith("final/")
    }


def test_event_files_have_points_by_step(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tensorboard"))
    tracker = load("tensorboard")
    run = TrackedRun(id="1a2b3c4d", name="es addition", config={"set.lr": 0.5}, tags={"method": "es"})
    assert tracker.begin(run) == {}
    tracker.log([Point(3, {SPENT: 30.0}), Point(5, {SPENT: 50.0})])
    where = tracker.end(5, {"status": "ok", "final/es/accuracy": 0.5}, status="ok")
    assert where == f"{tmp_path}/tensorboard/es-addition (tensorboard --logdir {tmp_path}/tensorboard)"
    found = tensorboard(tmp_path / "tensorboard")
    assert found.curves == {SPENT: [(3, 30.0), (5, 50.0)], "final/es/accuracy": [(5, 0.5)]}
    assert '"set.lr": 0.5' in found.text
    assert load("tensorboard").begin(run) == {SPENT: pytest.approx(50.0)}
