import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from bench.errors import BenchError, Refused, UsageError
from bench.records.samples import read_samples
from bench.records.schema import Duplicates, Result, RunConfig, read_result
from bench.records.source import RunSource
from bench.run.data import load_task_data
from bench.run.grid import expand, resume_run, run_grid
from bench.run.prepare import prepare
from bench.run.prepare_test import _adapted_apart, config_of_model, config_of_run, prepare_test
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.weights.noise import Noise
from bench.weights.points import Point
from methods.interface import Artifact, Method, MethodConfig, Plan, SingleModel
from tasks.addition import Addition
from tasks.interface import SPLITS, Example, cut

QUIET = ProgressDisplay(quiet=True)


class Moved(Method):
    """Method that returns four artifacts: two models, the base, and one that asks two of them."""

    name = "moved"
    version = "3"

    def plan(self, evaluations, task):
        return Plan((), passes=(1, 1, 2))

    def adapt(self, context):
        context.evaluate(Point(), "support", account="sample", examples=range(20))
        context.report["secret"] = "of the source"
        return {
            "near": SingleModel(Point({1: 5e-3})),
            "far": SingleModel(Point({1: 3e-2})),
            "none": SingleModel(),
            "two": Fallback(),
        }


class Fallback(Artifact):
    """A model's answer, or the base's where it has no vote."""

    def __init__(self):
        self.report = {}

    def answer(self, deployment, examples):
        moved, base = (deployment.answer(point, examples) for point in (Point({1: 3e-2}), Point()))
        return [a if vote else b for a, b, vote in zip(moved, base, deployment.votes(examples, moved), strict=True)]

    def save(self, deployment, folder):
        (folder / "base.txt").write_text(deployment.base_digest())

    @classmethod
    def load(cls, folder, base):
        if (folder / "base.txt").read_text() != base:
            raise Refused("saved for another base")
        return cls()


class Swapped(Moved):
    """Method that returns the base under another prompt of the task."""

    def adapt(self, context):
        return SingleModel(prompt="swapped")


class Thin(Moved):
    """Method whose points stand for noise of rank 1, which it calls by a name of its own."""

    class Config(MethodConfig):
        directions: Literal["thin"] = "thin"

        @property
        def drawn(self):
            return Noise("lowrank")

    def adapt(self, context):
        return SingleModel(Point({1: 5e-3}, self.config.drawn))


class Fails(Moved):
    """Method that fails."""

    def adapt(self, context):
        raise ZeroDivisionError("on purpose")


class Larger(Addition):
    """Sums beyond those of addition. Its only prompt is the default one."""

    name = "larger"
    prompts = ("default",)

    def load(self, data=None):
        pairs = [(a, b) for a in range(50, 99) for b in range(99, 109)]
        return cut([Example(f"{a}+{b}", {"a": a, "b": b}) for a, b in pairs], salt="", **dict.fromkeys(SPLITS, 40))


class Leaky(Larger):
    """Task whose test items are those that addition adapts on."""

    name = "leaky"

    def load(self, data=None):
        own = Addition().load()
        return cut(own.support, salt="", **dict.fromkeys(SPLITS, 40))


LARGER, LEAKY = f"{__name__}:Larger", f"{__name__}:Leaky"


def run(output, method=Moved, **fields):
    config = {"method": f"{__name__}:{method.__name__}", "task": "addition", "model": "tiny-adder", "budget": "1000"}
    prepared = prepare(RunConfig(**(config | {"limit": 60} | fields)), output, QUIET)
    execute(prepared, ProgressDisplay(quiet=True))
    return prepared.folder


def retest(output, source, **changes):
    prepared = prepare_test(config_of_run(source, changes), output, QUIET)
    return prepared.folder, execute(prepared, ProgressDisplay(quiet=True))


def texts(folder):
    return [(s.row, s.id, s.text, s.correct) for s in read_samples(folder)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return run(tmp_path_factory.mktemp("source"))


@pytest.fixture
def copy(source, tmp_path):
    return Path(shutil.copytree(source, tmp_path / "copy" / source.name))


def test_a_test_on_the_same_items_gives_the_same_answers_rows_and_costs(source, tmp_path):
    before = read_result(source)
    folder, now = retest(tmp_path, source)
    assert now.status == "ok"
    assert texts(folder) == texts(source)
    assert [row.model_copy(update={"work": None}) for row in now.rows] == [
        row.model_copy(update={"work": None}) for row in before.rows
    ]
    assert [row.changed for row in now.artifacts] == [True, True, False, True]
    assert len(now.gated) == 4
    assert now.budget == before.budget
    assert {name: row for name, row in now.ledger.items() if name not in ("evaluation", "inference")} == {
        name: row for name, row in before.ledger.items() if name not in ("evaluation", "inference")
    }
    assert now.versions.method == "3"
    assert now.ruleset == before.ruleset
    assert now.report == {}


def test_a_test_has_an_id_and_a_folder_of_its_own_and_names_its_source(source, tmp_path):
    before = read_result(source)
    folder, now = retest(tmp_path, source)
    assert now.id != before.id
    assert folder.parent.relative_to(tmp_path).parts == source.parent.parts[-4:]
    assert now.source == RunSource(folder=str(source), id=before.id, task="addition", sha256=before.saved.sha256)
    assert read_result(folder) == now
    assert not (folder / "artifact").exists()
    assert now.saved is None


def test_the_id_follows_the_source_run_and_not_its_place(source, copy, tmp_path):
    here, there = (prepare_test(config_of_run(run, {}), tmp_path, QUIET).id for run in (source, copy))
    assert here == there
    other = config_of_run(source, {"limit": 59})
    assert prepare_test(other, tmp_path, QUIET).id != here


def test_another_task_brings_its_own_items_and_answers_are_paired_with_the_base_there(source, tmp_path):
    folder, now = retest(tmp_path, source, task=LARGER)
    assert now.config.task_label == f"addition to {LARGER}"
    assert now.splits["test"] == now.rows[0].accuracy.items == 40
    base = {s.id: s.correct for s in read_samples(folder) if s.row == 0}
    far = {s.id: s.correct for s in read_samples(folder) if now.rows[s.row].label == "far"}
    row = next(row for row in now.artifacts if row.label == "far")
    assert row.comparison.fixes == sum(far[i] and not base[i] for i in base)
    assert row.comparison.regressions == sum(base[i] and not far[i] for i in base)
    assert base.keys() == {example.id for example in Larger().load().test}


def test_a_strategy_applies_to_the_artifacts_that_are_one_model(source, tmp_path):
    _, now = retest(tmp_path, source, strategy="maj@3")
    assert [row.label for row in now.artifacts] == ["near", "far", "none"]
    assert now.untested.keys() == {"two"}
    assert now.rows[1].cost.evaluations == 3


def test_a_run_under_a_strategy_can_be_tested_without_it(tmp_path):
    sampled = run(tmp_path / "source", strategy="maj@3")
    folder, greedy = retest(tmp_path, sampled, strategy="greedy")
    assert [row.cost.evaluations for row in greedy.artifacts] == [1, 1, 1]
    direct = {(s.row, s.id): s.text for s in read_samples(run(tmp_path / "greedy")) if s.row == 0}
    assert direct == {(s.row, s.id): s.text for s in read_samples(folder) if s.row == 0}
    same, again = retest(tmp_path, sampled)
    assert texts(same) == texts(sampled)
    assert again.rows[1].cost.evaluations == 3


def test_an_interrupted_test_ends_in_the_same_result(source, tmp_path):
    folder, whole = retest(tmp_path, source, task=LARGER)
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    (folder / "result.json").unlink()
    outcome = resume_run(folder, ProgressDisplay(quiet=True))
    assert outcome.error is None
    assert outcome.result.model_copy(update={"timing": None}) == whole.model_copy(update={"timing": None})
    assert resume_run(folder, ProgressDisplay(quiet=True)).cached


def test_an_artifact_that_is_gone_is_an_error_that_names_it(copy, tmp_path):
    shutil.rmtree(copy / "artifact")
    with pytest.raises(UsageError, match=r"artifact: gone; the run saved its artifact there"):
        retest(tmp_path, copy)


@pytest.mark.parametrize("edit", [lambda f: f.write_bytes(f.read_bytes()[:-1] + b"\0"), lambda f: f.unlink()])
def test_an_artifact_that_was_changed_is_an_error_that_names_both_digests(copy, tmp_path, edit):
    edit(copy / "artifact" / "near" / "model.safetensors")
    recorded = read_result(copy).saved.sha256
    with pytest.raises(UsageError, match=rf"was changed since the run ended .* {recorded[:12]} in result"):
        retest(tmp_path, copy)


def test_the_refusal_in_the_documentation_is_the_programs(copy, tmp_path):
    (copy / "artifact" / "near" / "model.safetensors").unlink()
    with pytest.raises(UsageError) as refusal:
        retest(tmp_path, copy)
    page = (Path(__file__).parents[3] / "docs" / "transfer.md").read_text()
    (documented,) = re.findall(r"```text\n(/.*?)\n```", page, flags=re.DOTALL)

    def wording(text):
        return " ".join(re.sub(r"\b[0-9a-f]{12}\b", "DIGEST", text[text.index("/artifact:") :]).split())

    assert wording(documented) == wording(str(refusal.value))


def test_a_source_that_is_gone_or_another_run_now_is_an_error_on_resuming(copy, tmp_path):
    config = config_of_run(copy, {})
    moved = copy.rename(copy.with_name("elsewhere"))
    with pytest.raises(UsageError, match="the run to test is gone"):
        prepare_test(config, tmp_path, QUIET)
    other = moved.rename(copy)
    document = json.loads((other / "result.json").read_text()) | {"id": "f" * 64}
    (other / "result.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="holds run ffffffff with other artifacts"):
        prepare_test(config, tmp_path, QUIET)


def test_a_run_that_did_not_end_well_cannot_be_tested(tmp_path):
    failed = run(tmp_path, Fails)
    with pytest.raises(UsageError, match=r"ended with status failed .* ZeroDivisionError: on purpose"):
        config_of_run(failed, {})


def test_a_test_and_a_run_of_an_earlier_version_cannot_be_tested(copy, tmp_path):
    folder, _ = retest(tmp_path, copy)
    with pytest.raises(UsageError, match="a test of a model that was made before"):
        config_of_run(folder, {})
    document = json.loads((copy / "result.json").read_text()) | {"saved": None}
    (copy / "result.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="an earlier version of bench recorded it"):
        config_of_run(copy, {})


def test_items_that_the_run_adapted_on_are_refused(source, tmp_path):
    with pytest.raises(Refused, match=r"adapted on 40 of the test examples of leaky"):
        prepare_test(config_of_run(source, {"task": LEAKY}), tmp_path, QUIET)


LONG = (
    "The shop of the old harbour sold {} red apples in the morning and then {} green pears during the long warm "
    "evening. How many pieces of fruit did the shop sell in all on that one day?"
)
SUMS = [LONG.format(7 * n % 90, 11 * n % 80) for n in range(60)]


def questions(path, texts):
    rows = [{"prompt": text, "answer": n, "check": "number"} for n, text in enumerate(texts)]
    path.write_text("\n".join(map(json.dumps, rows)))
    config = RunConfig(method="es", task="jsonl", model="tiny-adder", data=str(path))
    return config, load_task_data(config)


def test_near_duplicates_of_what_the_run_adapted_on_are_refused_and_counted(tmp_path):
    config, before = questions(tmp_path / "before.jsonl", SUMS)
    result = Result.model_construct(config=config, content_hash=before.splits.content_hash)
    _, again = questions(tmp_path / "again.jsonl", [f"Please note: {text}" for text in SUMS])
    adapted = {before.task.content(e) for name in SPLITS[:3] for e in getattr(before.splits, name)}
    known = sum(again.task.content(e).removeprefix("Please note: ") in adapted for e in again.splits.test)
    assert known
    with pytest.raises(Refused, match=rf"adapted on {known} of the test examples of jsonl, or on near duplicates"):
        _adapted_apart(tmp_path, result, again)
    assert _adapted_apart(tmp_path, result, before) == before.duplicates


def test_duplicates_of_a_test_are_among_what_was_adapted_on_and_what_is_asked(tmp_path):
    config, before = questions(tmp_path / "before.jsonl", SUMS)
    result = Result.model_construct(config=config, content_hash=before.splits.content_hash)
    _, other = questions(tmp_path / "other.jsonl", [text.replace("sold", "sold 1000 and then") for text in SUMS])
    own = replace(other, duplicates=Duplicates(left_out=3, across={"support and test": 2}))
    assert _adapted_apart(tmp_path, result, own) == Duplicates(left_out=0, across={})


def test_data_that_changed_since_the_run_is_an_error_and_not_taken_for_what_it_adapted_on(tmp_path):
    config, before = questions(tmp_path / "before.jsonl", SUMS)
    result = Result.model_construct(config=config, content_hash=before.splits.content_hash)
    _, test = questions(tmp_path / "test.jsonl", SUMS[:40])
    questions(tmp_path / "before.jsonl", [text.replace("sold", "sold 1000 and then") for text in SUMS])
    with pytest.raises(UsageError, match=r"not that which the run adapted on: its content .* restore .*before\.js"):
        _adapted_apart(tmp_path, result, test)


def test_what_a_run_allowed_is_not_allowed_in_a_test_of_it(copy):
    document = json.loads((copy / "result.json").read_text())
    document["config"]["allow_unsandboxed"] = True
    (copy / "result.json").write_text(json.dumps(document))
    for changes in ({}, {"task": "successor"}):
        assert not config_of_run(copy, changes).allow_unsandboxed
        assert config_of_run(copy, {**changes, "allow_unsandboxed": True}).allow_unsandboxed


@pytest.mark.parametrize("allowed", [False, True])
def test_golds_of_a_run_s_data_are_judged_as_the_user_allows_now(tmp_path, monkeypatch, allowed):
    config, before = questions(tmp_path / "before.jsonl", SUMS)
    config = config.model_copy(update={"allow_unsandboxed": not allowed})
    result = Result.model_construct(config=config, content_hash=before.splits.content_hash)
    _, other = questions(tmp_path / "other.jsonl", [text.replace("sold", "sold 1000 and then") for text in SUMS])
    asked = []
    monkeypatch.setattr("bench.run.data.require_golds", lambda task, examples: asked.append(task.allow_unsandboxed))
    _adapted_apart(tmp_path, result, other, allow_unsandboxed=allowed)
    assert asked == [allowed]


def test_another_task_takes_over_no_field_of_the_data_that_the_run_adapted_on(copy):
    document = json.loads((copy / "result.json").read_text())
    document["config"] |= {"adapt_on": "jsonl", "adapt_data": "rows.jsonl", "adapt_fields": "prompt=question"}
    (copy / "result.json").write_text(json.dumps(document))
    config = config_of_run(copy, {"task": "successor"})
    assert (config.adapt_on, config.adapt_data, config.adapt_fields) == (None, None, None)
    assert load_task_data(config).task.name == "successor"


def test_a_prompt_that_the_task_lacks_refuses_the_test(tmp_path):
    swapped = run(tmp_path, Swapped)
    _, now = retest(tmp_path, swapped, task=LARGER)
    assert (now.status, "under the prompt 'swapped', and task larger has default" in now.reason) == ("refused", True)
    folder, same = retest(tmp_path, swapped)
    assert (same.status, texts(folder)) == ("ok", texts(swapped))


def test_a_class_that_cannot_be_imported_fails_the_test(copy, tmp_path):
    document = json.loads((copy / "result.json").read_text())
    document["saved"]["classes"]["two"] = "nowhere.at_all:Fallback"
    (copy / "result.json").write_text(json.dumps(document))
    _, now = retest(tmp_path, copy)
    assert (now.status, now.reason.startswith("artifact class nowhere.at_all:Fallback")) == ("failed", True)
    document["saved"]["classes"]["two"] = "pathlib:Path"
    (copy / "result.json").write_text(json.dumps(document))
    _, now = retest(tmp_path / "second", copy)
    assert "not a class of artifacts" in now.reason


def test_a_limit_beyond_the_test_split_is_an_error(source, tmp_path):
    with pytest.raises(UsageError, match=r"--limit 41: the test split of .*Larger has 40 examples"):
        prepare_test(config_of_run(source, {"task": LARGER, "limit": 41}), tmp_path, QUIET)


def declared(output, folder, flops=10**9, **fields):
    given = {"task": "addition", "model": "tiny-adder", "limit": 60} | fields
    prepared = prepare_test(config_of_model(str(folder), flops, given), output, QUIET)
    return prepared.folder, execute(prepared, ProgressDisplay(quiet=True))


def test_a_test_knows_the_noise_of_the_run_s_method_by_what_the_method_says(source, tmp_path):
    thin = run(tmp_path / "run", Thin)
    tests = [prepare_test(config_of_run(folder, {}), tmp_path, QUIET) for folder in (source, thin)]
    model = config_of_model(str(source / "artifact" / "far"), 10**9, {"task": "addition", "model": "tiny-adder"})
    assert [test.noise for test in (*tests, prepare_test(model, tmp_path, QUIET))] == [None, Noise("lowrank"), None]


def test_a_model_from_elsewhere_answers_as_the_artifact_that_it_is(source, tmp_path):
    folder, now = declared(tmp_path, source / "artifact" / "far")
    far = [s.text for s in read_samples(source) if read_result(source).rows[s.row].label == "far"]
    assert [s.text for s in read_samples(folder) if s.row == 1] == far
    assert (now.ruleset, now.budget, now.source.flops, now.gated) == ("declared", None, 10**9, ())
    assert now.ledger.keys() == {"evaluation", "inference"}
    expected = next(row for row in read_result(source).artifacts if row.label == "far")
    assert now.artifacts[0].weights == expected.weights
    assert now.artifacts[0].comparison == expected.comparison


def test_a_declared_model_enters_the_id_by_its_content_and_its_flops(source, tmp_path):
    def identity(folder, flops=10**9):
        config = config_of_model(str(folder), flops, {"task": "addition", "model": "tiny-adder"})
        return prepare_test(config, tmp_path, QUIET).id

    far = source / "artifact" / "far"
    moved = shutil.copytree(far, tmp_path / "other" / "far")
    assert identity(far) == identity(moved)
    assert identity(far, 10**9 + 1) != identity(far) != identity(source / "artifact" / "near")


def test_a_declared_model_that_was_changed_cannot_be_resumed(source, tmp_path):
    folder = shutil.copytree(source / "artifact" / "far", tmp_path / "far")
    config = config_of_model(str(folder), 10**9, {"task": "addition", "model": "tiny-adder"})
    shutil.copy(source / "artifact" / "near" / "model.safetensors", folder)
    with pytest.raises(UsageError, match="was changed since the test began"):
        prepare_test(config, tmp_path, QUIET)


def test_a_declared_model_of_another_shape_is_an_error_that_says_where_it_differs(source, tmp_path):
    folder = shutil.copytree(source / "artifact" / "far", tmp_path / "far")
    shape = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(shape))
    with pytest.raises(UsageError, match=r"not of the shape of tiny-adder: it has no model\.layers\.2\."):
        declared(tmp_path, folder)


def test_a_declared_model_with_another_window_is_an_error(source, tmp_path):
    """The files hold the same tensors, and a token costs other FLOPs."""
    folder = shutil.copytree(source / "artifact" / "far", tmp_path / "far")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mistral", "sliding_window": 8}))
    with pytest.raises(UsageError, match="not of the shape of tiny-adder: a token costs other FLOPs"):
        declared(tmp_path, folder)


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(BenchError, match=r"no such file or folder"):
        declared(tmp_path, tmp_path / "nothing")


def test_runs_and_tests_are_one_grid(tmp_path):
    (made,) = run_grid(
        expand(methods=["base"], tasks=["addition"], models=["tiny-adder"], budgets=["256"], seeds=[0], limit=20),
        tmp_path,
        lambda _: ProgressDisplay(quiet=True),
        lambda *_: None,
    )
    folder, now = retest(tmp_path, made.folder, task="modular-addition", limit=20)
    assert now.is_control
    assert folder.is_relative_to(tmp_path / "addition-to-modular-addition")
