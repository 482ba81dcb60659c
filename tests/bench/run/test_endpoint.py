"""Runs on the model of a server: results, resuming, identity, refusals, and what later commands say of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from openai_server import OpenAIServer

import bench.models
from bench.cli import cli
from bench.compute.budget import parse_budget
from bench.compute.flops import compute_profile, generation_flops
from bench.engines.placement import Engines
from bench.errors import Refused, UsageError
from bench.models.endpoint import ServedModel, source_of
from bench.records.config import RunConfig
from bench.records.paths import without_paths
from bench.records.schema import Versions, read_result
from bench.registry import load_method
from bench.registry import names as registered
from bench.run.artifacts import find_adapted
from bench.run.data import load_task_data
from bench.run.endpoint import check_options
from bench.run.grid import expand, resumed, run_grid
from bench.run.loading import placed
from bench.run.prepare import prepare, refused_because
from bench.run.progress import ProgressDisplay
from bench.run.run_id import run_id
from bench.run.settings import parse

pytest.importorskip("openai")

SHAPE = (Path(bench.models.__path__[0]) / "tiny_adder" / "config.json").read_text()
PROFILE = compute_profile(json.loads(SHAPE))
KEY = "sk-this-is-a-secret"


def grid(server, *methods, **options):
    options = {"endpoint": server.url, "declared_shape": SHAPE, "engine": "endpoint", "limit": 12} | options
    given = {"tasks": ["addition"], "models": [server.name], "budgets": ["100"], "seeds": [0]}
    return expand(methods=methods, **given, **options)


def execute(runs, folder):
    outcomes = run_grid(runs, folder, lambda number: ProgressDisplay(quiet=True), lambda number, outcome: None)
    for outcome in outcomes:
        if outcome.error:
            raise outcome.error
    return [outcome.folder for outcome in outcomes]


@pytest.fixture(scope="module")
def server():
    # Hub ids and names of ours are names like others at a server.
    with OpenAIServer("tiny-adder") as made:
        yield made


METHODS = ("base", "self-consistency", "prompt-search", "gsa", "prompted-self-consistency")
FEW = [parse(f"{method}.samples=3", "--set") for method in ("self-consistency", "gsa", "prompted-self-consistency")]


@pytest.fixture(scope="module")
def runs(server, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OPENAI_API_KEY", KEY)
        folder = tmp_path_factory.mktemp("runs")
        return dict(zip(METHODS, execute(grid(server, *METHODS, settings=FEW), folder), strict=True))


def invoke(*arguments):
    return CliRunner().invoke(cli, [*map(str, arguments)], standalone_mode=False)


def samples(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_base_answers_and_costs_what_the_declared_shape_gives(runs):
    result = read_result(runs["base"])
    assert result.status == "ok"
    assert result.rows[0].accuracy.correct == 12
    expected = sum(generation_flops(PROFILE, len(s["id"]) + 3, len(s["text"]) + 1) for s in samples(runs["base"])[:12])
    assert result.ledger["evaluation"].flops == expected
    assert result.rows[0].cost.flops == expected / 12


@pytest.mark.slow
def test_every_method_that_moves_no_weights_runs_within_its_budget(runs):
    for folder in runs.values():
        result = read_result(folder)
        assert result.status == "ok", result.reason
        assert result.budget.spent <= result.budget.flops
    assert read_result(runs["prompt-search"]).ledger["tune"].work.evaluations > 30


@pytest.mark.slow
def test_a_record_marks_the_model_and_holds_no_key(runs):
    result = read_result(runs["base"])
    assert result.model.name == "tiny-adder (declared, not verified)"
    assert result.processor is None
    assert result.saved is None
    assert result.engine["served_model"] == "tiny-adder"
    for file in runs["base"].rglob("*"):
        assert file.is_dir() or KEY not in file.read_text()
    shown = invoke("show", runs["base"]).stdout
    assert "base on addition, tiny-adder (declared, not verified)" in shown
    assert f"name and shape {result.model.digest[:12]}" in shown


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_an_unbroken_one_at_another_address(runs, tmp_path):
    whole = runs["prompt-search"]
    lines = (whole / "journal.jsonl").read_bytes().splitlines(keepends=True)
    folder = tmp_path / whole.name
    folder.mkdir()
    (folder / "journal.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    with OpenAIServer("tiny-adder") as elsewhere:
        config = json.loads((whole / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"endpoint": elsewhere.url}))
        execute([resumed(folder)], tmp_path)
        assert 0 < len(elsewhere.asked) < 120
    before, after = read_result(whole), read_result(folder)
    assert after.rows == before.rows
    assert after.ledger == before.ledger
    assert (folder / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()


@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_configuration_of_the_server(runs, tmp_path):
    folder = tmp_path / runs["base"].name
    folder.mkdir()
    shutil.copy(runs["base"] / "config.json", folder)
    first = (runs["base"] / "journal.jsonl").read_bytes().splitlines(keepends=True)[0]
    (folder / "journal.jsonl").write_bytes(first)
    with OpenAIServer("tiny-adder") as changed:
        changed.change = lambda reply: reply.update(system_fingerprint="fp_2")
        config = json.loads((folder / "config.json").read_text()) | {"endpoint": changed.url}
        (folder / "config.json").write_text(json.dumps(config))
        execute([resumed(folder)], tmp_path)
    result = read_result(folder)
    assert result.status == "failed"
    assert "journal.jsonl, line 1: holds" in result.reason


def test_name_and_shape_are_the_identity_and_the_address_is_not(server):
    def identity(**changes):
        config = grid(server, "base", **changes)[0].config
        versions = Versions(method="1", task="1", noise="1", flops=3)
        return run_id(config, versions, "0", source_of(config).prepare().provenance.sha256, 200)

    def named(name):
        with OpenAIServer(name) as renamed:
            (run,) = grid(renamed, "base")
        return source_of(run.config).prepare().provenance.sha256

    other = json.dumps(json.loads(SHAPE) | {"num_hidden_layers": 4})
    assert identity() == identity(endpoint="https://elsewhere.example/v1/")
    assert identity() == identity(declared_shape=json.dumps(json.loads(SHAPE), indent=7))
    assert len({identity(), identity(declared_shape=other), identity(batch_size=2)}) == 3
    assert named("other") != named("tiny-adder")


def test_the_identity_of_a_published_record_is_that_of_its_run():
    shape = json.dumps(json.loads(SHAPE) | {"_name_or_path": "/home/me/checkpoints/adder"}, indent=1)
    values = {"method": "base", "task": "addition", "engine": "endpoint", "declared_shape": shape}
    config = RunConfig(model="/home/me/models/adder", **values)
    published = RunConfig.model_validate(without_paths(config.model_dump(mode="json")))
    assert "/home" not in published.model_dump_json()
    assert source_of(published).prepare().provenance.sha256 == source_of(config).prepare().provenance.sha256
    assert published.model_label == config.model_label == "adder (declared, not verified)"


@pytest.mark.slow
def test_a_published_record_of_a_model_that_is_named_by_a_path_passes_its_audit(tmp_path):
    with OpenAIServer("/home/me/models/adder") as named:
        (run,) = execute(grid(named, "base"), tmp_path / "runs")
    for _ in range(2):  # the second time, the committed record is read too
        assert invoke("publish", run, "--into", tmp_path / "board").return_value == 0
    (record,) = (tmp_path / "board" / "records").rglob("seed-*.json")
    assert not [text for text in ("/home", named.url) if text in record.read_text()]
    found = invoke("audit", record, "--json")
    findings = {each["check"]: each for each in json.loads(found.stdout)["audits"][0]["findings"]}
    assert found.return_value == 0, findings
    assert findings["method and model"]["verdict"] == "agrees"


def test_a_local_model_of_the_same_name_keeps_its_source_and_id():
    local = RunConfig(method="base", task="addition", model="tiny-adder")
    assert source_of(local).local() is not None
    served = local.model_copy(update={"engine": "endpoint", "declared_shape": SHAPE})
    source = source_of(served)
    assert (source.label, source.local()) == ("tiny-adder (declared, not verified)", None)
    assert source_of(served.model_copy(update={"model": "/models/a b"})).slug == "endpoint-models--a--b"


@pytest.mark.parametrize(("text", "words"), [("{", "not JSON"), ("[]", "no model_type"), ('{"a": 1}', "no model_type")])
def test_a_shape_that_is_none_is_an_error(text, words):
    with pytest.raises(UsageError, match=f"--declared-shape: .*{words}"):
        ServedModel("m", "m", "m", text).config()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"endpoint": None}, "--engine endpoint: give the server with --endpoint"),
        ({"declared_shape": None}, "give the model's config.json with --declared-shape FILE"),
        ({"dtype": "float32"}, "--dtype float32: with --engine endpoint the server decides this"),
        ({"device": "cpu"}, "--device cpu"),
        ({"think": "off"}, "--think off"),
        ({"max_think_tokens": 5}, "--max-think-tokens 5"),
        ({"endpoint": "127.0.0.1:8000"}, "expected a base URL such as"),
        ({"endpoint": "http://me:secret@host/v1"}, "without name, password or query"),
        ({"endpoint": "http://host:port/v1"}, "expected a base URL such as"),
        ({"engine": "transformers"}, "endpoint: belongs to --engine endpoint"),
        ({"engine": "transformers", "endpoint": None}, "--declared-shape: belongs to --engine endpoint"),
    ],
)
def test_an_option_that_is_missing_or_is_the_servers_is_an_error(server, options, words):
    with pytest.raises(UsageError, match=words):
        grid(server, "base", **options)


def test_an_option_of_a_record_is_checked_too(server, tmp_path):
    (run,) = grid(server, "base")
    config = run.config.model_copy(update={"declared_shape": None})
    with pytest.raises(UsageError, match="--declared-shape"):
        prepare(config, tmp_path, ProgressDisplay(quiet=True))
    check_options(run.config)


@pytest.mark.slow
def test_methods_that_move_weights_are_refused_at_once(server, tmp_path):
    (run,) = grid(server, "base")
    traits = load_task_data(run.config).traits
    allowed = []
    for name in registered("method"):
        if load_method(name).Config.model_json_schema().get("required"):
            continue
        method = load_method(name)(load_method(name).Config())
        config = run.config.model_copy(update={"method": name})
        reason = refused_because(config, method, traits, parse_budget("100k"))
        if reason is None or "--engine endpoint" not in reason:
            allowed.append(name)
    assert sorted(allowed) == sorted({"best-of-n", *METHODS})
    (moving,) = execute(grid(server, "es"), tmp_path)
    assert read_result(moving).status == "refused"
    assert "method es needs the model's weights" in read_result(moving).reason


@pytest.mark.slow
def test_a_budget_of_time_and_several_engines_are_refused(server, tmp_path):
    (run,) = grid(server, "prompt-search")
    timed = replace(run, config=run.config.model_copy(update={"budget": "60s"}))
    (folder,) = execute([timed], tmp_path)
    assert "the time of a server is not known" in read_result(folder).reason
    prepared = prepare(run.config, tmp_path, ProgressDisplay(quiet=True))
    assert placed(prepared, Engines(None)) == Engines(1)
    with pytest.raises(UsageError, match=r"--engines 2: .*--batch-size"):
        placed(prepared, Engines(2))
    with pytest.raises(UsageError, match="--ray-address auto"):
        placed(prepared, Engines(2, "auto"))


def test_a_plan_needs_no_server(server):
    shape = ["--declared-shape", str(Path(bench.models.__path__[0]) / "tiny_adder" / "config.json")]
    served = ["--engine", "endpoint", "--endpoint", "http://127.0.0.1:1/v1", *shape, "-M", "/models/adder"]
    found = invoke("plan", "-m", "prompt-search", "-m", "corp", "-t", "addition", *served, "--json")
    search, corp = json.loads(found.stdout)["plans"]
    assert search["evaluation_flops_estimate"] > 0
    assert search["refused"] is None
    assert "method corp needs the model's weights" in corp["refused"]


@pytest.mark.slow
def test_later_commands_refuse_what_needs_the_weights(runs, tmp_path):
    run = runs["prompt-search"]
    for command in (("test", run, "-t", "modular-addition"), ("export", run, "-o", tmp_path / "x")):
        error = invoke(*command).exception
        assert isinstance(error, Refused)
        assert f"{run}: its model tiny-adder ran at http://127.0.0.1:" in str(error)
    with pytest.raises(Refused, match="its weights are not here"):
        find_adapted([run])


@pytest.mark.slow
def test_an_audit_checks_the_record_and_says_why_it_repeats_nothing(runs):
    for method in ("base", "prompt-search"):
        found = invoke("audit", runs[method], "--json")
        findings = {each["check"]: each for each in json.loads(found.stdout)["audits"][0]["findings"]}
        assert found.return_value == 0, findings
        assert findings["repetition"]["verdict"] == "not checked"
        assert "what it runs cannot be verified" in findings["repetition"]["detail"]
        assert findings["FLOPs and budget"]["verdict"] == "agrees"


@pytest.mark.slow
def test_an_audit_finds_a_shape_that_was_changed_afterwards(runs, tmp_path):
    folder = tmp_path / runs["base"].name
    shutil.copytree(runs["base"], folder)
    smaller = json.dumps(json.loads(SHAPE) | {"num_hidden_layers": 2})
    for name in ("config.json", "result.json"):
        content = json.loads((folder / name).read_text())
        content.get("config", content)["declared_shape"] = smaller
        (folder / name).write_text(json.dumps(content))
    found = invoke("audit", folder, "--json")
    findings = {each["check"]: each for each in json.loads(found.stdout)["audits"][0]["findings"]}
    assert findings["method and model"]["verdict"] == "differs"
    assert "model.fingerprint" in findings["method and model"]["detail"]


@pytest.mark.slow
def test_a_board_marks_the_model(runs):
    found = invoke("leaderboard", runs["base"].parents[3])
    assert "tiny-adder (declared, not verified)" in found.stdout
