import pytest
import torch
from tiny_families import make
from transformers import AutoModelForSequenceClassification

from bench.run.value_model import ValueModel


def hidden(model, ids):
    """Return what PPOTrainer gives to the value head."""
    body = getattr(model, model.base_model_prefix)
    return body(input_ids=ids, return_dict=True, output_hidden_states=True, use_cache=False).hidden_states[-1]


@torch.no_grad()
def test_a_value_model_is_transformers_own_where_it_has_one():
    base, ids = make("qwen3"), torch.arange(3, 9).expand(2, -1)
    own = AutoModelForSequenceClassification.from_config(base.config)
    own.model.load_state_dict(base.model.state_dict())
    value = ValueModel(base).eval()
    assert torch.equal(hidden(value, ids), hidden(own.eval(), ids))
    assert value.score(hidden(value, ids)).eq(0).all()
    assert set(value.state_dict()) == set(own.state_dict())


@pytest.mark.parametrize("family", ["gemma3n", "llama4", "mamba", "opt"])
@torch.no_grad()
def test_every_token_has_a_value(family):
    value = ValueModel(make(family))
    torch.nn.init.ones_(value.score.weight)
    found = value.score(hidden(value, torch.arange(3, 9).expand(2, -1)))
    assert found.shape == (2, 6, 1)
    assert found.unique().numel() > 1
