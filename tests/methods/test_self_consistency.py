import json

import pytest
from transformers import AutoModelForCausalLM

from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from methods.interface import Decoding
from methods.plurality import Plurality
from methods.sampling import SamplingConfig
from methods.self_consistency import SelfConsistency
from methods.testing import CoinFlips
from tasks.interface import TaskTraits, Vote

SIZES = {"support": 4, "select": 4, "gate": 4}


class Scripted:
    """Deployment with fixed answers by decoding seed. Only numbers vote."""

    def __init__(self, script: dict[int, list[str]]) -> None:
        self.script = script

    def prepare(self, points, examples, *how):
        pass

    def answer(self, point, examples, decoding, prompt):
        assert point.is_base
        assert prompt == "default"
        return self.script[decoding.seed]

    def votes(self, examples, texts):
        return [Vote(text.strip()) if text.strip().isdigit() else None for text in texts]


def adapt(seed: int = 0, **settings: float):
    context = CoinFlips(seed, SIZES, 100)
    context.task = TaskTraits(SIZES, vote_by="the number")
    artifact = SelfConsistency(SamplingConfig(**settings)).adapt(context)
    assert context.remaining == context.budget
    return artifact


def run(output, **fields):
    defaults = {"method": "self-consistency", "task": "addition", "model": "tiny-adder", "budget": "64", "limit": 60}
    prepared = prepare(RunConfig(**(defaults | fields)), output, ProgressDisplay(quiet=True))
    return prepared, execute(prepared, ProgressDisplay(quiet=True))


def test_the_most_common_answer_wins_and_the_votes_are_reported():
    artifact = Plurality(tuple(Decoding(0.7, 1.0, seed) for seed in range(3)), "plurality")
    script = {0: ["1", "8", "what"], 1: [" 2", "9", "3"], 2: ["2", "x", "why"]}
    assert artifact.answer(Scripted(script), ["a", "b", "c"]) == [" 2", "8", "3"]
    assert artifact.report["ties"] == 1
    assert artifact.report["without_vote"] == 3
    assert artifact.report["votes"] == {"answer": 6}


def test_each_sample_and_each_seed_has_its_own_random_stream():
    decodings = adapt(0, samples=4, temperature=0.5, top_p=0.9).decodings
    assert len({d.seed for d in decodings}) == 4
    assert {(d.temperature, d.top_p) for d in decodings} == {(0.5, 0.9)}
    assert adapt(0, samples=3).decodings == adapt(0, samples=5).decodings[:3]
    assert not {d.seed for d in adapt(0).decodings} & {d.seed for d in adapt(1).decodings}


def test_a_task_without_votes_is_refused():
    method = SelfConsistency(SamplingConfig())
    assert "no vote key" in method.supports(TaskTraits(SIZES))
    assert method.supports(TaskTraits(SIZES, vote_by="the number")) is None
    assert method.plan(100, TaskTraits(SIZES)).evaluations == 0


@pytest.mark.parametrize("settings", [{"samples": 0}, {"temperature": 0}, {"top_p": 0}, {"top_p": 1.1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        SamplingConfig(**settings)


def test_a_run_costs_one_pass_per_sample_and_is_deterministic(tmp_path):
    settings = {"samples": 3}
    prepared, result = run(tmp_path / "a", method_config=settings)
    assert result.status == "ok", result.traceback
    assert result.budget.spent == 0
    assert result.rows[1].cost.evaluations == 3
    assert result.rows[1].report["voters"] == 3
    again = run(tmp_path / "b", method_config=settings)[1]
    assert again.model_copy(update={"timing": None}) == result.model_copy(update={"timing": None})
    assert run(tmp_path / "c", method_config=settings, seed=1)[1].rows != result.rows
    folder = prepared.folder / "artifact"
    recipe = json.loads((folder / "recipe.json").read_text())
    assert [sample["temperature"] for sample in recipe["samples"]] == [0.7] * 3
    assert "the number" in recipe["chosen_by"]
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() > 0
