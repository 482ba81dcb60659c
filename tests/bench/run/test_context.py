import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_families import make
from transformers import AutoModelForCausalLM

import bench.models
from bench.compute.meter import Meter, OverBudget
from bench.engines.transformers import TransformersEngine
from bench.errors import BenchError
from bench.models.embedded import EMBEDDED
from bench.models.tensors import held
from bench.records.journal import Journal
from bench.run.context import AdaptationContext, DeploymentContext
from bench.run.evaluator import Evaluator
from bench.run.progress import ProgressDisplay
from bench.weights.checkpoint import FILE, open_checkpoint, write_checkpoint
from bench.weights.noise import PLAIN
from bench.weights.points import Point
from tasks.addition import Addition
from tasks.interface import Splits, TaskTraits, Vote

TOKENIZER = Path(bench.models.__path__[0]) / "tiny_adder"


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_a_trained_model_is_saved_as_transformers_opens_it(family, tmp_path):
    make(family).save_pretrained(tmp_path / "base")
    for file in TOKENIZER.glob("*token*.json"):
        shutil.copy(file, tmp_path / "base")
    engine = TransformersEngine(str(tmp_path / "base"))
    trained = make(family, seed=1)
    checkpoint = write_checkpoint(tmp_path / "trained", held(trained))
    deployment = DeploymentContext(SimpleNamespace(engine=engine), [], None)
    deployment.save_checkpoint(checkpoint, tmp_path / "saved")
    opened = held(AutoModelForCausalLM.from_pretrained(tmp_path / "saved"))
    assert all(torch.equal(opened[name], tensor) for name, tensor in held(trained).items())
    assert open_checkpoint(tmp_path / "saved") == checkpoint
    assert deployment.weights({checkpoint})[0] == checkpoint.digest
    # Both folders hold one file where its form is the same, and so take the disk's space once.
    assert (tmp_path / "saved" / FILE).samefile(tmp_path / "trained" / FILE) == (family == "llama")


SUPPORT = Addition().load().support[:6]


@pytest.fixture
def adapting(tmp_path):
    """Return a function that opens a context on six support examples, and continues with the journal of the last."""
    engine = TransformersEngine(str(EMBEDDED["tiny-adder"].prepare().path), batch_size=16)

    def adapting(budget):
        evaluator = Evaluator(
            engine, Addition(), engine.style, Meter(engine.profile), Journal(tmp_path / "journal.jsonl")
        )
        evaluator.meter.limit = budget
        data = SimpleNamespace(splits=Splits(SUPPORT, (), (), ()), traits=TaskTraits({"support": 6}, vote_by="it"))
        return AdaptationContext(evaluator, data, 0, 1.0, ProgressDisplay(quiet=True)), evaluator

    return adapting


def test_a_method_gets_answers_with_tokens_and_votes_billed_and_journalled(adapting):
    context, evaluator = adapting(10**9)
    point = Point({3: 1e-2})
    found = context.answer(point, "support", account="sample", examples=range(1, 5))
    engine = evaluator.engine
    engine.move_to(point)
    prompts = [evaluator.prompt(example) for example in SUPPORT[1:5]]
    meter = Meter(engine.profile)
    with meter.account("setup"):
        expected = engine.generate(prompts, evaluator.sampling, meter)
    assert found.token_ids == tuple(completion.token_ids for completion in expected)
    assert found.texts == tuple(completion.text for completion in expected)
    assert found.truncated == (False,) * 4
    work = evaluator.meter.ledger["sample"]
    assert (work.evaluations, work.weight_moves, work.noise_values) == (4, 1, engine.layout.noise_values(PLAIN))
    assert found.flops == evaluator.meter.spent == evaluator.meter.flops(work) > 0
    votes = context.votes("support", [1, 1, 2], [" 7", "x", "007"])
    assert votes == [Vote("7"), None, Vote("7")]
    evaluator.journal.close()

    again, resumed = adapting(10**9)
    resumed.engine.generate = resumed.task.vote_keys = None  # nothing is computed again
    try:
        assert again.answer(point, "support", account="sample", examples=range(1, 5)) == found
        assert again.votes("support", [1, 1, 2], [" 7", "x", "007"]) == votes
    finally:
        del resumed.engine.generate
    assert resumed.meter.ledger["sample"] == work


def test_answers_beyond_the_allowance_are_incomplete_and_of_other_splits_and_accounts_refused(adapting):
    context, evaluator = adapting(10**9)
    full = context.answer(Point(), "support", account="sample")
    cut = context.answer(Point(), "support", account="sample", allowance=full.flops - 1)
    assert (cut.texts, cut.token_ids, cut.truncated, cut.complete) == ((), (), (), False)
    assert 0 < cut.flops < full.flops
    assert evaluator.meter.spent == full.flops + cut.flops
    assert context.answer(Point(), "support", account="sample", allowance=0).flops == 0
    for use in (
        lambda: context.answer(Point(), "gate", account="sample"),
        lambda: context.votes("test", [0], ["7"]),
        lambda: context.answer(Point(), "support", account="gate"),
    ):
        with pytest.raises(ValueError, match="a method may not"):
            use()
    context.close()
    for use in (
        lambda: context.answer(Point(), "support", account="sample"),
        lambda: context.votes("support", [0], [""]),
    ):
        with pytest.raises(BenchError, match="after `adapt` had returned"):
            use()


def test_an_answer_without_an_end_is_truncated(adapting):
    context, evaluator = adapting(10**9)
    whole = context.answer(Point(), "support", account="sample", allowance=10**8)
    evaluator.sampling = evaluator.sampling.model_copy(update={"max_new_tokens": 2})
    found = context.answer(Point(), "support", account="sample")
    assert {len(tokens) for tokens in whole.token_ids} == {3, 4}
    assert (whole.truncated, found.truncated) == ((False,) * 6, (True,) * 6)
    assert found.token_ids == tuple(tokens[:2] for tokens in whole.token_ids)


@pytest.mark.parametrize("index", [-1, 6])
def test_votes_are_of_examples_that_the_split_has(adapting, index):
    context, _ = adapting(10**9)
    with pytest.raises(
        ValueError, match=f"examples has {index}: split support has 6 examples; give indices from 0 to 5"
    ):
        context.votes("support", [0, index], ["7", "8"])


def test_answers_beyond_the_budget_end_the_run(adapting):
    context, _ = adapting(10)
    with pytest.raises(OverBudget):
        context.answer(Point(), "support", account="sample")


def test_a_later_training_begins_at_the_float32_weights_of_a_checkpoint_in_a_folder_of_its_own(adapting, tmp_path):
    context, evaluator = adapting(10**12)
    first = context.train(10**9)
    with torch.no_grad():
        for parameter in first.model.parameters():
            parameter.add_(1e-6)  # too little for the engine's bfloat16
    trained = {name: tensor.clone() for name, tensor in held(first.model).items()}
    checkpoint = first.finish({"report": 1})
    second = context.train(10**9, start=checkpoint)
    assert all(torch.equal(tensor, trained[name]) for name, tensor in held(second.model).items())
    base = held(evaluator.engine.trainable()[0])
    assert not all(torch.equal(tensor, trained[name]) for name, tensor in base.items())
    with torch.no_grad():
        next(second.model.parameters()).add_(1.0)
    with pytest.raises(BenchError, match="before the last one had ended; call its `finish` or `abandon`"):
        context.train(10**9)
    last = second.finish({"report": 2})
    assert context.train(10**9).finished is None
    evaluator.journal.close()
    again, _ = adapting(10**12)
    assert again.train(10**9).finished == (checkpoint, {"report": 1})
    resumed = again.train(10**9, start=checkpoint)
    assert resumed.finished == (last, {"report": 2})
    for each in (checkpoint, last):
        assert open_checkpoint(each.folder) == each  # neither replaced the other
    assert last != checkpoint
