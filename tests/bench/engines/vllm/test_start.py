"""Start of the vLLM engine. A process has one engine at a time."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny_families import make_multimodal

import bench.models
from bench.compute.meter import Meter
from bench.engines.interface import Sampling
from bench.engines.transformers import TransformersEngine
from bench.engines.vllm import worker
from bench.engines.vllm.engine import VllmEngine
from bench.errors import BenchError, Refused, UsageError
from bench.weights.points import Point

GREEDY = Sampling(max_new_tokens=12)
TOKENIZER = Path(bench.models.__path__[0]) / "tiny_adder"
PROMPTS = [(1, *range(3, 4 + n % 11), 3 + n % 13) for n in range(60)]


@pytest.fixture
def start(device):
    return lambda model, **more: VllmEngine(model, max_model_len=40, device=device, **more)


def answers(engine):
    meter = Meter(engine.profile)
    with meter.account("setup"):
        completions = engine.generate(PROMPTS, GREEDY, meter)
    return completions, meter.ledger["setup"].model_copy(
        update={"padded_tokens": 0, "padded_attended": 0, "discarded_head_tokens": 0}
    )


def surroundings():
    # Torch's compiler stores an address of compiled code in the environment.
    return {k: v for k, v in os.environ.items() if not k.startswith("_TORCHINDUCTOR_")}, torch.set_num_threads


def test_one_engine_at_a_time_and_starting_leaves_the_process_as_it_was(start, llama, qwen):
    before = surroundings()
    first = start(llama)
    assert surroundings() == before
    expected = answers(first)
    second = start(qwen)
    with pytest.raises(AttributeError):
        answers(first)
    assert answers(second) != expected


def test_answers_that_the_model_has_no_positions_for_are_refused(llama, device):
    with pytest.raises(BenchError, match="need 65 positions; the model has 64"):
        VllmEngine(llama, max_model_len=65, device=device)


@pytest.mark.parametrize(("model", "batch_size"), [("llama", 7), ("qwen", None)])
def test_both_engines_give_equal_answers_and_work_at_every_point(start, device, model, batch_size, request):
    folder = request.getfixturevalue(model)
    ours, theirs = start(folder, batch_size=batch_size), TransformersEngine(folder, device=device)
    assert (ours.digest, ours.profile, ours.style) == (theirs.digest, theirs.profile, theirs.style)
    given = []
    for point in (Point(), Point({1: 0.05}), Point({1: 0.05, 5: -0.03}), Point()):
        ours.move_to(point)
        theirs.move_to(point)
        (mine, my_work), (their, their_work) = answers(ours), answers(theirs)
        assert mine == their
        assert my_work == their_work
        given.append([completion.text for completion in mine])
    assert given[0] == given[3] != given[1] != given[2]
    assert len(set(given[0])) > 20


def test_another_device_than_it_was_built_for_is_refused(llama, device):
    with pytest.raises(UsageError, match=f"built for {device}"):
        VllmEngine(llama, max_model_len=40, device="cuda" if device == "cpu" else "cpu")


def test_another_gpu_than_the_first_is_refused(llama, device):
    with pytest.raises(UsageError, match=f"--device {device}:1: vLLM takes the first"):
        VllmEngine(llama, max_model_len=40, device=f"{device}:1")


def test_a_move_without_effect_is_detected_at_the_start(start, llama, monkeypatch):
    monkeypatch.setattr(worker.WeightSpace, "move_to", lambda self, point: None)
    with pytest.raises(BenchError, match="after a move"):
        start(llama)


def test_a_tied_head_that_is_not_updated_is_detected_at_the_start(start, llama, device, monkeypatch):
    if device != "cpu":
        pytest.skip("only the CPU build packs the head apart from the embedding")
    monkeypatch.setattr(worker, "_pack_tied_heads", lambda model: None)
    with pytest.raises(BenchError, match="after a move"):
        start(llama)


def test_a_multimodal_checkpoint_is_refused_with_the_way_out(start, tmp_path):
    make_multimodal("gemma3").save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, tmp_path)
    with pytest.raises(Refused, match="without vision, and vLLM would load all of it under other names; use --engine"):
        start(str(tmp_path))
