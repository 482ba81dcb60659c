import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from bench.cli import cli, main
from bench.models.digest import digest
from bench.models.embedded import EMBEDDED
from bench.records.schema import find_runs

QUICK = ["-t", "addition", "-M", "tiny-adder", "-b", "600", "-L", "40"]


def invoke(*arguments, code=0):
    """Run `main` in this process and check its exit status."""
    result = run_main(arguments)
    assert result.code == code, result.stderr
    return result


class Outcome:
    def __init__(self, code, stdout, stderr):
        self.code, self.stdout, self.stderr = code, stdout, stderr

    @property
    def data(self):
        return json.loads(self.stdout)


def run_main(arguments):
    runner = CliRunner()
    with runner.isolation() as (out, err, _):
        old = sys.argv
        sys.argv = ["bench", *map(str, arguments)]
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        finally:
            sys.argv = old
        return Outcome(code, out.getvalue().decode(), err.getvalue().decode())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("finished")
    outcome = invoke("run", "-m", "base", "-m", "corp", *QUICK, "-o", output, "--json")
    return output, outcome


def test_run_prints_json_on_stdout_and_progress_on_stderr(finished):
    _, outcome = finished
    runs = outcome.data["runs"]
    assert [run["result"]["config"]["method"] for run in runs] == ["base", "corp"]
    assert all(run["result"]["status"] == "ok" for run in runs)
    assert "corp: done in 0:0" in outcome.stderr
    assert outcome.stderr.endswith("2 of 2 cells done\n")


def test_the_summary_shows_accuracy_costs_gate_and_next_steps(tmp_path):
    outcome = invoke("run", *QUICK, "-o", tmp_path)
    for word in ("accuracy", "95 % interval", "FLOPs per", "gate", "inference", "not billed", "record:", "next:"):
        assert word in outcome.stdout
    assert "\x1b[" not in outcome.stdout
    assert "gate: base and result on at most 66 items; detects a gain of " in outcome.stderr
    assert re.search(r"^gate:   (corp kept in place of the base|the base stays) \(corp ", outcome.stdout, re.MULTILINE)
    assert "more:   budget small (4,096 evaluations): its gate keeps a gain of 10 points in 9 of 10" in outcome.stdout


def test_a_grid_skips_complete_runs(finished):
    output, before = finished
    again = invoke("run", "-m", "base", "-m", "corp", *QUICK, "-o", output, "--json").data["runs"]
    assert all(run["cached"] for run in again)
    assert [run["result"] for run in again] == [run["result"] for run in before.data["runs"]]


def test_a_grid_continues_after_a_refused_run(tmp_path):
    grid = ["-m", "corp", "-m", "base", *QUICK[:4], "-b", "20", "-L", "40"]
    outcome = invoke("run", *grid, "-o", tmp_path, "--json", code=3)
    refused, ran = outcome.data["runs"]
    assert refused["error"] is None
    assert (refused["result"]["status"], refused["result"]["traceback"]) == ("refused", None)
    assert "buys" in refused["result"]["reason"]
    assert ran["result"]["status"] == "ok"


def test_the_command_line_overrides_a_configuration_file(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'method = ["corp"]\ntask = ["addition"]\nmodel = ["tiny-adder"]\nbudget = ["600"]\nseed = [0, 1]\nlimit = 40\n'
        "[set.corp]\nattempts = 0\nsigmas = [0.002]\n"
    )
    runs = invoke("run", "-C", path, "-s", "5", "-o", tmp_path / "runs", "--json").data["runs"]
    assert [run["result"]["config"]["seed"] for run in runs] == [5]
    assert runs[0]["result"]["config"]["method_config"]["sigmas"] == [0.002]


def test_show_and_list_read_the_records_of_run(finished):
    output, before = finished
    folder = before.data["runs"][1]["folder"]
    shown = invoke("show", folder, "--json", "-n", "3").data
    assert len(shown.pop("samples")) == 6  # the base's answers and the artifact's
    assert shown == before.data["runs"][1]["result"]
    assert "accuracy" in invoke("show", folder).stdout
    timing, times = shown["timing"], invoke("show", folder, "--time").stdout
    assert {"loading", "generation", "judging"} <= timing["kinds"].keys()
    assert sum(timing["kinds"].values()) < timing["total"]
    assert all(name in times for name in (*timing["kinds"], *timing["stages"], "the harness itself"))
    listed = invoke("list", "runs", "-o", output, "--json").data["runs"]
    results = {run["folder"]: run["result"] for run in before.data["runs"]}
    assert {row["name"] for row in listed} == results.keys()
    for row in listed:
        result, (shown,) = results[row["name"]], row["rows"]
        config, (base, trained, *_) = result["config"], result["rows"]
        same = ("method", "task", "adapt_on", "model", "budget", "seed", "strategy", "limit")
        assert {name: row[name] for name in same} == {name: config[name] for name in same}
        assert (row["id"], row["status"], row["settings"]) == (result["id"], "ok", config["method_config"])
        assert (row["base"], shown["accuracy"]) == (base["accuracy"]["accuracy"], trained["accuracy"]["accuracy"])
        assert (row["spent"], row["limit_flops"]) == (result["budget"]["spent"], result["budget"]["flops"])
        assert (row["seconds"], row["started"][:2]) == (result["timing"]["total"], "20")


def test_show_prints_the_configuration_and_compare_the_changed_items(finished):
    _, before = finished
    base, corp = (run["folder"] for run in before.data["runs"])
    shown = invoke("show", corp).stdout
    assert re.search(r"settings:  .*sigmas = ", shown, re.DOTALL)
    assert "reward by candidate (" in shown
    found = invoke("compare", base, corp, "--json").data
    compared = before.data["runs"][1]["result"]["rows"][1]["comparison"]
    assert (len(found["fixes"]), len(found["regressions"])) == (compared["fixes"], compared["regressions"])
    assert found["difference"]["value"] == compared["difference"]
    assert "exact McNemar" in invoke("compare", base, corp).stdout
    assert "at most two" in invoke("compare", base, corp, "-r", "a", "-r", "b", "-r", "c", code=2).stderr


def test_export_writes_a_checkpoint_and_does_not_overwrite(finished, tmp_path):
    _, before = finished
    folder = before.data["runs"][1]["folder"]
    invoke("export", folder, "-o", tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert "not empty" in invoke("export", folder, "-o", tmp_path / "model", code=2).stderr


def test_resume_of_a_finished_run_runs_nothing(finished):
    _, before = finished
    outcome = invoke("resume", before.data["runs"][0]["folder"], "--json")
    assert outcome.data["runs"][0]["cached"]


def test_plan_loads_no_model_and_adds_up():
    plans = invoke("plan", "-m", "corp", "-m", "base", "-t", "humaneval", "-b", "small", "--json").data["plans"]
    corp = plans[0]
    assert sum(line["evaluations"] for line in corp["lines"]) <= corp["evaluations"] == 4096
    assert corp["evaluation_flops_estimate"] > 1e9
    assert "FLOPs" in invoke("plan", "-t", "humaneval").stdout


def test_list_names_everything():
    listed = invoke("list", "--json").data
    assert {row["name"] for row in listed["methods"]} >= {"base", "corp"}
    assert {row["name"] for row in listed["tasks"]} >= {"humaneval", "addition"}
    assert "sigmas" in invoke("list", "methods", "-v").stdout


def test_doctor_reports_every_part():
    report = invoke("doctor", "--json").data
    assert report["sandbox"]["sufficient"]
    assert report["packages"]["torch"]
    assert report["tasks"]["humaneval"].startswith("support 28")
    assert report["models"]["tiny-adder"] == "ready"


def test_doctor_names_the_extra_of_each_missing_library(monkeypatch):
    installed = importlib.metadata.version

    def version(name):
        if name in ("trl", "reasoning-gym"):
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr("bench.cli.doctor.version", version)
    lines = [" ".join(line.split()) for line in invoke("doctor").stdout.splitlines()]
    assert "trl not installed; extra train" in lines
    assert "reasoning-gym not installed; extra tasks" in lines


def test_doctor_names_the_extras_as_they_are_declared():
    from bench.cli.doctor import PACKAGES

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        extra: {re.split(r"[<>=\[]", text)[0] for text in texts}
        for extra, texts in project["optional-dependencies"].items()
    }
    for package, extras in PACKAGES.items():
        if package not in ("bench-post-training", "tokenizers"):  # itself, and what comes with transformers
            found = {extra for extra in declared.keys() - {"dev", "docs"} if package in declared[extra]}
            assert found == set(filter(None, extras.split(", "))), package


def test_doctor_reads_the_cache_and_does_not_use_the_network(tmp_path, monkeypatch):
    from tasks.sources import Source

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(Source, "_download", lambda _: pytest.fail("went to the hub"))
    tasks = invoke("doctor", "--json").data["tasks"]
    assert tasks["gsm8k"] == "fetched on first use, or by `bench prepare -t gsm8k`"
    assert tasks["rocstories"].startswith("not available: rocstories: ")
    assert tasks["countdown"].startswith("support ")


def test_adapt_on_uses_all_examples_of_the_task_for_testing():
    data = Path(__file__).parents[2] / "tasks" / "data" / "mbpp.jsonl"
    options = ["-m", "base", "-t", "humaneval", "--adapt-on", "mbpp", "--adapt-data", data]
    (plan,) = invoke("plan", *options, "--json").data["plans"]
    assert plan["splits"] == {"support": 4, "select": 2, "gate": 3, "test": 164}
    assert (plan["task"], plan["adapt_on"]) == ("humaneval", "mbpp")
    assert invoke("plan", *options).stdout.startswith("base on mbpp to humaneval, ")
    assert "did you mean 'mbpp'" in invoke("plan", *options[:4], "--adapt-on", "mbbp", code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "-t", "humanevil"], 2, "did you mean 'humaneval'"),
        (["run", "-m", "crop", "-t", "addition"], 2, "did you mean 'corp'"),
        (["run", "-t", "addition", "-b", "smal"], 2, "--budget smal"),
        (["run", "-t", "addition", "--set", "alpha=1"], 2, "did you mean 'alphas'"),
        (["run", "-t", "addition", "--set", "attempts=-1"], 2, "attempts"),
        (["run", "-t", "addition", "--set", "attempts"], 2, "expected KEY="),
        (["run", "-t", "addition", "-M", "tiny-addr"], 2, "did you mean tiny-adder"),
        (["run", "-t", "addition", "-s", "-1"], 2, "-1"),
        (["rnu"], 2, "did you mean 'run'"),
        (["show", "."], 2, "not a run directory"),
    ],
)
def test_an_invalid_argument_is_an_error_with_a_suggestion(tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    outcome = invoke(*arguments, code=code)
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert find_runs(tmp_path) == []


def test_several_engines_without_ray_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.engines.placement.find_spec", lambda name: None)
    refused = invoke("run", *QUICK, "--engines", "2", "--ray-address", "auto", "-o", tmp_path, code=3)
    assert "--ray-address auto needs ray" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_unknown_keys_of_a_configuration_file_are_named(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text("methods = ['corp']\n")
    assert "did you mean 'method'" in invoke("run", "-C", path, "-t", "addition", code=2).stderr


def test_every_command_has_help():
    for name in cli.list_commands(None):
        assert len(invoke(name, "--help").stdout.splitlines()) > 5


@pytest.mark.slow
def test_the_core_starts_without_torch(tmp_path):
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'vllm'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from bench.cli import main\n"
        "sys.argv = ['bench', *sys.argv[1:]]\n"
        "main()\n"
    )
    for arguments in (["list"], ["plan", "-t", "humaneval"], ["list", "methods", "-v"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    refused = subprocess.run(
        [sys.executable, "-c", code, "run", *QUICK, "-o", tmp_path], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 3
    assert "running a model needs torch" in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def rounded(tmp_path_factory):
    """Runs in bfloat16: one of a single point, and one of a point and ensembles."""
    output = tmp_path_factory.mktemp("rounded")
    given = [*QUICK, "--dtype", "bfloat16", "--gate", "off", "--set", "es.sigma=3e-3", "--set", "es.step=1e-4"]
    found = invoke("run", "-m", "es", "-m", "randopt", *given, "-o", output, "--json").data["runs"]
    return {run["result"]["config"]["method"]: run for run in found}


def test_export_in_float32_is_the_point_before_it_was_rounded(rounded, tmp_path):
    base = load_file(EMBEDDED["tiny-adder"].local() / "model.safetensors")
    for method, label in (("es", ""), ("randopt", "k=1")):
        run = rounded[method]
        folder = tmp_path / method
        invoke("export", run["folder"], "-o", folder, "--dtype", "float32")
        moved = load_file(folder / label / "model.safetensors")
        assert {tensor.dtype for tensor in moved.values()} == {torch.float32}
        assert json.loads((folder / label / "config.json").read_text())["dtype"] == "float32"
        squares = sum((moved[name] - base[name].bfloat16().float()).double().square().sum() for name in moved)
        (row,) = (row for row in run["result"]["rows"][1:] if (row["kind"], row["label"]) == ("method", label))
        assert float(squares) ** 0.5 == pytest.approx(row["move"]["norm"], rel=1e-3)
        rounded_again = digest({name: tensor.bfloat16() for name, tensor in moved.items()})
        assert rounded_again == row["weights"]


def test_a_move_that_the_dtype_rounds_away_is_on_record_and_is_told(rounded):
    base, row, *_ = rounded["es"]["result"]["rows"]
    assert base["move"] is None
    assert row["move"]["cosine"] < 0.9
    line = "es: bfloat16 does not hold the move of the weights (cosine "
    assert f"warning: {line}" in invoke("show", rounded["es"]["folder"]).stdout
    board = invoke("leaderboard", "--format", "terminal", *(run["folder"] for run in rounded.values())).stdout
    line = "bfloat16 does not hold the moves of these rows' weights (cosine below 0.9, the lowest over seeds): es ("
    assert line in " ".join(board.split())
    others = [row for row in rounded["randopt"]["result"]["rows"] if row["kind"] == "method"]
    assert [row["move"] is None for row in others] == [row["label"] != "k=1" for row in others]


def test_export_in_float32_needs_a_single_model(tmp_path):
    given = [*QUICK, "-o", tmp_path / "runs", "--set", "top_k=[3]", "--json"]
    (run,) = invoke("run", "-m", "randopt", *given).data["runs"]
    outcome = invoke("export", run["folder"], "-o", tmp_path / "model", "--dtype", "float32", code=2)
    assert "is not one model, and has no weights" in outcome.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("dtype", "lr", "warned"), [("bfloat16", 1e-6, True), ("bfloat16", 1e-4, False), ("float32", 1e-6, False)]
)
def test_plan_warns_of_training_that_the_dtype_rounds_away(dtype, lr, warned):
    given = ["-m", "grpo", "-t", "addition", "-M", "tiny-adder", "-b", "small", "--dtype", dtype, "--set", f"lr={lr}"]
    (found,) = invoke("plan", *given, "--json").data["plans"]
    assert any(note.startswith("bfloat16 rounds most of this training away") for note in found["notes"]) == warned
