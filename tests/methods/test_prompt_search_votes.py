import json

from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from methods.prompt_search import PromptedSelfConsistency, PromptSearch
from methods.sampling import SamplingConfig
from tasks.interface import TaskTraits

QUIET = ProgressDisplay(quiet=True)
SIZES = {"support": 100, "select": 10, "gate": 10}
PROMPTS = ("default", "other")


def run(output, method, **fields):
    defaults = {"task": "addition", "model": "tiny-adder", "budget": "200", "limit": 40, "gate": "off"}
    prepared = prepare(RunConfig(method=method, **(defaults | fields)), output, QUIET)
    return prepared, execute(prepared, QUIET)


def test_it_needs_prompts_to_choose_from_and_votes():
    method = PromptedSelfConsistency(SamplingConfig())
    assert "one prompt" in method.supports(TaskTraits(SIZES, vote_by="the number"))
    assert "no vote key" in method.supports(TaskTraits(SIZES, PROMPTS))
    assert method.supports(TaskTraits(SIZES, PROMPTS, "the number")) is None


def test_the_plan_has_the_search_and_the_cost_of_both_answers():
    plan = PromptedSelfConsistency(SamplingConfig(samples=5)).plan(200, TaskTraits(SIZES, PROMPTS, "the number"))
    assert [(line.account, line.evaluations) for line in plan.lines] == [("tune", 200)]
    assert plan.passes == (5, 1)


def test_one_search_yields_a_vote_and_a_single_answer_under_the_prompt_found(tmp_path):
    prepared, result = run(tmp_path, "prompted-self-consistency", method_config={"samples": 3})
    _, alone = run(tmp_path, "prompt-search")
    assert result.status == "ok", result.traceback
    vote, greedy = result.artifacts
    assert (vote.label, vote.cost.evaluations, greedy.label, greedy.cost.evaluations) == ("k=3", 3, "greedy", 1)
    assert result.report == alone.report
    assert result.ledger["tune"] == alone.ledger["tune"]
    assert greedy.accuracy == alone.artifacts[0].accuracy
    assert vote.report["voters"] == 3
    folder = prepared.folder / "artifact"
    prompts = [json.loads((folder / label / "point.json").read_text())["prompt"] for label in ("k=3", "greedy")]
    assert prompts == [result.report["chosen"]] * 2
    assert len(json.loads((folder / "k=3" / "recipe.json").read_text())["samples"]) == 3


def test_vote_and_single_answer_are_asked_with_the_prompt_found(tmp_path, monkeypatch):
    monkeypatch.setattr(PromptSearch, "search", lambda *_: "swapped")
    prepared, result = run(tmp_path, "prompted-self-consistency", method_config={"samples": 2})
    assert [row.changed for row in result.artifacts] == [True, True]
    folder = prepared.folder / "artifact"
    prompts = [json.loads((folder / label / "point.json").read_text())["prompt"] for label in ("k=2", "greedy")]
    assert prompts == ["swapped", "swapped"]
