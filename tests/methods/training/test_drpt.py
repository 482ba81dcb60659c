"""Dr. Post-Training: its projection by hand, its file of general data, and that all directions are fine-tuning."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from bench.errors import BenchError, Refused, UsageError
from bench.records.config import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from methods.training import drpt_trainer
from methods.training.curriculum import endless_order
from methods.training.drpt import Drpt, DrptConfig, Pair, coefficients, read_general
from tasks.addition import Addition
from tasks.interface import TaskTraits

QUIET = ProgressDisplay(quiet=True)
TRAITS = TaskTraits({"support": 100, "select": 10, "gate": 10})
SUMS = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a, b in ((1, 2), (30, 41), (7, 90), (55, 5), (12, 13))]


@pytest.fixture
def general(tmp_path):
    return rows(tmp_path / "general.jsonl", SUMS)


def rows(file, found):
    file.write_text("".join(json.dumps(row) + "\n" for row in found))
    return str(file)


def test_the_gradient_of_a_layer_by_hand():
    general, target = np.array([[1.0, 0, 0], [1, 1, 0], [-1, 0, 0]]), np.array([1.0, 2, 3])
    gram, inner = general @ general.T, general @ target
    assert inner.tolist() == [1, 3, -1]  # the third example opposes the target
    span = coefficients(gram, inner, [2, 3, 9], "span")
    np.testing.assert_allclose(span, [-1, 2, 0], atol=1e-12)
    np.testing.assert_allclose(span @ general, [1, 2, 0], atol=1e-12)  # the target without its third part
    assert coefficients(gram, inner, [2, 3, 9], "subset").tolist() == [0.2, 0.2, 0]
    assert coefficients(gram, -np.abs(inner), [2, 3, 9], "span").tolist() == [0, 0, 0]


def test_inner_products_are_summed_in_float64_part_by_part(monkeypatch):
    monkeypatch.setattr(drpt_trainer, "COLUMNS", 2)
    general = [torch.tensor([1.0, 2e8, 3]), torch.tensor([1.0, 0, -1])]
    gram, inner, square = drpt_trainer.products_of(general, torch.tensor([1.0, 1, 1]))
    assert gram.tolist() == [[4e16 + 10, -2], [-2, 2]]
    assert inner.tolist() == [2e8 + 4, 0]
    assert square == 3


def test_equal_general_examples_share_their_part():
    np.testing.assert_allclose(coefficients(np.full((2, 2), 4.0), np.full(2, 2.0), [1, 1], "span"), [0.25, 0.25])


def test_without_general_data_it_is_refused_and_not_silently_another_method(general):
    with pytest.raises(Refused, match=r"needs general data; give a file .*--set general=FILE.* or take the method sft"):
        Drpt(DrptConfig()).plan(2048, TRAITS)
    plan = Drpt(DrptConfig(general=general)).plan(2048, TRAITS)
    assert (plan.evaluations, plan.lines[0].what) == (
        2048,
        "about 34 steps of 10 gold answers, each with a general example",
    )
    assert plan.notes[-1] == (
        "general data are seen by this method alone, and nothing compares them with the test split"
    )
    assert Drpt(DrptConfig(space="all")).plan(2048, TRAITS).lines[0].what == "about 42 steps of 16 gold answers"


def test_it_needs_gold_answers_and_a_single_process():
    method = Drpt(DrptConfig())
    assert method.supports(TaskTraits(TRAITS.sizes, refused_golds="the task has none")) == (
        "it trains on gold answers, and the task has none"
    )
    method.spread(1)
    with pytest.raises(Refused, match="within one process, and --launch starts 2"):
        method.spread(2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "1+1="}, "line 2: field 'answer' is missing \\(the row has prompt\\); expected a text"),
        ({"prompt": "1+1=", "answer": 2}, "line 2: field 'answer' is 2; expected a text that is not empty"),
        ({"prompt": " ", "answer": "2"}, "line 2: field 'prompt' is \" \"; expected a text that is not empty"),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_named(tmp_path, row, message):
    with pytest.raises(ValidationError, match=message):
        DrptConfig(general=rows(tmp_path / "bad.jsonl", [SUMS[0], row]))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValidationError, match=r"none\.jsonl: No such file"):
        DrptConfig(general=str(tmp_path / "none.jsonl"))


def test_the_content_of_the_file_is_part_of_the_settings_and_may_not_change(tmp_path, general):
    config = DrptConfig(general=general)
    assert DrptConfig.model_validate(config.model_dump(mode="json")) == config
    assert read_general(general)[0] == Pair("1+2=", "3", f"{general}, line 1")
    rows(tmp_path / "general.jsonl", SUMS[1:])
    assert DrptConfig(general=general) != config
    with pytest.raises(BenchError, match=r"the file has changed since this run was configured: .*; restore it"):
        Drpt(config).train(SimpleNamespace(), str(tmp_path))


def test_a_run_whose_file_is_gone_is_refused_before_a_model_is_prepared(tmp_path, general, monkeypatch):
    monkeypatch.setattr("bench.models.embedded.Shipped.prepare", lambda *_: pytest.fail("the model was prepared"))
    settings = DrptConfig(general=general).model_dump(mode="json")
    (tmp_path / "general.jsonl").unlink()
    config = RunConfig(method="drpt", method_config=settings, task="addition", model="tiny-adder", budget="300")
    with pytest.raises(UsageError, match=r"^general=.*general\.jsonl: No such file or directory; give a file that"):
        prepare(config, tmp_path / "runs", QUIET)


def test_a_prompt_is_a_turn_of_a_chat_or_a_text_to_complete():
    pair = Pair("1+2=", "3", "rows.jsonl, line 1")
    assert pair.asked(chat=False) == "1+2="
    assert pair.asked(chat=True) == [{"role": "user", "content": "1+2="}]


def test_a_row_that_does_not_fit_into_the_models_positions_is_named(tmp_path):
    long = rows(tmp_path / "long.jsonl", [SUMS[0], {"prompt": "1+1=", "answer": "2" * 2400}])
    result, _ = started(tmp_path, "drpt", {"general": long})
    assert result.status == "refused"
    assert re.search(
        r"long\.jsonl, line 2: the prompt and answer have 24\d\d tokens, and the model has 32 positions", result.reason
    )


def test_general_data_that_no_step_would_read_are_refused(general):
    with pytest.raises(ValidationError, match=r"general=.*general\.jsonl: with space=all .* leave it out"):
        DrptConfig(general=general, space="all")


def started(folder, method, settings, budget="300"):
    fields = {"task": "addition", "model": "tiny-adder", "budget": budget, "limit": 60, "dtype": "float32"}
    settings = {"lr": 1e-4, "batch": 8} | settings
    prepared = prepare(RunConfig(method=method, method_config=settings, **fields), folder, QUIET)
    return execute(prepared, QUIET), prepared


def run(*given, **budget):
    result, prepared = started(*given, **budget)
    assert result.status == "ok", result.traceback
    return result, load_file(prepared.folder / "artifact" / "model.safetensors")


@pytest.mark.slow
def test_where_every_direction_is_allowed_it_is_fine_tuning_step_for_step(tmp_path, general):
    plain, weights = run(tmp_path, "sft", {})
    every, same = run(tmp_path, "drpt", {"space": "all"})
    assert plain.report["training"]["steps"] > 5
    assert plain.report["training"] == every.report["training"]
    assert plain.ledger["train"] == every.ledger["train"]
    assert all(weights[name].equal(same[name]) for name in weights)
    limited, different = run(tmp_path, "drpt", {"general": general})
    assert not all(weights[name].equal(different[name]) for name in weights)
    report = limited.report["training"]
    assert limited.ledger["train"].work.backward_passes == 2 * 8 * report["steps"]  # those of general examples, too
    assert report["flops"] == limited.ledger["train"].flops
    assert all(0 < cosine < 1 for cosine in report["curve"]["cosine"])


@pytest.mark.slow
def test_general_data_that_are_the_target_change_nothing_but_rounding(tmp_path, monkeypatch):
    monkeypatch.setattr(drpt_trainer, "endless_order", lambda seed, count, start, _: endless_order(seed, count, start))
    support = Addition().load().support
    own = [{"prompt": Addition().messages(each)[0]["content"], "answer": Addition().gold(each)} for each in support]
    settings = {"general": rows(tmp_path / "own.jsonl", own), "batch": 1}
    free = run(tmp_path, "drpt", {"space": "all", "batch": 1}, budget="60")[0].report["training"]["curve"]
    for space in ("span", "subset"):
        result, _ = run(tmp_path, "drpt", settings | {"space": space}, budget="60")
        limited = result.report["training"]["curve"]
        assert limited["opposed"] == [0.0] * len(limited["step"])
        assert limited["cosine"] == pytest.approx([1.0] * len(limited["step"]))
        assert limited["loss"] == pytest.approx(free["loss"][: len(limited["loss"])], rel=1e-3)
        assert len(limited["loss"]) > 3
