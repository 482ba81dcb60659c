import pytest

from bench.compute.flops import ModelShape
from bench.records.config import RunConfig
from bench.records.journal import Journal, new_entries
from bench.records.schema import Result
from bench.track.follow import Budget, Follower
from bench.track.result import final, tracked

PROFILE = ModelShape(2, 8, 2, 2, 4, 16, 32, tied=True).profile()
CONFIG = RunConfig(method="es", method_config={"sigma": {"of": [1, 2]}}, task="addition", model="/models/tiny")


class Recorder:
    def __init__(self):
        self.points, self.ended = [], None

    def begin(self, run):
        self.run = run
        return {}

    def log(self, points):
        assert points
        self.points += points

    def end(self, step, final, *, status):
        self.ended = step, dict(final), status
        return "here"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(CONFIG.model_dump_json())
    return tmp_path


@pytest.fixture
def journal(folder):
    journal = Journal(folder / "journal.jsonl")
    yield journal
    journal.close()


def append(journal, *works):
    for work in works:
        journal.append({"account": "sample"}, {"work": work})


def test_a_run_is_followed_while_its_journal_grows(folder, journal):
    tracker = Recorder()
    follower = Follower(tracker, folder, "1a2b", Budget(PROFILE, 10, 10**6))
    follower.follow()
    assert tracker.points == []
    append(journal, {"prefill_tokens": 70})
    follower.follow()
    append(journal, {"prefill_tokens": 70}, {"prefill_tokens": 70})
    with (folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"key":{"torn')
    follower.follow()
    spent = [70 * PROFILE.token * count for count in (1, 2, 3)]
    assert [point.values["spent/flops"] for point in tracker.points] == spent
    assert [point.step for point in tracker.points] == [round(each / 10**5) for each in spent]
    assert follower.end(None) == "here"
    assert tracker.ended == (tracker.points[-1].step, {}, "interrupted")


def test_a_curve_of_a_record_is_spread_over_what_training_cost(folder, journal):
    journal.append({"account": "sample"}, {"work": {"prefill_tokens": 10}})
    for number in range(2):
        journal.append({"train": number}, {"work": {"prefill_tokens": 100}})
    tracker = Recorder()
    follower = Follower(tracker, folder, "1a2b", Budget(PROFILE, 10, 10**6))
    follower.follow()
    result = Result(identity_version=1, id="1a2b", status="diverged", reason="loss is nan", config=CONFIG)
    curve = {"step": [1.0, 2.0, 3.0, 4.0], "reward": [0.0, 0.5, None, 0.25]}
    follower.recorded(result.model_copy(update={"report": {"training": {"curve": curve}}}))
    follower.end(result)
    rows = [point.values for point in tracker.points if "training/step" in point.values]
    assert [row["training/flops"] / PROFILE.token for row in rows] == [60, 110, 160, 210]
    assert [row.get("training/reward") for row in rows] == [0.0, 0.5, None, 0.25]
    assert tracker.ended[1:] == ({"status": "diverged", "reason": "loss is nan"}, "diverged")


def test_a_line_that_fails_its_checksum_is_left_out(folder, journal):
    append(journal, {"evaluations": 1}, {"evaluations": 2})
    path = journal.path
    path.write_bytes(path.read_bytes().replace(b'"evaluations":1', b'"evaluations":7'))
    entries, end = new_entries(path, 0)
    assert [entry["value"]["work"] for entry in entries] == [{"evaluations": 2}]
    assert end == path.stat().st_size
    assert new_entries(path, end) == ([], end)
    assert new_entries(folder / "missing", 5) == ([], 5)


def test_a_tracker_gets_the_flat_configuration_and_tags(folder):
    run = tracked(folder, CONFIG, "1a2b")
    assert run.config["method_config.sigma.of"] == "[1, 2]"
    assert run.config["limit"] is None
    assert run.tags == {"method": "es", "task": "addition", "model": "tiny", "budget": "quick", "seed": "0"}
    assert run.name == f"es addition tiny quick {folder.name}"


def test_a_tracker_gets_no_path_and_no_address(folder):
    url = "http://10.0.0.7:8000/token-1/v1"
    shape = '{"model_type": "llama"}'
    served = CONFIG.model_copy(
        update={
            "engine": "endpoint",
            "endpoint": url,
            "declared_shape": shape,
            "data": "/home/me/rows.jsonl",
            "method_config": {"teacher": "/home/me/teacher"},
            "launch": {"num_processes": 2, "main_process_ip": "10.0.0.8"},
        }
    )
    run = tracked(folder, served, "1a2b")
    assert (run.config["model"], run.config["data"], run.config["method_config.teacher"]) == (
        "tiny",
        "rows.jsonl",
        "teacher",
    )
    assert run.config["launch.num_processes"] == 2
    result = Result(identity_version=1, id="1a2b", status="ok", config=served)
    reason = f"--endpoint {url}: the server refuses '/home/me/model'"
    values = final(result.model_copy(update={"status": "failed", "reason": reason}))
    assert values["reason"] == "--endpoint URL: the server refuses 'model'"
    for text in (url, shape, "10.0.0", "/home", "/models"):
        assert text not in str([run, values])


def test_final_values_have_each_row_with_its_interval_and_gain():
    accuracy = {"correct": 5, "items": 10, "excluded": 0, "accuracy": 0.5, "low": 0.2, "high": 0.8, "mean_reward": 0.5}
    row = {"accuracy": accuracy, "cost": {"evaluations": 1, "flops": 10, "new_tokens": 2}, "changed": False}
    gain = {"items": 10, "fixes": 1, "regressions": 1, "difference": 0.0, "low": -0.2, "high": 0.2, "p_value": 1.0}
    rows = [{**row, "kind": "base"}, {**row, "label": "k=5", "comparison": gain, "weights": "0" * 64}]
    gate = {"accepted": True, "items": 5, "max_items": 5, "level": 0.05, "reason": "kept"}
    rows.append({**rows[1], "kind": "gated", "gate": gate, "answers_of": 1})
    values = final(Result(identity_version=1, id="1a2b", status="ok", config=CONFIG, rows=rows))
    assert values["final/base/accuracy"] == 0.5
    assert "final/base/gain" not in values
    assert (values["final/k=5/gain_low"], values["final/k=5/gain_high"]) == (-0.2, 0.2)
    assert values["final/k=5/gated/accepted"] == 1.0
    assert values["final/k=5/weights_sha256"] == "0" * 64
