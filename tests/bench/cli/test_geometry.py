import json
import re
import shutil

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from bench.cli import cli
from bench.errors import BenchError, UsageError
from bench.records.schema import RunConfig, read_result
from bench.run.prepare import prepare
from bench.run.prepare_test import config_of_run, prepare_test
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute

LIMIT = 20


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")

    def run(method, budget="260", shots=0, **settings):
        fields = {"method": method, "task": "addition", "model": "tiny-adder", "budget": budget, "limit": LIMIT}
        fields |= {"shots": shots}
        prepared = prepare(RunConfig(**fields, method_config=settings), folder, ProgressDisplay(quiet=True))
        assert execute(prepared, ProgressDisplay(quiet=True)).status == "ok"
        return prepared.folder

    return {
        "randopt": run("randopt", top_k=[1, 5], sigmas=[0.01]),
        "grpo": run("grpo", budget="600", lr=1e-4),
        "base": run("base"),
        "shots": run("randopt", shots=2, top_k=[1], sigmas=[0.01]),
    }


def analyze(*arguments):
    result = CliRunner(env={"COLUMNS": "80"}).invoke(
        cli, ["analyze", "geometry", *map(str, arguments)], standalone_mode=False
    )
    if result.exception:
        raise result.exception
    return result.stdout


@pytest.fixture
def copied(runs, tmp_path):
    """Copy a run, so that a test may damage it."""

    def copy(name):
        return shutil.copytree(runs[name], tmp_path / name)

    return copy


@pytest.fixture(scope="module")
def found(runs):
    together = [runs[name] for name in ("randopt", "grpo", "base")]
    return json.loads(analyze(*together, "-L", LIMIT, "-t", "modular-addition", "--along", 3, "--json"))


def test_it_reports_size_direction_and_effect_and_saves_them_in_each_run(runs, found):
    assert [move["name"] for move in found["moves"]] == ["randopt k=1", "grpo"]
    assert found["weights"] == 333_984
    for name, move in zip(("randopt", "grpo"), found["moves"], strict=True):
        row = read_result(runs[name]).artifacts[0]
        assert move["norm"] == pytest.approx(row.move.survived, rel=1e-5)
        assert sum(part["share"] for part in move["layers"]) == pytest.approx(1)
        assert json.loads((runs[name] / "analysis" / "geometry.json").read_text()) == found
    assert abs(found["cosines"][0][1]) < 5 * found["null_sd"]
    assert not (runs["base"] / "analysis").exists()


def test_the_ends_of_lines_have_the_accuracies_of_the_records(runs, found):
    records = {"randopt k=1": read_result(runs["randopt"]), "grpo": read_result(runs["grpo"])}
    accuracies = {name: record.artifacts[0].accuracy.accuracy for name, record in records.items()}
    accuracies["base"] = records["grpo"].rows[0].accuracy.accuracy
    assert len(set(accuracies.values())) > 1
    assert [(line["start"], line["end"]) for line in found["lines"]] == [
        ("base", "randopt k=1"),
        ("base", "grpo"),
        ("randopt k=1", "grpo"),
    ]
    for line in found["lines"]:
        assert (line["task"], line["items"], line["places"]) == ("addition", LIMIT, [0.0, 0.5, 1.0])
        assert line["accuracy"][0] == accuracies[line["start"]]
        assert line["accuracy"][-1] == accuracies[line["end"]]


def test_drift_is_measured_on_the_task_and_off_it(found):
    assert [(drift["name"], drift["task"], drift["on_task"]) for drift in found["drifts"]] == [
        ("randopt k=1", "addition", True),
        ("grpo", "addition", True),
        ("randopt k=1", "modular-addition", False),
        ("grpo", "modular-addition", False),
    ]
    assert all(drift["from_base"]["value"] > 0 and drift["to_base"]["value"] > 0 for drift in found["drifts"])


def test_what_is_no_changed_model_is_left_out_with_its_name(found):
    voting, base, _ = found["notes"]
    assert voting.startswith("randopt k=5 of run ")
    assert voting.endswith("several models answer, and it is no single place in weight space")
    assert base.startswith("base of run ")
    assert base.endswith("its weights are the base's")


def test_prompts_of_another_task_that_are_the_same_are_counted(found):
    assert found["notes"][-1].startswith("20 of 20 prompts of modular-addition are also asked by a task ")


def test_its_compute_is_on_an_account_of_its_own(runs, found):
    computed = found["computed"]
    assert computed["account"] == "analysis"
    # The base's answers to both tasks for the drift, then those of three ends and of the middle of three lines.
    assert computed["evaluations"] == LIMIT * (2 + 3 + 3)
    assert computed["hardware_flops"] >= computed["flops"] > 0
    assert "analysis" not in read_result(runs["grpo"]).ledger


def test_the_text_fits_80_columns_and_a_file_can_be_named(runs, tmp_path):
    before = (runs["grpo"] / "analysis" / "geometry.json").read_bytes()
    text = analyze(runs["grpo"], runs["randopt"], "-L", 10, "--along", 3, "-o", tmp_path / "found.json")
    assert (runs["grpo"] / "analysis" / "geometry.json").read_bytes() == before
    assert len(json.loads((tmp_path / "found.json").read_text())["lines"]) == 3
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines() if "  " in line)
    assert "share of weights" in text
    assert "recorded with the analysis, and billed to no budget" in text
    assert "randopt k=5 of run" in text


def test_a_point_that_lost_its_weights_is_computed_again_exactly(copied, found):
    run = copied("randopt")
    (run / "artifact" / "k=1" / "model.safetensors").unlink()
    again = json.loads(analyze(run, "-L", LIMIT, "--along", 3, "--json"))
    assert again["drifts"] == found["drifts"][:1]  # of the same weights, to the last bit
    assert again["lines"] == found["lines"][:1]
    assert again["moves"][0]["norm"] == pytest.approx(found["moves"][0]["norm"])


def test_trained_weights_that_are_gone_or_edited_are_an_error(copied):
    run = copied("grpo")
    file = run / "artifact" / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    with pytest.raises(BenchError, match=r"the artifact's weights are gone; run it again, or leave .*grpo out"):
        analyze(run)
    save_file(tensors | {"model.norm.weight": tensors["model.norm.weight"] + 1}, file)
    with pytest.raises(BenchError, match=r"its weights have digest .* where the run's record has"):
        analyze(run)
    save_file({"other": torch.zeros(2)}, file)
    with pytest.raises(BenchError, match=r"the weights are not those of LlamaForCausalLM: .* missing"):
        analyze(run)
    shutil.rmtree(run / "artifact")
    with pytest.raises(BenchError, match="artifact: the artifact is gone"):
        analyze(run)


def test_a_run_is_asked_with_its_own_prompts_and_never_compared_with_another_kind(runs):
    alone = json.loads(analyze(runs["shots"], "-L", LIMIT, "-t", "modular-addition", "--along", 3, "--json"))
    rows = read_result(runs["shots"]).rows
    (line,) = alone["lines"]
    assert [line["accuracy"][0], line["accuracy"][-1]] == [row.accuracy.accuracy for row in rows[:2]]
    assert rows[0].accuracy.accuracy != read_result(runs["grpo"]).rows[0].accuracy.accuracy
    both = json.loads(analyze(runs["grpo"], runs["shots"], "-L", LIMIT, "--along", 3, "--json"))
    assert [move["name"] for move in both["moves"]] == ["grpo"]
    (note,) = both["notes"]
    assert re.match(r"run \w{8} of randopt is left out: its prompts \(chat, 2 shots\) are not", note)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"point\.json: .*expected a table.*; restore it, or leave"),
        ('{"checkpoint": "x"}', r"point\.json: prompt: missing.*; restore it, or leave"),
        ('{"prompt": "default", "amplitudes": {}}', r"expected either checkpoint, or noise, kind and amplitudes"),
        ('{"prompt": "default", "noise": "n", "kind": "iid", "amplitudes": {"a": 1}}', r"point\.json: amplitudes\.a"),
    ],
)
def test_an_edited_origin_is_an_error_that_names_the_field(copied, content, message):
    run = copied("grpo")
    (run / "artifact" / "point.json").write_text(content)
    with pytest.raises(BenchError, match=message):
        analyze(run)


def test_a_test_has_no_artifact_and_names_its_source(runs, tmp_path):
    config = config_of_run(runs["grpo"], {})
    prepared = prepare_test(config, tmp_path, ProgressDisplay(quiet=True))
    execute(prepared, ProgressDisplay(quiet=True))
    with pytest.raises(UsageError, match=r"a test of a model that was made before.*; analyse its source, .*grpo"):
        analyze(prepared.folder)


def test_an_artifact_that_answers_another_prompt_is_left_out(copied):
    run = copied("grpo")
    origin = run / "artifact" / "point.json"
    origin.write_text(json.dumps(json.loads(origin.read_text()) | {"prompt": "brief"}))
    with pytest.raises(UsageError, match=r"no run has one changed model to analyse: .*answers the prompt 'brief'"):
        analyze(run)
    origin.write_text("{")
    with pytest.raises(BenchError, match=r"point\.json: cannot be read"):
        analyze(run)


def edited(run, **changes):
    path = run / "result.json"
    record = json.loads(path.read_text())
    for key, value in changes.items():
        record[key] = {**record[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(record))
    return run


def test_runs_that_cannot_be_compared_are_errors(runs, copied):
    with pytest.raises(UsageError, match=r"no run has one changed model to analyse: base of run .* the base's"):
        analyze(runs["base"])
    with pytest.raises(UsageError, match=r"grpo: is the same run as .*; name each run once"):
        analyze(runs["grpo"], copied("grpo"))
    other = edited(copied("randopt"), model={"digest": "0" * 64})
    with pytest.raises(UsageError, match=r"its base is tiny-adder in float32 \(weights 00000000\), and that of "):
        analyze(runs["grpo"], other)
    with pytest.raises(BenchError, match="its weights are not those that the run began with"):
        analyze(other)
    shutil.rmtree(other)
    with pytest.raises(BenchError, match="addition has changed since this run"):
        analyze(edited(copied("randopt"), content_hash="0" * 64))


def test_a_run_that_did_not_end_ok_is_an_error(copied):
    run = edited(copied("base"), status="failed", rows=[], reason="stopped")
    with pytest.raises(UsageError, match="ended as failed and has no artifact"):
        analyze(run)


def test_options_are_checked(runs):
    with pytest.raises(UsageError, match="--task additoin: unknown; did you mean 'addition'"):
        analyze(runs["grpo"], "-t", "additoin")
    for option in (("-L", 1), ("--along", 2)):
        outcome = CliRunner().invoke(cli, ["analyze", "geometry", str(runs["grpo"]), *map(str, option)])
        assert outcome.exit_code == 2
        assert "Invalid value" in outcome.output
