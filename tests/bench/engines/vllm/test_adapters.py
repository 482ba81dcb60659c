"""Candidates of low-rank noise as adapters of vLLM: their answers, work and moves."""

import json
import subprocess
import sys

import numpy as np
import pytest
from candidates import alone, asked, candidates, group_sizes, moved, texts, together
from end_rules import AtDigit

from bench.compute.ledger import model_flops
from bench.compute.meter import AllowanceSpent, Meter
from bench.engines.interface import Job, Sampling
from bench.engines.transformers import TransformersEngine
from bench.engines.vllm import adapters
from bench.engines.vllm.engine import VllmEngine
from bench.records.schema import find_runs
from bench.weights.noise import Noise
from bench.weights.points import Point
from tests.bench.engines.vllm.conftest import write_model

SIGMA = 0.3
GREEDY = Sampling(max_new_tokens=8)
PROMPTS = tuple((1, *range(3, 4 + n % 11), 3 + n % 13) for n in range(8))


@pytest.fixture
def start(device):
    return lambda model, **more: VllmEngine(model, max_model_len=40, device=device, **more)


@pytest.fixture(scope="module", params=[1, 2, 4])
def rank(request):
    return request.param


@pytest.fixture(scope="module")
def engine(llama, device, rank):
    return VllmEngine(llama, max_model_len=40, device=device, rank=rank)


@pytest.fixture
def points(rank):
    return candidates(8, "lowrank" if rank == 1 else f"lowrank-{rank}", SIGMA)


def loaded(engine):
    return engine._vllm.collective_rpc("list_loras")[0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_64_answers_of_a_mixed_batch_are_those_of_one_candidate_after_another_and_of_moved_weights(
    engine, points, temperature
):
    sampling = Sampling(max_new_tokens=8, temperature=temperature, seed=5)
    jobs = asked(PROMPTS, points, sampling, rules=(AtDigit("3"), *[None] * 7))
    assert group_sizes(engine, jobs)[0] > 1
    mixed, single = together(engine, jobs), alone(engine, jobs)
    assert mixed == single
    assert texts(mixed) == texts(moved(engine, jobs))
    assert len(texts(mixed)) == 64
    assert len({tuple(answers) for answers, _ in mixed}) == 8


def test_texts_and_model_flops_are_those_of_the_transformers_engine(engine, llama, device, points, rank):
    theirs = TransformersEngine(llama, device=device)
    assert engine.settings["adapters"] == f"{16 // rank} of rank {1 if rank == 1 else 8}"
    jobs = asked(PROMPTS, points, GREEDY)
    ours, expected = together(engine, jobs), together(theirs, jobs)
    assert texts(ours) == texts(expected)
    for (_, work), (_, other) in zip(ours, expected, strict=True):
        assert model_flops(engine.profile, work) == model_flops(theirs.profile, other)
        assert (
            work.products
            == engine.layout.noise_values(points[0].noise) * (work.prefill_tokens + work.decode_tokens)
            > 0
        )
        assert work.padded_products >= work.products
        assert work.weight_moves == 0


@pytest.mark.parametrize(
    "noise", [Noise("lowrank", modules="mlp"), Noise("lowrank", "modular", r"layers\.1\.")], ids=str
)
def test_masks_and_scales_of_adapters_are_those_of_moved_weights(start, llama, noise):
    engine = start(llama, rank=1)
    jobs = asked(PROMPTS, candidates(8, noise, SIGMA), GREEDY)
    assert texts(together(engine, jobs)) == texts(moved(engine, jobs))
    assert len(set(map(tuple, texts(together(engine, jobs))))) > 1


def test_candidates_around_a_centre_need_the_move_to_the_centre_alone(engine, points, fed):
    kind = points[0].noise
    centre = Point({77: 0.2}, kind).step(Point({78: -0.2}, kind))
    jobs = asked(PROMPTS, points, GREEDY, centre)
    engine.move_to(centre)
    mixed = []
    assert fed(engine, lambda: mixed.extend(together(engine, jobs))) == {}
    assert texts(mixed) == texts(moved(engine, jobs))
    assert texts(mixed) != texts(together(engine, asked(PROMPTS, points, GREEDY)))


def test_after_a_group_there_is_no_adapter_and_the_base_answers_as_before(engine, points):
    base = [Job(Point(), PROMPTS, GREEDY)]
    before = texts(alone(engine, base))
    together(engine, asked(PROMPTS, points, GREEDY))
    assert loaded(engine) == set()
    assert texts(alone(engine, base)) == before
    meter = Meter(engine.profile)
    with meter.account("sample", 1), pytest.raises(AllowanceSpent):
        engine.generate(PROMPTS, GREEDY, meter, (), points[0])
    assert loaded(engine) == set()
    assert texts(alone(engine, base)) == before


def test_sums_of_points_up_to_the_rank_of_the_adapters_are_added_too(start, llama):
    engine = start(llama, rank=2)
    assert engine.most_terms == 8
    sums = [Point({1: 0.2, 2: 0.1, 3: -0.2, 4: 0.1}, "lowrank-2"), Point({5: 0.2, 6: 0.1}, "lowrank-2")]
    jobs = asked(PROMPTS, sums, GREEDY)
    assert texts(together(engine, jobs)) == texts(moved(engine, jobs))


@pytest.mark.parametrize("kind", ["qwen2", "olmo3"])
def test_other_families_answer_as_with_moved_weights(start, kind, tmp_path):
    engine = start(write_model(tmp_path, kind, tie_word_embeddings=False), rank=1)
    assert engine.most_terms == 1, engine.settings
    jobs = asked(PROMPTS, candidates(8, "lowrank", SIGMA), GREEDY)
    assert texts(together(engine, jobs)) == texts(moved(engine, jobs))


def test_adapters_serve_in_half_precision(start, llama):
    engine = start(llama, rank=1, dtype="bfloat16")
    assert engine.most_terms == 1
    jobs = asked(PROMPTS, candidates(8, "lowrank", SIGMA), GREEDY)
    mixed = texts(together(engine, jobs))
    equal = sum(one == other for one, other in zip(mixed, texts(moved(engine, jobs)), strict=True))
    assert equal > len(mixed) / 2  # a moved weight is rounded, and an added product is not


def test_a_model_without_adapters_in_vllm_moves_and_says_why(start, tmp_path):
    engine = start(write_model(tmp_path, "gpt2", n_positions=64, n_embd=128, n_layer=2, n_head=4), rank=1)
    assert engine.most_terms == 0
    assert engine.settings["adapters"].startswith("none: ")
    assert "LoRA" in engine.settings["adapters"]
    jobs = [Job(point, PROMPTS, GREEDY) for point in candidates(3, "lowrank", SIGMA)]
    assert len(set(texts(alone(engine, jobs)))) > 3


def test_a_layer_that_no_adapter_reaches_is_detected_at_the_start(start, llama, monkeypatch):
    drawn = adapters.thin_factors
    head = np.ones((1, 128), np.float32), np.ones((1, 128), np.float32)
    monkeypatch.setattr(adapters, "thin_factors", lambda *given: [*drawn(*given), ("lm_head", *head)])
    engine = start(llama, rank=1)
    assert engine.most_terms == 0
    assert engine.settings["adapters"] == "none: no adapter reaches lm_head"
    assert loaded(engine) == set()


def test_adapters_without_effect_are_detected_at_the_start(start, llama, monkeypatch):
    drawn = adapters.thin_factors
    monkeypatch.setattr(adapters, "thin_factors", lambda *given: [(name, 0 * a, b) for name, a, b in drawn(*given)])
    engine = start(llama, rank=1)
    assert engine.most_terms == 0
    assert engine.settings["adapters"] == "none: log-probabilities with an adapter are not those of moved weights"


def test_an_engine_for_other_noise_has_no_adapters(start, llama):
    engine = start(llama)
    assert engine.most_terms == 0
    assert "adapters" not in engine.settings


def run(folder, *options):
    command = [sys.executable, "-m", "bench", "run", *map(str, options), "-o", folder]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = find_runs(folder)
    return found, json.loads((found / "result.json").read_text())


@pytest.mark.parametrize("method", ["randopt", "es"])
def test_a_run_by_adapters_ends_as_on_the_transformers_engine_without_moves_of_candidates(
    method, llama, device, rows, tmp_path
):
    sigma = "es.sigma=0.3" if method == "es" else "randopt.sigmas=0.3"
    options = ["-m", method, "-t", "jsonl", "--data", rows, "-M", llama, "-b", 600, "-L", 8, "--max-new-tokens", 4]
    options += ["--device", device, "--gate", "off", "--set", f"{method}.noise=lowrank", "--set", sigma]
    folder, ours = run(tmp_path / "vllm", *options, "--engine", "vllm")
    other, theirs = run(tmp_path / "transformers", *options, "--engine", "transformers", "--engines", 1)
    assert ours["engine"]["adapters"] == "16 of rank 1"
    assert ours["status"] == theirs["status"] == "ok"
    assert (folder / "samples.jsonl").read_bytes() == (other / "samples.jsonl").read_bytes()
    work, expected = ours["ledger"]["sample"]["work"], theirs["ledger"]["sample"]["work"]
    for count in ("evaluations", "prefill_tokens", "decode_tokens", "products", "noise_values"):
        assert work[count] == expected[count] > 0
    assert work.get("weight_moves", 0) == expected.get("weight_moves", 0)
    if method == "randopt":
        assert work.get("weight_moves", 0) == 0
