"""Compare what every command prints with `--json` with its schema in docs/schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from hub_server import connected

from bench.cli import cli, demo
from bench.cli.outputs import output_types

SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"
PROGRAM = {"code": "def f(x): return x + 1", "entry_point": "f", "test": "assert f(2) == 3"}


def printed(*arguments: Any) -> Any:
    outcome = CliRunner().invoke(cli, [*map(str, arguments), "--json"], standalone_mode=False, catch_exceptions=False)
    return json.loads(outcome.stdout)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Outputs of every command, by the command's name."""
    folder = tmp_path_factory.mktemp("outputs")
    runs, grid = folder / "runs", ["-t", "addition", "-M", "tiny-adder", "-b", "800", "-L", "20", "-o"]
    ran = printed("run", "-m", "corp", "-m", "landscape", "-m", "grpo", *grid, runs, "--set", "grpo.lr=1e-4")
    refused = printed("run", "-m", "corp", *grid[:4], "-b", "10", "-o", runs)
    corp, landscape, grpo = (run["folder"] for run in ran["runs"])
    (folder / "programs.jsonl").write_text(json.dumps(PROGRAM) + "\n")
    example = json.loads((Path(corp) / "samples.jsonl").read_text().splitlines()[0])["id"]
    (folder / "answers.jsonl").write_text(json.dumps({"task_id": example, "completion": "3"}) + "\n")
    with connected(folder / "cache"):
        hub = {
            "push model": [printed("push", "model", grpo, "--to", "me/model")],
            "push records": [printed("push", "records", runs, "--to", "me/records")],
            "push board": [printed("push", "board", runs, "--to", "me/board")],
            "pull model": [printed("pull", "model", "me/model", "-o", folder / "pulled")],
            "pull records": [printed("pull", "records", "me/records", "-o", folder / "records")],
        }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "METHODS", ("base",))
        patch.setattr(demo, "find_spec", lambda _: None)
        shown = printed("demo", "-o", folder / "demo")
        patch.setenv("TENSORBOARD_LOGGING_DIR", str(folder / "tensorboard"))
        tracked = printed("track", corp, "--to", "tensorboard")
    return {
        "demo": [shown],
        "run": [ran, refused],
        "resume": [printed("resume", corp)],
        "test": [printed("test", corp, "-t", "modular-addition", "-L", "20", "-o", runs)],
        "plan": [printed("plan", "-m", "corp", *grid[:4], "-b", budget) for budget in ("800", "10", "1e9flops", "2h")],
        "list": [printed("list"), printed("list", "methods", "-v"), printed("list", "runs", "-o", runs)],
        "audit": [printed("audit", corp)],
        "show": [printed("show", corp), printed("show", corp, "-n", "2")],
        "compare": [printed("compare", corp, landscape)],
        "analyze split-half": [printed("analyze", "split-half", landscape, "--permutations", "20")],
        "analyze density": [printed("analyze", "density", landscape)],
        "analyze gate": [printed("analyze", "gate", grpo)],
        "analyze geometry": [printed("analyze", "geometry", grpo, "-L", "4", "--along", "3")],
        "analyze ledger": [printed("analyze", "ledger", corp)],
        "status": [printed("status", runs)],
        "leaderboard": [printed("leaderboard", runs), printed("leaderboard", runs, "--rate", "0.7 Wh")],
        "publish": [printed("publish", runs, "--into", folder / "board")],
        "report": [printed("report", runs, "-o", folder / "site")],
        **hub,
        "track": [tracked],
        "export": [printed("export", corp, "-o", folder / "model")],
        "export-data": [printed("export-data", runs, "-o", folder / "data")],
        "prepare": [printed("prepare", "-t", "addition", "-M", "tiny-adder")],
        "doctor": [printed("doctor")],
        "score": [printed("score", "-t", "addition", "--completions", folder / "answers.jsonl")],
        "sandbox run": [printed("sandbox", "run", folder / "programs.jsonl")],
        "check": [printed("check", "-t", "addition", "-L", "4"), printed("check", "-m", "base", "-b", "64")],
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", output_types())
def test_the_output_of_every_command_matches_its_schema(outputs: dict[str, list[Any]], command: str) -> None:
    schema = json.loads((SCHEMAS / f"{command.replace(' ', '-')}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for output in outputs[command]:
        jsonschema.validate(output, schema, jsonschema.Draft202012Validator)


@pytest.mark.slow
def test_a_schema_refuses_an_output_of_another_shape(outputs: dict[str, list[Any]]) -> None:
    schema = json.loads((SCHEMAS / "run.json").read_text())
    (record,) = outputs["show"][:1]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record, schema)


def test_a_listing_and_a_plan_match_their_schemas() -> None:
    for command, output in (("list", printed("list", "methods", "-v")), ("plan", printed("plan", "-t", "addition"))):
        jsonschema.validate(output, json.loads((SCHEMAS / f"{command}.json").read_text()))
