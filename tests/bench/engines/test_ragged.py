import weakref

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bench.compute.flops import ModelShape
from bench.engines.ragged import Pass, RaggedBatch, use_ragged_attention
from bench.errors import BenchError

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": 7},
    "qwen2": {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    "qwen3": {"head_dim": 16},
    "gemma3_text": {"sliding_window": 7, "sliding_window_pattern": 2, "head_dim": 16},
}


def built(family):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES, **FAMILIES[family])
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("compiled", [True, False])
@torch.inference_mode()
def test_logits_are_those_of_the_model_itself_one_sequence_at_a_time(family, compiled):
    model, plain = built(family), built(family)
    use_ragged_attention(model)
    batch = RaggedBatch(model, 3)
    batch.compiled = compiled
    whole = torch.randint(64, (2, 50), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(whole).logits, plain(whole).logits, rtol=1e-4, atol=1e-5)
    texts = [torch.randint(64, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (60, 41, 33)]
    prompts = [20, 1, 11]
    known = [plain(torch.tensor([text])).logits[0] for text in texts]

    def check(found, expected):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    entered = batch.run(batch.enter([text[:n] for text, n in zip(texts[:2], prompts[:2], strict=True)], []))
    check(entered, torch.stack([known[0][19], known[1][0]]))
    check(batch.run(batch.enter([texts[2][:11]], prompts[:2])), known[2][10:11])
    at = list(prompts)
    several = [[1, 4, 2], [3, 1, 1], [9, 9, 9], [1, 8, 1]] if compiled else [[1, 1, 1]] * 10
    for counts in ([1, 1, 1], *several):
        new = [text[a : a + n] for text, a, n in zip(texts, at, counts, strict=True)]
        found = batch.run(batch.step(new, at))
        check(found, torch.cat([logits[a : a + n] for logits, a, n in zip(known, at, counts, strict=True)]))
        at = [a + n for a, n in zip(at, counts, strict=True)]
    # Tokens thrown away are forgotten, and a sequence that moves to another row goes on.
    batch.run(batch.step([[5, 6, 7], [5], [8, 9]] if compiled else [[5], [5], [8]], at))
    batch.move(2, 0)
    found = batch.run(batch.step([texts[2][at[2] : at[2] + 1], texts[1][at[1] : at[1] + 1]], [at[2], at[1]]))
    check(found, torch.cat([known[2][at[2] : at[2] + 1], known[1][at[1] : at[1] + 1]]))


@pytest.mark.parametrize("counts", [[1], [3, 3], [1, 4, 2]])
def test_states_go_to_their_sequences_and_back(counts):
    running = Pass([[0] * n for n in counts], [2] * len(counts), torch.device("cpu"))
    states = torch.randn(1, 2, sum(counts), 5)
    filled = running.by_sequence(states)
    assert filled.shape == (len(counts), 2, max(counts), 5)
    assert torch.equal(running.flat(filled.transpose(1, 2)).transpose(1, 2), states)
    assert filled.count_nonzero() == states.count_nonzero()


def test_only_what_is_attended_to_is_computed_by_compiled_loops():
    model = built("mistral")
    profile = ModelShape.from_config(model.config).profile()
    batch = RaggedBatch(model, 2)
    running = batch.step([[1], [2, 3]], [3, 20])
    assert batch.attended(running, profile) == 3 * (4 + 7 + 7)
    batch.compiled = False
    assert batch.attended(running, profile) == 3 * 2 * batch._columns
    with pytest.raises(ValueError, match="need compiled attention"):
        batch.step([[1], [2, 3]], [3, 20])


@pytest.mark.parametrize("compiled", [True, False])
@torch.inference_mode()
def test_what_an_earlier_sequence_left_in_a_row_changes_nothing(compiled):
    model = built("llama")
    use_ragged_attention(model)
    found = []
    for left in (0.0, torch.inf):
        batch = RaggedBatch(model, 2)
        batch.compiled = compiled
        batch.run(batch.enter([[1, 2, 3], [4, 5, 6, 7, 8, 9, 1, 2, 3]], []))
        for keys, values in batch._layers.values():
            keys[1, :, 4:] = values[1, :, 4:] = left
        batch.run(batch.enter([[7, 8]], [3]))
        found.append(batch.run(batch.step([[1], [2]], [3, 2])))
    assert torch.equal(*found)


def test_buffers_are_widened_one_layer_at_a_time(monkeypatch):
    model = built("llama")
    use_ragged_attention(model)
    batch = RaggedBatch(model, 2)
    moved, alive = RaggedBatch._moved, []
    with torch.inference_mode():
        batch.run(batch.enter([[1, 2, 3]], []))
        old = [weakref.ref(buffer) for pair in batch._layers.values() for buffer in pair]

        def counted(*given):
            alive.append(sum(buffer() is not None for buffer in old))
            return moved(*given)

        monkeypatch.setattr(RaggedBatch, "_moved", counted)
        batch.step([[1]], [100])
    assert alive == [6, 6, 4, 4, 2, 2]


def test_a_model_whose_layers_attend_in_their_own_way_is_refused():
    model = built("llama")
    use_ragged_attention(model)
    own = model.model.layers[1].self_attn
    own.forward = lambda hidden_states, **given: (hidden_states, None)
    batch = RaggedBatch(model, 1)
    with torch.inference_mode(), pytest.raises(BenchError, match="LlamaForCausalLM: some layers do not attend"):
        batch.run(batch.enter([[1, 2, 3]], []))
