"""Runs with thoughts: what is refused before the start, what the record holds, and that a resumed run is the same."""

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console
from tiny_thinker import OPENED, write_thinker
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.cli import cli
from bench.errors import UsageError
from bench.records.config import RunConfig
from bench.records.journal import _line, read_entries
from bench.records.rows import Thoughts
from bench.records.samples import read_samples
from bench.run.data import load_task_data
from bench.run.estimate import estimate
from bench.run.grid import resume_run
from bench.run.prepare import prepare
from bench.run.prepare_test import config_of_run, prepare_test
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.run.thinking import check_thinking
from reports.alike import alike
from reports.check import contradictions
from reports.html.run import run_page
from reports.leaderboard.build import make_board
from reports.leaderboard.columns import columns
from reports.reading import read_record
from reports.run.terminal import print_run
from tasks.thoughts import answer_of, answer_start

QUIET = ProgressDisplay(quiet=True)
LIMIT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_thinker(tmp_path_factory.mktemp("thinker"))


def config(folder, **fields):
    given = {"method": "base", "task": "addition", "model": folder, "budget": "16", "limit": 12}
    given |= {"gate": "off", "max_new_tokens": 40, "max_think_tokens": LIMIT}
    return RunConfig(**(given | fields))


def run(folder, output, **fields):
    prepared = prepare(config(folder, **fields), output, QUIET)
    return prepared, execute(prepared, QUIET)


def comparable(result):
    return result.model_copy(update={"timing": None})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"max_new_tokens": 16},
            "--max-think-tokens 12: a thought of 12 tokens and the 4 that end it leave no room for an answer within "
            "the 16 tokens of addition; give at most 11, or --max-new-tokens 17 or more",
        ),
        (
            {"max_new_tokens": None},
            "--max-think-tokens 12: a thought of 12 tokens and the 4 that end it leave no room for an answer within "
            "the 4 tokens of addition; give --max-new-tokens 17 or more",
        ),
        (
            {"prompt": "completion"},
            "--max-think-tokens 12: texts to complete (--prompt completion) have no thoughts; leave out one option",
        ),
        (
            {"prompt": "completion", "think": "on"},
            "--think on: texts to complete (--prompt completion) have no thoughts; leave out one option",
        ),
    ],
)
def test_options_that_leave_no_thought_or_no_answer_are_refused_with_their_figures(folder, tmp_path, fields, reason):
    with pytest.raises(UsageError) as refused:
        run(folder, tmp_path / "runs", **fields)
    assert str(refused.value) == reason
    assert not (tmp_path / "runs").exists()
    assert estimate(config(folder, **fields), load_task_data(config(folder, **fields))).refused == reason


def test_a_model_without_thoughts_takes_neither_option(tmp_path):
    for option, reason in (
        ({"max_think_tokens": 3, "think": "auto"}, "--max-think-tokens 3: .* writes no delimiter of thoughts"),
        (
            {"max_think_tokens": None, "think": "off"},
            "--think off: .* takes no argument that turns thoughts on",
        ),
    ):
        with pytest.raises(UsageError, match=reason):
            run("tiny-adder", tmp_path, **option)
        command = ["plan", "-m", "base", "-t", "addition", "-M", "tiny-adder", *_arguments(option)]
        planned = CliRunner().invoke(cli, command, catch_exceptions=False)
        assert "refused: --" in planned.output


def test_a_switch_that_a_system_message_overrides_is_refused_before_the_run(tmp_path):
    without = OPENED.replace("enable_thinking is false", "enable_thinking is false and messages[0].role != 'system'")
    folder = write_thinker(tmp_path / "model", without)
    given = {"think": "off", "max_think_tokens": None, "limit": 3}
    reason = "--think off: .* of a conversation of system, user, the chat template makes the same prompt"
    with pytest.raises(UsageError, match=reason):
        run(folder, tmp_path / "runs", system="Be brief.", **given)
    assert not (tmp_path / "runs").exists()
    refused = config(folder, system="Be brief.", **given)
    assert re.match(reason, estimate(refused, load_task_data(refused)).refused)
    assert run(folder, tmp_path / "runs", **given)[1].status == "ok"
    assert run(folder, tmp_path / "runs", system="Be brief.", **(given | {"think": "auto"}))[1].status == "ok"


def _arguments(fields):
    return [part for name, value in fields.items() if value for part in (f"--{name.replace('_', '-')}", str(value))]


def test_the_largest_limit_leaves_one_token_for_the_answer(folder, tmp_path):
    _, result = run(folder, tmp_path, max_new_tokens=17)
    assert result.status == "ok"
    assert result.base.thoughts.cut


def test_an_answer_to_a_text_to_complete_begins_in_no_thought(folder, tmp_path):
    """The chat template opens a thought, but no prompt is made by it."""
    prepared, result = run(folder, tmp_path, prompt="completion", max_think_tokens=None)
    samples = read_samples(prepared.folder)
    assert not any(sample.text.startswith("<think>\n") for sample in samples)
    assert result.base.thoughts.unended < len(samples)
    chat, _ = run(folder, tmp_path, max_think_tokens=None)
    assert all(sample.text.startswith("<think>\n") for sample in read_samples(chat.folder))


def test_methods_that_sample_in_training_are_refused(folder):
    data = load_task_data(config(folder))
    assert data.traits.refused_rollouts.startswith("--max-think-tokens 12 ends thoughts")
    assert load_task_data(config(folder, max_think_tokens=None)).traits.refused_rollouts is None


@pytest.mark.slow
def test_the_record_counts_thoughts_and_a_resumed_run_is_the_same(folder, tmp_path):
    prepared, result = run(folder, tmp_path / "runs", method="self-consistency")
    assert result.status == "ok"
    assert result.config.controls == ("thoughts of at most 12 tokens",)
    base = [sample for sample in read_samples(prepared.folder) if sample.row == 0]
    assert len(base) == 12
    found = result.base.thoughts
    assert found.tokens == sum(sample.thought_tokens for sample in base) / 12
    assert found.cut == sum(sample.thought_cut for sample in base) > 0
    assert found.unended == sum(answer_of(sample.text) is None for sample in base)
    assert all(0 < sample.thought_tokens <= sample.new_tokens for sample in base)
    assert all(sample.thought_tokens >= LIMIT + 4 for sample in base if sample.thought_cut)
    work = result.ledger["evaluation"].work
    assert work.decode_tokens == sum(sample.new_tokens - 1 for sample in base)

    for kept in (3, 6):
        copy = shutil.copytree(prepared.folder, tmp_path / str(kept) / prepared.folder.name)
        lines = (copy / "journal.jsonl").read_bytes().splitlines(keepends=True)
        assert len(lines) > kept
        (copy / "journal.jsonl").write_bytes(b"".join(lines[:kept]))
        (copy / "result.json").unlink()
        again = resume_run(copy, QUIET).result
        assert alike(comparable(again), comparable(result))
        assert (copy / "samples.jsonl").read_bytes() == (prepared.folder / "samples.jsonl").read_bytes()


def test_reports_show_thoughts_where_there_are_any(folder, tmp_path):
    prepared, result = run(folder, tmp_path / "thoughts")
    other, plain = run("tiny-adder", tmp_path / "plain", max_think_tokens=None, max_new_tokens=None)
    found = result.base.thoughts
    sentence = f"base: {found.tokens:.1f} tokens of thought per answer; {found.cut} ended at the limit, "
    assert sentence in _printed(prepared.folder, result)
    assert sentence in run_page(result)
    for record in (_printed(prepared.folder, plain), run_page(plain)):
        assert "of thought" not in record
    assert plain.base.thoughts == Thoughts(tokens=0, cut=0, unended=0)
    board = make_board([read_record(prepared.folder)])
    assert "thought_tokens" in [column.key for column in columns(board)]
    assert [line.thought_tokens for line in board.groups[0].lines] == [found.tokens]
    assert board.groups[0].settings.startswith("thoughts of at most 12 tokens")
    assert "thought_tokens" not in [c.key for c in columns(make_board([read_record(other.folder)]))]


def _printed(folder, result):
    console = Console(record=True, width=200, file=io.StringIO())
    print_run(console, folder, result)
    return console.export_text()


def test_switched_off_thoughts_are_none(folder, tmp_path):
    _, on = run(folder, tmp_path, think="on")
    prepared, off = run(folder, tmp_path, think="off", max_think_tokens=None)
    assert off.config.controls == ("thinking off",)
    assert on.base.thoughts.cut > 0
    assert off.base.thoughts.cut == 0
    assert off.base.thoughts.tokens < on.base.thoughts.tokens
    samples = read_samples(prepared.folder)
    assert {bool(sample.thought_tokens) for sample in samples} == {True, False}  # random weights may write a thought
    assert all(bool(sample.thought_tokens) == (answer_start(sample.text) != 0) for sample in samples)
    assert on.base.work.prefill_tokens != off.base.work.prefill_tokens


def test_an_artifact_is_tested_as_its_run_asked(folder, tmp_path):
    prepared, _ = run(folder, tmp_path, think="on")
    tested = config_of_run(prepared.folder, {"limit": 5})
    assert (tested.think, tested.max_think_tokens) == ("on", LIMIT)
    test = execute(prepare_test(tested, tmp_path / "tests", QUIET), QUIET)
    assert test.status == "ok"
    texts = [s.text for s in read_samples(prepared.folder) if s.row == 0][:5]
    assert [s.text for s in read_samples(prepare_test(tested, tmp_path / "tests", QUIET).folder) if s.row == 0] == texts
    other = config_of_run(prepared.folder, {"task": "modular-addition"})
    with pytest.raises(UsageError, match="within the 4 tokens of modular-addition"):
        prepare_test(other, tmp_path / "tests", QUIET)


@pytest.mark.slow
def test_a_model_from_elsewhere_is_tested_with_thoughts_as_the_options_say(folder, tmp_path):
    elsewhere = write_thinker(tmp_path / "elsewhere", seed=8)
    given = ["--artifact", elsewhere, "--declared-flops", "1e9", "-M", folder, "-t", "addition", "-L", "12", "--json"]

    def tested(*options):
        command = ["test", *given, "--max-new-tokens", "40", "-o", str(tmp_path / "tests"), *options]
        (made,) = json.loads(CliRunner().invoke(cli, command, catch_exceptions=False).stdout)["runs"]
        return made

    on = tested("--think", "on", "--max-think-tokens", str(LIMIT))["result"]
    off, auto = tested("--think", "off")["result"], tested()["result"]
    assert [(each["config"]["think"], each["config"]["max_think_tokens"]) for each in (on, off, auto)] == [
        ("on", LIMIT),
        ("off", None),
        ("auto", None),
    ]
    assert len({each["id"] for each in (on, off, auto)}) == 3
    assert on["rows"][0]["thoughts"]["cut"] > 0
    assert off["rows"][0]["work"]["prefill_tokens"] > on["rows"][0]["work"]["prefill_tokens"]
    assert "give at most 35, or --max-new-tokens 42 or more" in tested("--max-think-tokens", "37")["error"]


def test_a_test_of_a_run_can_ask_otherwise(folder, tmp_path):
    prepared, _ = run(folder, tmp_path / "runs", think="on")
    command = ["test", str(prepared.folder), "--think", "off", "-L", "5", "-o", str(tmp_path / "tests"), "--json"]
    (made,) = json.loads(CliRunner().invoke(cli, command, catch_exceptions=False).stdout)["runs"]
    config = made["result"]["config"]
    assert (made["result"]["status"], config["think"], config["max_think_tokens"]) == ("ok", "off", LIMIT)


def test_an_estimate_takes_a_limited_thought_at_full_length(folder):
    found = estimate(config(folder), load_task_data(config(folder)))
    plain = estimate(config(folder, max_think_tokens=None), load_task_data(config(folder)))
    assert found.thought_tokens == LIMIT + 4
    assert found.new_tokens == plain.new_tokens + LIMIT + 4
    assert f"answers of {found.new_tokens:.0f} tokens, 16 of them a thought as long as it may be" in found.notes[0]
    assert estimate(config(folder, think="off"), load_task_data(config(folder))).new_tokens == plain.new_tokens


def test_a_journal_holds_thoughts_only_where_there_are_any(folder, tmp_path):
    prepared, _ = run(folder, tmp_path / "a")
    plain, _ = run("tiny-adder", tmp_path / "b", max_think_tokens=None, max_new_tokens=None)

    def fields(run):
        entries = map(json.loads, (run.folder / "journal.jsonl").read_text().splitlines())
        return {len(answer) for entry in entries for answer in entry["value"].get("answers") or ()}

    assert fields(prepared) == {6}
    assert fields(plain) == {4}


def test_a_thought_that_is_opened_again_is_no_contradiction(tmp_path):
    folder = write_thinker(tmp_path / "model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ends = tokenizer.convert_tokens_to_ids(["</think>", "<|im_end|>", "<eos>"])
    model.lm_head.weight.data[ends] = 0
    model.lm_head.weight.data[tokenizer.convert_tokens_to_ids("<think>")] *= 8
    model.save_pretrained(folder)
    prepared, result = run(folder, tmp_path / "runs")
    assert result.base.thoughts.cut == result.base.thoughts.unended == 12
    assert not list(contradictions(read_record(prepared.folder)))


def test_of_answers_in_a_journal_of_an_earlier_version_thoughts_are_not_known(folder, tmp_path):
    prepared, result = run(folder, tmp_path)
    assert result.base.thoughts.tokens
    known = [sample for sample in read_samples(prepared.folder) if not sample.thought_tokens]
    journal = prepared.folder / "journal.jsonl"
    entries, _ = read_entries(journal)
    for entry in entries:
        if answers := entry["value"].get("answers"):
            entry["value"]["answers"] = [answer[:4] for answer in answers]
    journal.write_bytes(b"".join(map(_line, entries)))
    (prepared.folder / "result.json").unlink()
    assert resume_run(prepared.folder, QUIET).result.base.thoughts is None
    samples = read_samples(prepared.folder)
    assert [sample for sample in samples if sample.thought_tokens is not None] == known
    assert any(sample.thought_tokens is None and sample.thought_cut is None for sample in samples)


def test_without_the_options_no_tokenizer_is_opened():
    data = load_task_data(config("m"))
    check_thinking(config("m", max_think_tokens=None), data, Path("no folder"))
    with pytest.raises(UsageError, match="no folder"):
        check_thinking(config("m"), data, Path("no folder"))
