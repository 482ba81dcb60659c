"""A second model: metered at its own size, refused if it reads other tokens, and the same after a resume."""

import json
import re

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bench.cli import cli
from bench.compute.flops import compute_profile, prefill_flops
from bench.compute.ledger import hardware_flops
from bench.compute.meter import Meter
from bench.distributed import ProcessGroup
from bench.engines.transformers import TransformersEngine
from bench.errors import BenchError, Refused, UsageError
from bench.models.digest import digest
from bench.models.source import resolve
from bench.models.tensors import held
from bench.records.config import RunConfig
from bench.records.journal import Journal
from bench.run.evaluator import Evaluator
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.teacher import check_reads_alike
from bench.run.training import TrainingSession
from tasks.addition import Addition


@pytest.fixture(scope="module")
def base():
    return resolve("tiny-adder").prepare(lambda *_: None).path


@pytest.fixture
def other(tmp_path, base):
    """Folder of a model of another shape with the tokenizer of tiny-adder."""
    folder, own = tmp_path / "other", AutoModelForCausalLM.from_pretrained(base).config
    sizes = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6}
    same = {"vocab_size": own.vocab_size, "bos_token_id": own.bos_token_id, "eos_token_id": own.eos_token_id}
    config = LlamaConfig(**sizes, **same, num_key_value_heads=2, head_dim=8, max_position_embeddings=64)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(base):
    return TransformersEngine(base, dtype="float32")


@pytest.fixture
def session(tmp_path, engine):
    def session(**models):
        task, meter = Addition(), Meter(engine.profile, 10**12)
        evaluator = Evaluator(engine, task, "chat", meter, Journal(tmp_path / "journal.jsonl"))
        evaluator.models = models
        return TrainingSession(evaluator, task.load().support, tmp_path / "training", 10**12, 0)

    return session


def padded(lengths):
    rows = [[0] * (max(lengths) - length) + [5] * length for length in lengths]
    ids = torch.tensor(rows)
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "use_cache": False}


def test_a_teacher_of_another_shape_costs_what_its_own_profile_says(session, other, engine):
    training, lengths = session(other=other), (11, 7, 11)
    teacher = training.teacher("other")
    profile = compute_profile(json.loads((other / "config.json").read_text()))
    assert profile.unit != engine.profile.unit
    with training.metered():
        teacher(**padded(lengths))
    assert training.phases == {"reference": sum(prefill_flops(profile, length) for length in lengths)}
    assert training.spent == training.phases["reference"]
    run = hardware_flops(engine.profile, training._booked)
    assert run == len(lengths) * prefill_flops(profile, max(lengths))


@pytest.mark.slow
def test_a_teacher_costs_what_the_counter_of_pytorch_counts(session, other, engine):
    training = session(other=other)
    teacher = training.teacher("other")
    teacher.set_attn_implementation("eager")  # the counter does not know the kernel of the CPU
    with training.metered(), FlopCounterMode(display=False) as counter:
        teacher(**padded((11, 7, 11)))
    (pair,) = {layer.pair for layer in training._profiles[0].layers}
    masked = 3 * len(training._profiles[0].layers) * pair * (11 * 11 - 11 * 12 // 2)  # the counter knows no mask
    assert hardware_flops(engine.profile, training._booked) == counter.get_total_flops() - masked


def test_a_teacher_is_frozen_and_on_record_by_its_digest(session, other):
    training = session(other=other)
    assert training.teachers == {}
    teacher = training.teacher("other")
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert training.teachers == {"other": digest(held(LlamaForCausalLM.from_pretrained(other)))}


def test_without_a_name_it_is_the_base_and_stays_the_base(session):
    training = session()
    teacher = training.teacher()
    with torch.no_grad():
        for parameter in training.model.parameters():
            parameter.mul_(1.5)
    with training.metered(), torch.no_grad():
        before = teacher(**padded((5,))).logits
        assert not torch.equal(training.model(**padded((5,))).logits, before)
    assert training.teachers == {}
    assert training.phases["reference"] == training.phases["logprobs"]


def test_a_teacher_that_the_method_does_not_name_is_an_error(session):
    with pytest.raises(BenchError, match="model other: the method runs it and does not name it in `models`"):
        session().teacher("other")


def test_a_teacher_with_other_weights_than_the_saved_run_was_trained_with_is_an_error(session, other):
    training = session(other=other)
    training.teacher("other")
    training.save({"rows": []})
    session(other=other).teacher("other")
    model = LlamaForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    model.save_pretrained(other)
    with pytest.raises(BenchError, match=r"digest \w{12}, and this run was trained with \w{12} so far; restore"):
        session(other=other).teacher("other")


def test_a_step_with_a_larger_teacher_has_a_larger_bound(session, other):
    training = session(other=other)
    training.ranks = ProcessGroup(0, 2)
    alone = training.bound(1)
    training.teacher("other")
    profile, tokens = training._profiles[0], training._longest_tokens
    assert training.bound(1) == max(alone, prefill_flops(profile, tokens))
    training._profiles *= 0
    training.teacher()
    assert training.bound(1) == alone


def test_a_teacher_that_reads_other_tokens_is_refused(session, other, base, tmp_path):
    training = session(other=other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = list(vocabulary)[4:6]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(Refused, match=r"model other: 2 tokens have another id than in the base's vocabulary"):
        training.teacher("other")


class Splits:
    """Tokenizer of two texts, which it splits as it is told."""

    def __init__(self, ids):
        self._ids = ids

    def get_vocab(self):
        return {"a": 0, "b": 1, "ab": 2}

    def decode(self, ids, **_):
        return "ab"

    def __call__(self, text, **_):
        return {"input_ids": self._ids}


def test_a_tokenizer_with_other_merges_or_a_model_with_few_positions_is_refused():
    model = type("Model", (), {"config": LlamaConfig(max_position_embeddings=8)})
    merges, none = Splits([2]), Splits([0, 1])
    check_reads_alike("other", model, merges, merges, [(2, 2, 2)], 5)
    with pytest.raises(Refused, match="model other: its tokenizer splits 'ab' into other tokens than the base's"):
        check_reads_alike("other", model, none, merges, [(2,)], 5)
    with pytest.raises(Refused, match=r"prompt of 3 tokens and 6 new tokens need 9 positions; model other has 8"):
        check_reads_alike("other", model, merges, merges, [(2, 2, 2)], 6)


def prepared(folder, output):
    config = {"task": "addition", "model": "tiny-adder", "method": "kdrl", "method_config": {"teacher": str(folder)}}
    return prepare(RunConfig(**config, budget="300"), output, ProgressDisplay(quiet=True))


@pytest.mark.slow
def test_the_id_of_a_run_depends_on_the_content_of_its_teacher(other, tmp_path):
    first = prepared(other, tmp_path)
    assert first.versions.models == {str(other): first.models[str(other)].provenance.sha256}
    assert prepared(other, tmp_path).id == first.id
    model = LlamaForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    model.save_pretrained(other)
    assert prepared(other, tmp_path).id != first.id


def test_a_teacher_that_is_not_there_is_named_before_the_run_begins(tmp_path):
    for name, message in (
        ("./nowhere", "^kdrl.teacher=./nowhere: no such file or folder; expected"),
        ("tiny-addr", r"^kdrl.teacher=tiny-addr: no such model; did you mean tiny-adder\?$"),
    ):
        with pytest.raises(UsageError, match=message):
            prepared(name, tmp_path)
        command = ["plan", "-m", "kdrl", "-t", "addition", "-M", "tiny-adder", "--set", f"teacher={name}"]
        assert re.match(message, str(CliRunner().invoke(cli, command, standalone_mode=False).exception))


def test_a_teacher_that_cannot_be_prepared_is_named_by_its_setting(tmp_path, monkeypatch):
    def unreachable(source, progress):
        raise source._unavailable("cannot be fetched from the hub (offline)")

    monkeypatch.setattr("bench.models.hub.HubModel.prepare", unreachable)
    with pytest.raises(BenchError, match=r"^kdrl.teacher=nosuch: cannot be fetched from the hub \(offline\); expected"):
        prepared("nosuch", tmp_path)


def test_a_teacher_that_is_no_model_is_named_by_its_setting(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(BenchError, match=rf"^kdrl.teacher={tmp_path / 'empty'}: "):
        prepared(tmp_path / "empty", tmp_path / "runs")
