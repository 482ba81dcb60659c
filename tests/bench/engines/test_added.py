"""Displacements that are added in products: the answers, work and moves of candidates that share a batch."""

import json
from pathlib import Path

import pytest
import torch
from candidates import alone, answer, asked, candidates, group_sizes, moved, texts, together
from click.testing import CliRunner
from end_rules import AtDigit
from text_agreement import Words, save
from tiny_families import make
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.cli import cli
from bench.compute.ledger import Work, model_flops
from bench.compute.meter import AllowanceSpent, Meter
from bench.conformance.method import check_method
from bench.engines.groups import TERMS
from bench.engines.interface import Job, Sampling
from bench.engines.transformers import TransformersEngine
from bench.models.source import resolve
from bench.records.schema import find_runs, read_result
from bench.weights.noise import Noise
from bench.weights.points import Point
from tasks.addition import Addition

TASK = Addition()
GREEDY = Sampling(max_new_tokens=4)
SIGMA = 2e-2


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(resolve("tiny-adder").prepare().path, dtype="float32", batch_size=512)


@pytest.fixture(scope="module")
def prompts(engine):
    return tuple(engine.encode(TASK.messages(example)) for example in TASK.load().support[:8])


@pytest.mark.parametrize("kind", ["lowrank", "lowrank-2", "lowrank-4"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_64_answers_of_a_mixed_batch_are_those_of_one_candidate_after_another_and_of_moved_weights(
    engine, prompts, kind, temperature
):
    sampling = Sampling(max_new_tokens=4, temperature=temperature, seed=5)
    jobs = asked(prompts, candidates(8, kind, SIGMA), sampling, rules=(AtDigit("3"), *[None] * 7))
    assert max(group_sizes(engine, jobs)) == min(8, TERMS // Noise(kind).rank)
    mixed, single = together(engine, jobs), alone(engine, jobs)
    assert texts(mixed) == texts(single)
    # A small batch proposes tokens, and what is thrown away of them is no work of the model.
    assert [model_flops(engine.profile, work) for _, work in mixed] == [
        model_flops(engine.profile, work) for _, work in single
    ]
    assert texts(mixed) == texts(moved(engine, jobs))
    assert len(texts(mixed)) == 64
    assert len({tuple(answers) for answers, _ in mixed}) > 4  # the candidates differ


def test_64_answers_of_a_mixed_batch_are_those_of_transformers_with_the_merged_checkpoints(engine, prompts, tmp_path):
    jobs = asked(prompts, candidates(8, "lowrank", SIGMA), GREEDY)
    found = []
    for number, job in enumerate(jobs):
        engine.move_to(job.added)
        engine.save(folder := tmp_path / str(number))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for prompt in prompts:
            ids = model.generate(torch.tensor([prompt]), max_new_tokens=4, do_sample=False)[0, len(prompt) :]
            found.append(tokenizer.decode(ids, skip_special_tokens=True))
    assert group_sizes(engine, jobs) == [8]
    assert found == texts(together(engine, jobs))


def test_candidates_around_a_centre_need_the_move_to_the_centre_alone(engine, prompts):
    centre = Point({77: 3e-2}, "lowrank").step(Point({78: -3e-2}, "lowrank"))
    jobs = asked(prompts, candidates(8, "lowrank", SIGMA), GREEDY, centre)
    mixed = together(engine, jobs)
    assert engine.point == centre
    assert texts(mixed) == texts(moved(engine, jobs))
    assert texts(mixed) != texts(together(engine, asked(prompts, candidates(8, "lowrank", SIGMA), GREEDY)))


def test_the_products_of_each_candidate_are_billed_per_token(engine, prompts):
    plain = alone(engine, [Job(Point(), prompts, GREEDY)])[0][1]
    assert plain.products == 0
    for kind, rank in (("lowrank", 1), ("lowrank-4", 4)):
        (_, work), *_ = together(engine, asked(prompts, candidates(3, kind, SIGMA), GREEDY))
        tokens = work.prefill_tokens + work.decode_tokens
        each = engine.layout.noise_values(Noise("lowrank"))
        assert work.products == rank * each * tokens > 0
        assert work.padded_products == TERMS * each * work.padded_tokens  # filled up with zeros
        assert work.evaluations == len(prompts)


def test_after_a_group_the_model_is_as_before(engine, prompts):
    before = texts(alone(engine, [Job(Point(), prompts, GREEDY)]))
    layers = {name: vars(each).get("forward") for name, each in engine._model.named_modules()}
    together(engine, asked(prompts, candidates(3, "lowrank", SIGMA), GREEDY))
    assert {name: vars(each).get("forward") for name, each in engine._model.named_modules()} == layers
    assert texts(alone(engine, [Job(Point(), prompts, GREEDY)])) == before


def test_an_allowance_that_ends_within_a_candidate_stops_it_where_it_stops_alone(engine, prompts):
    jobs = asked(prompts, candidates(4, "lowrank", SIGMA), GREEDY)
    whole = Meter(engine.profile).flops(together(engine, jobs)[0][1])
    spent = []
    for announced in (jobs, []):
        engine.prepare(announced, lambda *_: None)
        meter = Meter(engine.profile)
        with meter.account("sample", whole * 9 // 10), pytest.raises(AllowanceSpent):
            engine.generate(prompts, GREEDY, meter, (), jobs[0].added)
        spent.append(meter.ledger["sample"])
    assert spent[0] == spent[1]
    assert Work() != spent[0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_a_group_gives_the_same_texts_whenever_it_is_computed(dtype, prompts):
    # There texts depend on the batch. It follows from the announcement, whatever was answered before.
    half = TransformersEngine(resolve("tiny-adder").prepare().path, dtype=dtype)
    jobs = asked(prompts, candidates(6, "lowrank", SIGMA), GREEDY)
    first = together(half, jobs)
    half.prepare([], lambda *_: None)
    half.prepare(jobs, lambda *_: None)
    assert answer(half, jobs[4:]) == first[4:]
    whole = TransformersEngine(resolve("tiny-adder").prepare().path, dtype="float32")
    equal = [a == b for a, b in zip(texts(first), texts(together(whole, jobs)), strict=True)]
    assert sum(equal) >= len(equal) * 3 // 4  # the displacements are added, but for rounding
    plain = texts(alone(half, [Job(Point(), prompts, GREEDY)] * 6))
    assert sum(a != b for a, b in zip(texts(first), plain, strict=True)) > len(plain) // 4


def test_factors_in_float16_do_not_overflow_where_a_moved_weight_would_not(prompts):
    half = TransformersEngine(resolve("tiny-adder").prepare().path, dtype="float16")
    layer = next(iter(half._added._layers.values()))
    with half._added.of(candidates(1, "lowrank", 1e-4)):
        inner, outer = half._added._factors[layer]
        assert 0 < inner.abs().max() < 1e-3
        assert 1 <= outer.abs().max() < 2


@pytest.mark.parametrize("kind", ["lowrank", "lowrank-4"])
def test_packed_layers_and_fused_mlps_answer_as_with_moved_weights(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.engines.transformers.SMALL_MODEL", 0)
    save(make("llama"), tmp_path)
    packed = TransformersEngine(str(tmp_path), dtype="float32", batch_size=8)
    assert packed.settings["kernels"] == "onednn-packed"
    ids = torch.randint(3, 40, (8, 6), generator=torch.Generator().manual_seed(0)).tolist()
    jobs = asked(tuple(map(tuple, ids)), candidates(16, kind, sigma=0.3), Sampling(max_new_tokens=8))
    assert max(group_sizes(packed, jobs)) == 2  # 16 rows: as answers end, others enter
    base = texts(alone(packed, [Job(Point(), jobs[0].prompts, GREEDY)]))
    mixed = together(packed, jobs)
    assert texts(mixed) == texts(alone(packed, jobs)) == texts(moved(packed, jobs))
    assert len({tuple(answers) for answers, _ in mixed}) > 2
    assert texts(alone(packed, [Job(Point(), jobs[0].prompts, GREEDY)])) == base


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "olmo2", "mixtral"])
def test_other_families_answer_as_with_moved_weights(family, tmp_path):
    save(make(family), tmp_path)
    other = TransformersEngine(str(tmp_path), dtype="float32", batch_size=8)
    assert other.most_terms == TERMS
    ids = torch.randint(3, 40, (8, 6), generator=torch.Generator().manual_seed(0)).tolist()
    rules = tuple(Words(count) for count in (1, 2, 3, 4, 5, 6, 7, 8))
    jobs = asked(tuple(map(tuple, ids)), candidates(16, "lowrank", 0.3), Sampling(max_new_tokens=8), rules=rules)
    assert max(group_sizes(other, jobs)) == 2  # 16 rows: as answers end, others enter
    mixed = together(other, jobs)
    assert texts(mixed) == texts(alone(other, jobs)) == texts(moved(other, jobs))
    assert len({tuple(answers) for answers, _ in mixed}) > 2


@pytest.mark.parametrize(
    "noise",
    [Noise("lowrank", modules="mlp"), Noise("lowrank-2", "modular"), Noise("lowrank", "modular", r"layers\.1\..*proj")],
    ids=str,
)
def test_masks_and_scales_give_the_answers_of_moved_weights(engine, prompts, noise):
    jobs = asked(prompts, candidates(8, noise, SIGMA), GREEDY)
    mixed = together(engine, jobs)
    assert texts(mixed) == texts(alone(engine, jobs)) == texts(moved(engine, jobs))
    assert len({tuple(answers) for answers, _ in mixed}) > 2
    rows_and_columns = sum(map(sum, engine.layout.matrices(noise).values()))
    for _, work in mixed:
        tokens = work.prefill_tokens + work.decode_tokens
        assert work.products == noise.rank * rows_and_columns * tokens
        assert work.padded_products == TERMS * rows_and_columns * work.padded_tokens


def test_candidates_of_several_noises_may_share_a_batch(engine, prompts):
    noises = ["lowrank", Noise("lowrank", modules="mlp"), Noise("lowrank-2", "modular", "attention")]
    jobs = [job for noise in noises for job in asked(prompts, candidates(2, noise, SIGMA), GREEDY)]
    assert texts(together(engine, jobs)) == texts(moved(engine, jobs))


def run(folder: Path, *options: str):
    arguments = [
        "run",
        "-t",
        "addition",
        "-M",
        "tiny-adder",
        "-L",
        "20",
        "-o",
        str(folder),
        "--dtype",
        "float32",
        *options,
    ]
    outcome = CliRunner().invoke(cli, arguments, standalone_mode=False, catch_exceptions=False)
    assert outcome.return_value in (0, None), outcome.output
    (found,) = find_runs(folder)
    return found, read_result(found)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["randopt", "es"])
def test_a_run_ends_the_same_on_one_and_two_engines_and_books_no_moves_of_candidates(method, tmp_path):
    sigma = "es.sigma=0.02" if method == "es" else "randopt.sigmas=0.02"
    options = ["-m", method, "-b", "700", "--set", "noise=lowrank", "--set", sigma]
    folder, result = run(tmp_path / "1", *options, "--engines", "1")
    other, again = run(tmp_path / "2", *options, "--engines", "2")
    without = {"timing": None}
    assert result.model_copy(update=without) == again.model_copy(update=without)
    assert (folder / "samples.jsonl").read_bytes() == (other / "samples.jsonl").read_bytes()
    sampled = result.ledger["sample"].work
    assert sampled.products > 0
    steps = len(result.report.get("trajectory", ()))
    assert sampled.weight_moves == (max(0, steps - 1) if method == "es" else 0)
    assert sampled.noise_values > 0
    assert json.loads((folder / "config.json").read_text())["method_config"]["noise"] == "lowrank"


@pytest.mark.slow
def test_a_method_whose_candidates_share_batches_passes_bench_check():
    report = check_method("es", {"noise": "lowrank", "sigma": 0.01})
    assert [finding for finding in report.findings if finding.passed is False] == []
