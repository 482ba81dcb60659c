from bench.records.schema import RunConfig
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from methods.best_of_n import BestOfN, HighestSignal
from methods.interface import Decoding
from methods.sampling import SamplingConfig
from tasks.addition import Addition
from tasks.interface import TaskTraits

SIZES = {"support": 4, "select": 4, "gate": 4}


class CastingOut(Addition):
    """Addition with a signal that does not use the sum: checks by casting out nines and elevens."""

    signal_by = "casting out nines and elevens"

    def signal(self, example, text):
        if not text.strip().isdigit():
            return 0.0
        a, b, answer = example.fields["a"], example.fields["b"], int(text)
        return sum((a % n + b % n) % n == answer % n for n in (9, 11)) / 2


class Scripted:
    """Deployment with fixed answers by decoding seed. The signal is the length of the answer."""

    def __init__(self, script: dict[int, list[str]]) -> None:
        self.script, self.signalled = script, []

    def prepare(self, points, examples, *how):
        pass

    def answer(self, point, examples, decoding, prompt):
        assert point.is_base
        assert prompt == "default"
        return self.script[decoding.seed]

    def signals(self, examples, texts):
        self.signalled += zip(examples, texts, strict=True)
        return [len(text) / 10 for text in texts]


def run(output, method, **settings):
    task = f"{__name__}:CastingOut"
    config = {"method": method, "task": task, "model": "tiny-adder", "budget": "64", "limit": 300}
    prepared = prepare(RunConfig(**config, method_config=settings), output, ProgressDisplay(quiet=True))
    return execute(prepared, ProgressDisplay(quiet=True))


def test_the_highest_signal_wins_ties_go_to_the_first_and_equal_answers_are_checked_once():
    artifact = HighestSignal(tuple(Decoding(0.7, 1.0, seed) for seed in range(3)), "length")
    deployment = Scripted({0: ["a", "bb", "c"], 1: ["aaa", "xx", "c"], 2: ["aa", "b", "c"]})
    assert artifact.answer(deployment, ["1", "2", "3"]) == ["aaa", "bb", "c"]
    assert len(deployment.signalled) == 7
    assert artifact.report["samples"] == 3
    assert artifact.report["decided"] == 2
    assert artifact.report["mean_signal_chosen"] == (0.3 + 0.2 + 0.1) / 3


def test_a_task_without_a_signal_is_refused_with_the_reason():
    method = BestOfN(SamplingConfig())
    assert "without the gold answer" in method.supports(TaskTraits(SIZES))
    assert method.supports(TaskTraits(SIZES, signal_by="casting out nines")) is None


def test_a_good_signal_improves_accuracy_at_the_cost_of_its_samples(tmp_path):
    result = run(tmp_path, "best-of-n", samples=4)
    assert result.status == "ok", result.traceback
    assert result.budget.spent == 0
    row = result.rows[1]
    assert row.cost.evaluations == 4
    assert row.comparison.difference > 0
    assert row.comparison.p_value < 0.01
    assert row.report["mean_signal_chosen"] > row.report["mean_signal"]
