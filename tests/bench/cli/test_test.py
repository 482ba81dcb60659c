import json

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.errors import UsageError
from bench.records.schema import find_runs, read_result


def invoke(*arguments):
    return CliRunner(catch_exceptions=False).invoke(cli, [*map(str, arguments)], standalone_mode=False)


def outcome(*arguments):
    """Return the data that a command prints as JSON."""
    result = invoke(*arguments, "--json")
    assert result.return_value == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    found = outcome("run", "-m", "es", "-t", "addition", "-M", "tiny-adder", "-b", "256", "-L", "30", "-o", output)
    return output, found["runs"][0]["folder"]


def test_each_task_is_a_test_of_each_run_and_a_complete_one_is_not_repeated(runs):
    output, folder = runs
    command = ("test", folder, "-t", "addition", "-t", "modular-addition", "-L", "30", "-o", output)
    first = outcome(*command)["runs"]
    assert [each["result"]["config"]["task"] for each in first] == ["addition", "modular-addition"]
    assert [each["cached"] for each in first] == [False, False]
    assert [each["cached"] for each in outcome(*command)["runs"]] == [True, True]
    assert len(find_runs(output)) == 3
    same = read_result(find_runs(output / "addition" / "tiny-adder" / "es")[0])
    assert same.rows[0].accuracy.items == 30


def test_options_that_are_left_out_are_as_in_the_run(runs, tmp_path):
    _, folder = runs
    (made,) = outcome("test", folder, "-o", tmp_path)["runs"]
    config, source = made["result"]["config"], json.loads(json.dumps(read_result_config(folder)))
    assert {**config, "source": None} == source
    (other,) = outcome("test", folder, "--max-new-tokens", "1", "--strategy", "pass@2", "-o", tmp_path)["runs"]
    changed = {"source": None, "max_new_tokens": None, "strategy": "greedy"}
    assert other["result"]["config"] | changed == source


def read_result_config(folder):
    from pathlib import Path

    return read_result(Path(folder)).config.model_dump(mode="json")


def test_output_names_the_source_and_what_is_carried_over(runs, tmp_path):
    _, folder = runs
    text = invoke("test", folder, "-t", "modular-addition", "-L", "10", "-o", tmp_path).stdout
    assert "es on addition to modular-addition" in text
    assert f"artifacts of run {folder[-8:]}, adapted on addition; its costs of adaptation" in text
    assert "next:   bench show" in text


def test_a_declared_model_is_marked_and_never_matched_or_ranked(runs, tmp_path):
    _, folder = runs
    command = ("--artifact", f"{folder}/artifact", "-t", "addition", "-M", "tiny-adder", "-L", "30", "-o", tmp_path)
    text = invoke("test", *command, "--declared-flops", "2e9").stdout
    assert "artifact (declared, not metered) on addition" in text
    assert "trained elsewhere for 2e+09 FLOPs, as declared and not metered" in text
    (group,) = json.loads(invoke("leaderboard", tmp_path, "--json").stdout)["groups"]
    (row,) = (line for line in group["lines"] if line["method"] != "base")
    assert row["name"] == "artifact (declared, not metered)"
    assert (row["matched"], row["letters"], row["flops"], row["evaluations"]) == (None, None, 2e9, 0)
    assert (group["ruleset"], group["budget"]) == ("declared", "2e9flops")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to test: give run directories, or a model with --artifact"),
        (["RUN", "--declared-flops", "1e9"], "--declared-flops 1e9: belongs to --artifact"),
        (["RUN", "-M", "tiny-adder"], "--model tiny-adder: belongs to --artifact"),
        (["RUN", "--artifact", "x"], "--artifact x: give either it or run directories"),
        (["RUN", "-t", "adition"], "adition.*did you mean"),
        (["--artifact", "x", "-M", "tiny-adder", "-t", "addition"], "say what it took with --declared-flops"),
        (["--artifact", "x", "-M", "tiny-adder", "--declared-flops", "1"], "--artifact x: also needs --task"),
        (["--artifact", "x", "-t", "addition", "--declared-flops", "1"], "--artifact x: also needs --model"),
        (["--artifact", "x", "-M", "tiny-addr", "-t", "addition", "--declared-flops", "1"], "did you mean tiny-adder"),
        *(
            (["--artifact", "x", "-M", "tiny-adder", "-t", "addition", "--declared-flops", flops], message)
            for flops, message in (
                ("1e99eflops", "^--declared-flops 1e99eflops: expected at most 1e30 FLOPs"),
                ("1e31", "^--declared-flops 1e31: expected at most 1e30 FLOPs"),
            )
        ),
        *(
            (
                ["--artifact", "x", "-M", "tiny-adder", "-t", "addition", "--declared-flops", flops],
                "--declared-flops .*positive number of",
            )
            for flops in ("0", "2h", "small", "-1", "many")
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(runs, arguments, message):
    given = [runs[1] if argument == "RUN" else argument for argument in arguments]
    with pytest.raises(UsageError, match=message):
        invoke("test", *given)


def test_a_test_has_no_artifact_to_export(runs, tmp_path):
    _, folder = runs
    (made,) = outcome("test", folder, "-o", tmp_path)["runs"]
    with pytest.raises(UsageError, match="a test, which saves no artifact; what it tested is in"):
        invoke("export", made["folder"], "-o", tmp_path / "model")
