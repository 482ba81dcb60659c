"""Generative self-aggregation: the prompt with drafts, its cost, and the reduction to the base."""

import json
from collections import defaultdict
from dataclasses import replace

import pytest

from bench.engines.placement import Engines
from bench.engines.tokenizer import CheckpointTokenizer
from bench.records.samples import read_samples
from bench.records.schema import RunConfig
from bench.run.context import DeploymentContext
from bench.run.loading import _factory
from bench.run.prepare import prepare
from bench.run.prepare_test import config_of_run, prepare_test
from bench.run.progress import ProgressDisplay
from bench.run.prompting import PLAIN, Prompting, Shot
from bench.run.runner import execute
from bench.weights.points import Point
from methods.gsa import Aggregated, Gsa, GsaConfig
from methods.interface import Decoding
from tasks.addition import Addition
from tasks.interface import SPLITS, Example, Splits, TaskTraits
from tasks.successor import Successor

QUIET = ProgressDisplay(quiet=True)
SEVEN = Example("7", {"n": 7})
QUESTION = "Which number comes after 7? Reply with the number only."
BEHIND = f"""Drafts of an answer to the question at the end. Any of them may be wrong.

Draft 1:
9

Draft 2:
It is 8.

Use what is right in them and answer the question anew.

{QUESTION}"""
DRAFTS = (" 9", "<think>\n7 + 1\n</think>\n\nIt is 8.", "<think>\n7 +", " ")


class Scripted:
    """Deployment whose samples are fixed by their seed, and whose greedy answers count the drafts shown."""

    def __init__(self, script: dict[int, list[str]]) -> None:
        self.script = script

    def prepare(self, points, examples, *how):
        pass

    def answer(self, point, examples, decoding, prompt, drafts=()):
        assert point.is_base
        if decoding.temperature:
            return self.script[decoding.seed]
        self.drafts = drafts
        return [str(len(drafts))] * len(examples)


def run(output, method="gsa", **fields):
    defaults = {"task": "addition", "model": "tiny-adder", "budget": "400", "limit": 20, "dtype": "float32"}
    prepared = prepare(RunConfig(method=method, **(defaults | fields)), output, QUIET)
    return prepared, execute(prepared, QUIET)


def sampled(journal):
    """Sampled answers of each test example, by its position."""
    found = defaultdict(list)
    for entry in map(json.loads, journal.read_text().splitlines()):
        key = entry.get("key", {})
        if key.get("account") == "inference" and key["decoding"]["temperature"]:
            first = int(key["answer"].removeprefix("test "))
            for position, (text, *_) in enumerate(entry["value"]["answers"], start=first):
                found[position].append(text)
    return found


def test_the_question_stands_behind_the_drafts_without_their_thoughts():
    chat, text = (PLAIN.format(Successor(), style, SEVEN, drafts=DRAFTS) for style in ("chat", "completion"))
    assert chat == [{"role": "user", "content": BEHIND}]
    assert text == BEHIND.replace(QUESTION, f"Question: {QUESTION}\nAnswer:")
    one_and_two = Example("1+2", {"a": 1, "b": 2})
    assert PLAIN.format(Addition(), "completion", one_and_two, drafts=("3", "4")) == "3=4=1+2="


@pytest.mark.parametrize("style", ["chat", "completion"])
def test_worked_examples_and_system_message_stay_and_drafts_without_an_answer_change_nothing(style):
    shots = tuple(Shot(Successor(), Example(str(n), {"n": n})) for n in (1, 2))
    prompting = Prompting(shots=shots, system="Be brief.")
    plain = prompting.format(Successor(), style, SEVEN)
    assert prompting.format(Successor(), style, SEVEN, drafts=("", "<think>\n7 +")) == plain
    found = prompting.format(Successor(), style, SEVEN, drafts=DRAFTS)
    if style == "chat":
        assert found[:-1] == plain[:-1]
        assert [turn["role"] for turn in plain] == ["system", "user", "assistant", "user"]
        assert found[-1] == {"role": "user", "content": BEHIND}
    else:
        before, _, question = plain.rpartition("Question: ")
        assert found == before + BEHIND.replace(QUESTION, f"Question: {question}")


def test_all_samples_are_drafts_of_one_greedy_answer():
    artifact = Aggregated(tuple(Decoding(0.7, 1.0, seed) for seed in range(2)), "all")
    deployment = Scripted({0: ["1", "2"], 1: ["5", "3"]})
    assert artifact.answer(deployment, ["a", "b"]) == ["2", "2"]
    assert deployment.drafts == [["1", "2"], ["5", "3"]]
    assert artifact.report == {"samples": 2, "new": 1}  # the draft 2 of b is repeated


def test_it_runs_on_every_task_and_its_plan_counts_the_drafts_that_are_read():
    method, bare = Gsa(GsaConfig()), TaskTraits({"support": 4, "select": 4, "gate": 4})
    assert method.supports(bare) is None
    assert (method.plan(64, bare).evaluations, method.plan(64, bare).passes) == (0, (9,))
    with pytest.raises(ValueError, match="samples"):
        GsaConfig(samples=-1)


@pytest.mark.slow
def test_without_drafts_it_is_the_base(tmp_path):
    _, found = run(tmp_path, gate="off", method_config={"samples": 0})
    _, base = run(tmp_path, "base", gate="off")
    assert found.status == base.status == "ok", found.traceback
    assert found.rows[0] == base.rows[0]
    assert found.rows[1].model_copy(update={"report": {}}) == base.rows[1]
    assert found.ledger == base.ledger


@pytest.mark.slow
def test_a_run_bills_drafts_and_the_long_prompt_and_continues_after_a_kill(tmp_path):
    prepared, result = run(tmp_path, method_config={"samples": 3}, batch_size=4)  # several chunks
    assert result.status == "ok", result.traceback
    assert result.budget.spent == result.ledger["gate"].flops > 0
    row = result.rows[1]
    assert (row.cost.evaluations, result.ledger["inference"].work) == (4, row.work)
    samples = read_samples(prepared.folder)
    base, found = ([sample for sample in samples if sample.row == number] for number in (0, 1))
    tested = prepare_test(config_of_run(prepared.folder, {}), tmp_path, QUIET)
    assert (prepared.drafts, tested.drafts) == (3, 3)
    unknown = tested.config.model_copy(update={"method": "not-installed"})
    assert replace(tested, config=unknown).drafts == 0
    drafts = sampled(prepared.folder / "journal.jsonl")
    assert len(drafts) == 20
    assert {len(each) for each in drafts.values()} == {3}
    for position, (plain, asked) in enumerate(zip(base, found, strict=True)):
        shown = [f"{draft.strip()}=" for draft in drafts[position] if draft.strip()]
        assert asked.prompt[0].content == "".join(shown) + plain.prompt[0].content
    prompts = 3 * sum(s.prompt_tokens for s in base) + sum(s.prompt_tokens for s in found)
    assert row.work.prefill_tokens == prompts > 5 * sum(s.prompt_tokens for s in base)
    journal = prepared.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    kept = next(number for number, line in enumerate(lines) if b'"drafts"' in line)
    for count in (kept, len(lines) - 2):
        journal.write_bytes(b"".join(lines[:count]))
        (prepared.folder / "result.json").unlink()
        again = execute(prepared, QUIET)
        assert again.model_copy(update={"timing": None}) == result.model_copy(update={"timing": None})
        assert read_samples(prepared.folder) == samples


def test_drafts_that_do_not_fit_are_refused_with_the_size_and_what_to_do(tmp_path):
    _, result = run(tmp_path, gate="off", limit=4, method_config={"samples": 9})
    assert result.status == "refused"
    assert result.reason.startswith("gsa with 9 drafts: a prompt of ")
    assert "the model has 32" in result.reason
    assert result.reason.endswith("; or sample fewer: --set samples=8")


@pytest.mark.parametrize("samples", [0, 2, 9])
def test_vllm_has_room_for_the_drafts_as_far_as_the_model_has_positions(tmp_path, samples):
    config = RunConfig(
        method="gsa",
        task="addition",
        model="tiny-adder",
        budget="400",
        dtype="float32",
        method_config={"samples": samples},
        gate="off",
    )
    prepared = prepare(config, tmp_path, QUIET)
    few = Splits(*(getattr(prepared.task_data.splits, name)[:8] for name in SPLITS))
    on_vllm = replace(
        prepared,
        config=prepared.config.model_copy(update={"engine": "vllm"}),
        task_data=replace(prepared.task_data, splits=few),
    )
    room = _factory(on_vllm, Engines()).keywords["max_model_len"]
    encode = CheckpointTokenizer(str(prepared.model.path), "cpu").encode
    new = Addition.max_new_tokens
    # The longest drafts, of new - 1 digits and the end, before each example.
    drafts = ["1" * (new - 1)] * samples
    prompts = [
        encode(PLAIN.format(Addition(), "chat", example, prompt, drafts))
        for _, examples in on_vllm.task_data.asked
        for example in examples
        for prompt in Addition.prompts
    ]
    needed = max(map(len, prompts)) + new
    assert min(needed, 32) <= room <= min(needed + 2 * samples, 32)
    assert (room == 32) == (samples == 9)


def test_drafts_must_be_one_for_each_example():
    deployment = DeploymentContext(None, [], QUIET)
    with pytest.raises(ValueError, match="drafts has lists of 1, 2 answers; each must have 2"):
        deployment.answer(Point(), ["a", "b"], drafts=[["1"], ["2", "3"]])
