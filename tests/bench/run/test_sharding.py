"""Division of a model in a group of one process; tests/bench/run/test_fsdp.py has two."""

import pytest
import torch
from torch import distributed
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM

from bench.compute.attach import attach
from bench.compute.ledger import PhaseBook, Work
from bench.distributed import local
from bench.errors import BenchError
from bench.run.sharding import gathered, load_shards, save_shards, shard, whole

IDS = torch.arange(6)[None]


@pytest.fixture(autouse=True)
def group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def build(*, divided):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=12, max_position_embeddings=16, **sizes))
    if divided:
        shard(model)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def step(model, optimizer):
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def equal(model, other):
    one, two = gathered(model, keep=True), gathered(other, keep=True)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_divided_model_is_trained_to_the_same_weights_for_the_same_work():
    works, models = [], []
    for divided in (False, True):
        model, optimizer = build(divided=divided)
        book = PhaseBook(lambda work: None)
        with attach(model, book, role="policy"):
            step(model, optimizer)
        assert all(isinstance(each, DTensor) == divided for each in model.parameters())
        assert all(torch.equal(local(each), local(each.detach())) for each in model.parameters())
        works.append(book.phases())
        models.append(model)
    assert equal(*models)
    assert not equal(models[0], build(divided=False)[0])
    assert works[0] == works[1] != {}
    assert sum(works[0].values(), Work()).backward_passes == 1
    assert gathered(models[1], keep=False) == {}


def test_training_continues_from_a_saved_state(tmp_path):
    model, optimizer = build(divided=True)
    step(model, optimizer)
    save_shards(tmp_path, model, optimizer)
    step(model, optimizer)
    again, fresh = build(divided=True)
    load_shards(tmp_path, again, fresh)
    assert not equal(again, model)
    step(again, fresh)
    assert equal(again, model)


def test_a_state_that_cannot_be_read_names_its_folder(tmp_path):
    model, optimizer = build(divided=True)
    with pytest.raises(BenchError, match=rf"{tmp_path / 'none'}: the trainer's state cannot be read .*start a new run"):
        load_shards(tmp_path / "none", model, optimizer)


def test_a_model_samples_with_all_its_parameters_in_the_process():
    model, _ = build(divided=True)
    base, _ = build(divided=False)
    with whole(model):
        assert not any(isinstance(each, DTensor) for each in model.parameters())
        found = model.generate(IDS, max_new_tokens=4, do_sample=False, synced_gpus=False)
        assert not any(isinstance(each, DTensor) for each in model.parameters())
    assert all(isinstance(each, DTensor) for each in model.parameters())
    assert torch.equal(found, base.generate(IDS, max_new_tokens=4, do_sample=False))
