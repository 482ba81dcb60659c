import json
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.cli.config_file import keys, planned_runs, read_config_file
from bench.cli.options import fields
from bench.cli.run import run
from bench.errors import UsageError

GRID = 'task = "addition"\nmodel = "tiny-adder"\n'


def read(tmp_path: Path, text: str) -> dict:
    path = tmp_path / "grid.toml"
    path.write_text(text)
    return read_config_file(path, click.Context(run))


def plans(tmp_path: Path, text: str, *arguments: str) -> list[dict]:
    path = tmp_path / "grid.toml"
    path.write_text(GRID + text)
    command = ["plan", "-C", str(path), "--json", *arguments]
    result = CliRunner().invoke(cli, command, standalone_mode=False, catch_exceptions=False)
    return json.loads(result.stdout)["plans"]


def test_every_field_with_an_option_is_a_key_and_so_are_the_other_options_of_a_run():
    names = {name for name, _, _ in fields()}
    assert {"method", "max_new_tokens", "allow_unsandboxed"} <= names
    others = {"launch", "launch_config", "output", "engines", "ray_address"}
    assert keys(run).keys() == names | others | {"cells_on", "at_once", "time_limit", "slurm", "track"}


def test_values_are_read_for_the_parameters_of_the_command(tmp_path):
    found = read(tmp_path, 'method = ["base", "corp"]\nseed = 3\nbudget = 2048\nlimit = 5\nallow_unsandboxed = true\n')
    assert found == {
        "methods": ["base", "corp"],
        "seeds": [3],
        "budgets": ["2048"],
        "limit": 5,
        "allow_unsandboxed": True,
    }


def test_values_of_settings_keep_their_types(tmp_path):
    found = read(tmp_path, '[set.corp]\nsigmas = [0.1, 0.2]\n[set]\nrank = 4\n[vary.corp]\nnoise = ["iid", "a|b"]\n')
    assert {each.path: each.values for each in found["settings"]} == {
        ("corp", "sigmas"): ([0.1, 0.2],),
        ("rank",): (4,),
    }
    (noise,) = found["variations"]
    assert (noise.path, noise.values) == (("corp", "noise"), ("iid", "a|b"))


def test_a_text_with_a_bar_is_one_value_of_a_file(tmp_path):
    with pytest.raises(UsageError, match=r"grid\.toml: \[vary\] corp\.noise = .*corp\.noise: .*given \"iid\|tied\""):
        plans(tmp_path, '[vary.corp]\nnoise = ["iid|tied"]\n')
    assert len(plans(tmp_path, '[vary.corp]\nnoise = ["iid", "tied"]\n')) == 2


def test_the_table_of_a_method_may_be_empty(tmp_path):
    (plan,) = plans(tmp_path, "[set.corp]\n[set.grpo]\n[vary.corp]\n")
    assert plan["method"] == "corp"


def test_a_file_may_say_that_the_number_of_engines_is_chosen(tmp_path):
    assert read(tmp_path, 'engines = "auto"') == {"engines": None}
    assert read(tmp_path, "engines = 2") == {"engines": 2}


def test_an_option_overrides_the_file(tmp_path):
    text = 'method = ["corp", "base"]\nseed = [0, 1]\n[set.corp]\nattempts = 0\n'
    assert len(plans(tmp_path, text)) == 4
    (plan,) = plans(tmp_path, text, "-m", "corp", "-s", "7", "-b", "600", "--set", "corp.attempts=1")
    assert (plan["method"], plan["seed"], plan["budget"]) == ("corp", 7, "600")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task = [", "Invalid value"),
        ('tsk = "addition"', "unknown key 'tsk'; did you mean 'task'"),
        ("json = true", "unknown key 'json'"),
        ("seed = [0, 1.5]", r"seed = \[0, 1.5\]: expected a whole number.*given 1.5"),
        ('seed = [0, "1"]', r'seed = \[0, "1"\]: expected a whole number.*given "1"'),
        ("seed = 1.0", "seed = 1.0: expected a whole number"),
        ("seed = 1979-05-27", 'seed = "1979-05-27": expected a whole number'),
        ("seed = true", "seed = true: expected a whole number .given true"),
        ("seed = []", r"seed = \[\]: expected at least one value"),
        ("limit = 0", "limit = 0: expected 1 or more"),
        ("limit = [5]", r"limit = \[5\]: expected a whole number"),
        ('limit = "60"', 'limit = "60": expected a whole number .given "60"'),
        ("limit = false", "limit = false: expected a whole number"),
        ("device = true", "device = true: expected text"),
        ("strategy = 1.5", "strategy = 1.5: expected text"),
        ('prompt = "chatty"', "prompt = \"chatty\": .*'auto', 'chat', 'completion'"),
        ("prompt = 1", r"prompt = 1: expected \[auto\|chat\|completion\] as text, in quotes"),
        ('strategy = "maj"', 'strategy = "maj": expected greedy.*given "maj"'),
        ('allow_unsandboxed = "yes"', 'allow_unsandboxed = "yes": expected true or false'),
        ("engines = 0", "engines = 0: expected 1 or more"),
        ('engines = "2"', 'engines = "2": expected auto, or a whole number'),
        ('data = "missing.jsonl"', 'data = "missing.jsonl": missing.jsonl: there is no such file'),
        ("data = 3", "data = 3: expected FILE as text, in quotes"),
        ('budget = "smol"', "--budget smol: expected smoke"),
        ('budget = ["small", "0"]', "--budget 0: expected smoke"),
        ('task = "additoin"', "--task additoin: unknown; did you mean 'addition'"),
        ('adapt_on = "additoin"', "--task additoin: unknown; did you mean 'addition'"),
        ('method = ["base", "crop"]', "--method crop: unknown; did you mean 'corp'"),
        ('model = "tiny-addr"', "--model tiny-addr: no such model; did you mean tiny-adder"),
        ("set = 3", r"set = 3: expected a table, such as \[set.corp\]"),
        ("[vary.corp]\nnoise = []", r"\[vary\] corp.noise = \[\]: expected at least one value"),
    ],
)
def test_an_invalid_file_is_an_error_that_names_file_key_value_and_what_is_expected(tmp_path, text, message):
    with pytest.raises(UsageError, match=rf"--config .*grid\.toml: .*{message}"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[set.corp]\nrnak = 4", r"\[set\] corp.rnak = 4: corp has no setting 'rnak'; did you mean 'rank'"),
        (
            "[set.corp]\nrank = 'four'",
            r'\[set\] corp.rank = "four": corp.rank: expected a whole number.*"four"',
        ),
        ("[set.corp]\nrank = [1, 2]", r"\[set\] corp.rank = \[1, 2\]: corp.rank: expected a whole number.*\[1, 2\]"),
        ("[set.grpo]\nlr = 'fast'", r'\[set\] grpo.lr = "fast": grpo.lr: expected a number.*"fast"'),
        (
            "[set.corp]\nattempts = true",
            r"\[set\] corp.attempts = true: corp.attempts: expected a whole .*given true",
        ),
        (
            "[set.corp]\nattempts = '4'",
            r'\[set\] corp.attempts = "4": corp.attempts: expected a whole .*given "4"',
        ),
        ("[set.grpo]\nlora = {}", r"\[set\] grpo.lora = {}: grpo.lora.rank: missing$"),
        ("[set.grpo.lora]", r"\[set\] grpo.lora = {}: grpo.lora.rank: missing$"),
        ("[set]\n'corp.rank' = 4", r"\[set\] \"corp.rank\" = 4: no method of this run has a setting"),
        ("[set]\ncorp = 4", r"\[set\] corp = 4: no method of this run has a setting 'corp'"),
        ("[set]\ncrop = {}", r"\[set\] crop = {}: no method of this run has a setting 'crop'"),
        ("[set.corp]\nrank = 1979-05-27", r'\[set\] corp.rank = "1979-05-27": JSON has no such value; expected text'),
        ("[vary.es]\nsigma = [1, nan]", r"\[vary\] es.sigma = \[1, NaN\]: JSON has no such value; .* finite"),
        ("[vary.corp]\nrank = [1, 0]", r"\[vary\] corp.rank = \[1, 0\]: corp.rank: expected 1 or more \(given 0\)"),
    ],
)
def test_an_invalid_setting_of_a_file_is_an_error_that_names_both(tmp_path, text, message):
    with pytest.raises(UsageError, match=rf"--config .*grid\.toml: {message}"):
        plans(tmp_path, text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-L", "many"], "'--limit': expected a whole number.*given \"many\""),
        (["-s", "-1"], "'--seed': expected 0 or more .given -1"),
        (["--prompt", "chatty"], "'--prompt': 'chatty' is not one of 'auto', 'chat', 'completion'"),
        (["--strategy", "pass@0"], "'--strategy': expected greedy.*given \"pass@0\""),
        (["--engines", "0"], "'--engines': expected 1 or more .given 0"),
    ],
)
def test_an_invalid_option_is_an_error_that_names_option_value_and_what_is_expected(arguments, message):
    command = ["run", "-t", "addition", *arguments]
    with pytest.raises(click.BadParameter) as caught:
        CliRunner().invoke(cli, command, standalone_mode=False, catch_exceptions=False)
    assert re.search(message, caught.value.format_message())


def test_a_system_message_is_the_text_of_its_file_on_the_command_line_and_in_a_file(tmp_path):
    message = tmp_path / "system.txt"
    message.write_text("\nBe brief.\n\n")
    (tmp_path / "grid.toml").write_text(f"{GRID}system = {json.dumps(str(message))}\n")
    (planned,) = planned_runs(tmp_path / "grid.toml")
    assert planned.config.system == "Be brief."
    given = run.make_context("run", ["-t", "addition", "--system", str(message)])
    assert given.params["system"] == "Be brief."


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such file"), (b"", "is empty"), (b"\xff\xfe\x00", "not UTF-8 text")],
)
def test_a_system_message_that_cannot_be_read_is_an_error_that_names_file_and_reason(tmp_path, content, message):
    path = tmp_path / "system.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"grid\.toml: system = .*system\.txt.*{message}"):
        read(tmp_path, f"system = {json.dumps(str(path))}\n")
    with pytest.raises(click.BadParameter, match=message):
        run.make_context("run", ["-t", "addition", "--system", str(path)])
