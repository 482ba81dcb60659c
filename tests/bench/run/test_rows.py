"""Rows and samples of real runs: lengths and ends of answers, digests of weights, and refused cells."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.errors import BenchError, Refused
from bench.models.digest import digest
from bench.records.samples import read_samples
from bench.records.schema import Duplicates, RunConfig
from bench.run.environment import processor
from bench.run.prepare import finished, prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.weights.points import Point
from methods.interface import Method, Plan, SingleModel
from reports.leaderboard.build import make_board
from reports.reading import read_record
from tasks.addition import Addition
from tasks.examples import SPLITS, Example, cut


class Fixed(Method):
    """Method that returns a fixed point."""

    name = "fixed"
    version = "1"

    def plan(self, evaluations, task):
        return Plan(())

    def adapt(self, context):
        return SingleModel(Point({1: 5e-3}))


class Composes(Fixed):
    """Method whose artifact answers with texts of its own."""

    def adapt(self, context):
        class Composed(SingleModel):
            def answer(self, deployment, examples):
                return [f"it is {text}" for text in deployment.answer(self.point, examples)]

        return Composed(Point())


class AsksOtherwise(Fixed):
    """Method whose artifact asks with another prompt."""

    def adapt(self, context):
        return SingleModel(prompt="swapped")


class RefusesMidway(Fixed):
    """Method that finds out during the run that it cannot do it."""

    def adapt(self, context):
        context.evaluate(Point({1: 1e-3}), "support", account="sample", examples=range(20))
        raise Refused("this model has no second prompt")


class Doubles(Addition):
    """Addition in which the sums with one first number belong together."""

    def load(self, data=None):
        every = super().load(data)
        examples = [replace(e, group=str(e.fields["a"])) for name in SPLITS for e in getattr(every, name)]
        return cut(examples, salt="doubles", support=400, select=400, gate=1000, test=2000)


class Repeats(Addition):
    """Addition in which sums of the support split occur in the test split."""

    def load(self, data=None):
        every = super().load(data)
        again = [Example(f"{e.id} again", e.fields) for e in every.support[:30]]
        return replace(every, test=(*again, *every.test))


def run(folder, method="base", task="addition", **fields):
    method = method if isinstance(method, str) else f"{__name__}:{method.__name__}"
    config = RunConfig(method=method, task=task, model="tiny-adder", budget="600", limit=60, **fields)
    prepared = prepare(config, folder, ProgressDisplay(quiet=True))
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


def test_each_sample_says_how_long_its_answer_is_and_why_it_ended(tmp_path):
    # Two digits and the end take 3 tokens, so longer sums are cut off.
    prepared, result = run(tmp_path, "base", max_new_tokens=3)
    samples = [s for s in read_samples(prepared.folder) if s.row == 0]
    assert {s.finish for s in samples} == {"end", "length"}
    assert all((s.finish == "length") == (len(s.text) == 3) for s in samples)
    assert all(s.new_tokens == 3 for s in samples if s.finish == "length")
    assert all(s.new_tokens == len(s.text) + 1 for s in samples if s.finish == "end")
    assert sum(s.prompt_tokens for s in samples) == result.rows[0].work.prefill_tokens
    # The last token of an answer is never run.
    assert sum(s.new_tokens - 1 for s in samples) == result.rows[0].work.decode_tokens
    cut_off = sum(s.finish == "length" for s in samples) / len(samples)
    assert [row.truncated for row in result.rows] == [cut_off, cut_off]
    assert 0 < cut_off < 1


def test_each_line_of_the_samples_is_whole(tmp_path):
    prepared, _ = run(tmp_path, Fixed, seed=3)
    lines = [json.loads(line) for line in (prepared.folder / "samples.jsonl").read_text().splitlines()]
    assert len(lines) == 120
    examples = {e.id: e for e in prepared.task_data.splits.test[:60]}
    for line in lines:
        example = examples[line["id"]]
        assert line["method"] == ("base" if line["row"] == 0 else f"{__name__}:Fixed")
        assert (line["task"], line["model"], line["label"], line["seed"]) == ("addition", "tiny-adder", "", 3)
        assert line["prompt_id"] == "default"
        assert line["prompt"] == Addition().messages(example)
        assert line["gold"] == Addition().gold(example)
        assert line["correct"] == (line["answer"] == line["gold"])


def test_each_answer_has_the_prompt_that_it_answers(tmp_path):
    prepared, _ = run(tmp_path, AsksOtherwise)
    base, other = (next(s for s in read_samples(prepared.folder) if s.row == row) for row in (0, 1))
    assert (base.id, base.prompt_sha256) == (other.id, other.prompt_sha256)
    assert (base.prompt_id, other.prompt_id) == ("default", "swapped")
    a, b = base.id.split("+")
    assert (base.question, other.question) == (f"user: {a}+{b}=", f"user: {b}+{a}=")
    assert [s.gold for s in (base, other)] == [str(int(a) + int(b))] * 2


def test_a_fixed_template_is_the_prompt_of_all_answers(tmp_path):
    prepared, _ = run(tmp_path, template="swapped")
    assert {s.prompt_id for s in read_samples(prepared.folder)} == {"swapped"}


def test_an_answer_that_no_model_generated_on_its_own_has_no_length(tmp_path):
    prepared, result = run(tmp_path, Composes)
    samples = [s for s in read_samples(prepared.folder) if s.row == 1]
    assert {(s.finish, s.prompt_tokens, s.new_tokens) for s in samples} == {(None, None, None)}
    assert {(s.prompt_id, s.prompt) for s in samples} == {(None, None)}
    assert result.rows[1].truncated is None


def test_the_weights_of_a_single_model_are_identified(tmp_path):
    prepared, result = run(tmp_path, Fixed)
    base, moved, gated = result.rows
    assert gated.weights == (moved if gated.gate.accepted else base).weights
    assert base.weights == result.model.digest
    saved = load_file(prepared.folder / "artifact" / "model.safetensors")
    assert moved.weights == digest(saved) != base.weights


def test_the_record_names_the_processor_and_the_shape_of_the_model(tmp_path):
    prepared, result = run(tmp_path, "base")
    assert result.processor == processor("cpu")
    assert result.processor.name
    assert result.processor.torch == torch.__version__
    assert result.processor.model or not Path("/proc/cpuinfo").exists()
    assert result.model.shape.layers == 3
    attempt = json.loads((prepared.folder / "attempts" / "1.json").read_text())
    assert attempt["processor"]["name"] == result.processor.name


def test_test_items_that_belong_together_have_one_cluster_in_samples_and_record(tmp_path):
    prepared, _ = run(tmp_path, task=f"{__name__}:Doubles")
    samples = [s for s in read_samples(prepared.folder) if s.row == 0]
    firsts = [s.id.partition("+")[0] for s in samples]
    labels = {first: label for label, first in enumerate(dict.fromkeys(firsts))}
    assert 1 < len(labels) < len(samples)
    assert [s.cluster for s in samples] == [labels[first] for first in firsts]
    record = read_record(prepared.folder)
    assert record.clusters == tuple(s.cluster for s in samples)
    path = tmp_path / "seed-0-1.json"
    path.write_text(record.model_dump_json())
    assert read_record(path) == record
    path.write_text(record.model_copy(update={"clusters": (0, 1)}).model_dump_json())
    with pytest.raises(BenchError, match="clusters has 2 labels; expected one for each item"):
        read_record(path)
    samples_path = prepared.folder / "samples.jsonl"
    samples_path.write_text(samples_path.read_text().replace('"cluster":0', '"cluster":null'))
    with pytest.raises(BenchError, match=r"samples\.jsonl: only some samples have a cluster"):
        read_record(prepared.folder)


def test_items_on_their_own_have_no_cluster(tmp_path):
    prepared, result = run(tmp_path)
    assert {s.cluster for s in read_samples(prepared.folder)} == {None}
    assert read_record(prepared.folder).clusters is None
    assert result.duplicates == Duplicates(left_out=0)


def test_the_record_counts_questions_in_two_splits_and_the_start_says_so(tmp_path, capsys):
    config = RunConfig(method="base", task=f"{__name__}:Repeats", model="tiny-adder", budget="600", limit=60)
    display = ProgressDisplay()
    prepared = prepare(config, tmp_path, display)
    assert "pairs of examples in two splits are near duplicates (support and test 30)" in capsys.readouterr().err
    result = execute(prepared, display)
    assert result.duplicates == Duplicates(left_out=0, across={"support and test": 30})


def test_a_method_that_refuses_midway_is_a_refused_cell_that_can_be_run_again(tmp_path):
    prepared, result = run(tmp_path, RefusesMidway)
    assert (result.status, result.reason, result.traceback) == ("refused", "this model has no second prompt", None)
    assert result.ledger["sample"].work.evaluations == 20
    assert finished(prepared) is None
    (line,) = make_board([read_record(prepared.folder)]).groups[0].lines
    assert (line.status, line.accuracy) == ("refused", None)
    assert line.problems == ("seed 0: refused: this model has no second prompt",)
