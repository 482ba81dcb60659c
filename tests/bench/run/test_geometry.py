import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from bench.compute.flops import forward_flops
from bench.errors import Refused, UsageError
from bench.models.source import resolve
from bench.records.schema import RunConfig
from bench.run import geometry
from bench.run.artifacts import adapted_weights, find_adapted
from bench.run.geometry import Neighbourhood, other_task, task_of_run
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.sandbox.probe import Strength
from bench.weights.checkpoint import saved_weights
from bench.weights.points import Point
from reports.analysis.geometry import divergences
from tasks.addition import Addition
from tasks.interface import Score


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run of randopt, the models around its base, its artifact's weights, and answers of the base."""
    folder = tmp_path_factory.mktemp("runs")
    config = RunConfig(
        method="randopt",
        task="addition",
        model="tiny-adder",
        budget="100",
        limit=10,
        method_config={"top_k": [1], "sigmas": [0.02], "population": 4},
    )
    prepared = prepare(config, folder, ProgressDisplay(quiet=True))
    assert execute(prepared, ProgressDisplay(quiet=True)).status == "ok"
    ((artifact,), _) = find_adapted([prepared.folder])
    around = Neighbourhood(artifact.result, tmp_path_factory.mktemp("scratch"))
    weights = adapted_weights(artifact, around.base, around.layout, folder / "again")
    questions = task_of_run(artifact.result, artifact.run, 6)
    asked = [(prompt, completion.token_ids) for prompt, completion in around.answers(Point(), questions)]
    return artifact, around, weights, asked


def test_equal_models_do_not_diverge(measured):
    _, around, _, asked = measured
    one, two = (list(around.logits(around.base, asked)) for _ in range(2))
    for pair in zip(one, two, strict=True):
        assert [each.tolist() for each in divergences(*pair)] == [[0.0] * len(pair[0])] * 2


def test_divergences_are_those_that_torch_computes_from_the_saved_checkpoint(measured):
    artifact, around, weights, asked = measured
    base = AutoModelForCausalLM.from_pretrained(resolve(artifact.result.config.model).prepare().path)
    moved = AutoModelForCausalLM.from_pretrained(artifact.folder)
    found = map(divergences, list(around.logits(around.base, asked)), around.logits(weights, asked))
    for (prompt, answer), (from_base, to_base) in zip(asked, found, strict=True):
        ids = torch.tensor([prompt + answer])
        with torch.no_grad():
            logs = [
                torch.log_softmax(model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double(), dim=1)
                for model in (base, moved)
            ]
        for got, (p, q) in ((from_base, logs), (to_base, logs[::-1])):
            wanted = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(dim=1).numpy()
            assert got.shape == (len(answer),)
            assert got == pytest.approx(wanted, rel=1e-3, abs=1e-9)


def test_passes_are_metered_token_by_token(measured):
    _, around, weights, asked = measured
    before = around.meter.ledger["analysis"]
    list(around.logits(weights, asked))
    work, profile = around.meter.ledger["analysis"] - before, around.meter.profile
    lengths = [len(prompt) + len(answer) - 1 for prompt, answer in asked]
    assert around.meter.flops(work) == forward_flops(
        profile,
        tokens=sum(lengths),
        head_tokens=sum(len(answer) for _, answer in asked),
        attended=sum(profile.attended(0, length) for length in lengths),
    )
    assert list(around.meter.ledger.accounts()) == ["analysis"]
    assert around.meter.spent == 0


def test_the_ends_of_a_line_are_the_two_models(measured):
    artifact, around, weights, _ = measured
    assert around.between(around.base, weights, 1.0).digest == artifact.row.weights
    assert around.between(weights, around.base, 0.0).digest == artifact.row.weights
    middle = around.between(around.base, weights, 0.25)
    for name, values in saved_weights(middle.folder).items():
        wanted = 0.75 * around.base[name].double() + 0.25 * weights[name].double()
        assert values.numpy() == pytest.approx(wanted.numpy(), rel=1e-6, abs=1e-8)


def test_a_foreign_run_cannot_allow_a_weak_sandbox_here(measured, monkeypatch):
    artifact, _, _, _ = measured
    monkeypatch.setattr(Addition, "executes_code", True)
    monkeypatch.setattr("bench.sandbox.probe", lambda: Strength({"split": None, "landlock": "off", "seccomp": "off"}))
    foreign = artifact.result.config.model_copy(update={"allow_unsandboxed": True})
    with pytest.raises(Refused, match="--allow-unsandboxed"):
        task_of_run(artifact.result.model_copy(update={"config": foreign}), artifact.run, 6)


def test_chunks_keep_the_order_and_fit_into_memory(measured, monkeypatch):
    _, around, _, _ = measured
    row = 4 * around._engine.vocabulary
    monkeypatch.setattr(geometry, "LOGITS", 5 * row)
    sequences = [((1,), (2,) * length) for length in (2, 3, 1, 9, 4, 1)]
    chunks = [[len(answer) for _, answer in chunk] for chunk in around.chunks(sequences)]
    assert chunks == [[2, 3], [1], [9], [4, 1]]
    assert list(around.chunks([])) == []


def test_verdicts_are_the_tasks_own(measured):
    artifact, around, _, _ = measured
    questions = task_of_run(artifact.result, artifact.run, 10)
    task = questions.task
    right = around.correct(Point(), questions)
    assert right.sum() == artifact.result.rows[0].accuracy.correct
    task.score_many = lambda examples, texts: [
        score if i else Score(0.0, False, status="infrastructure")
        for i, score in enumerate(map(task.score, examples, texts))
    ]
    assert np.array_equal(around.correct(Point(), questions), [-1, *right[1:]])


def test_another_task_may_have_its_data_in_a_file(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(f'{{"prompt": "{i}+1=", "answer": {i + 1}, "check": "number"}}\n' for i in range(40)))
    config = RunConfig(method="es", task="addition", model="tiny-adder", shots=2)
    found = other_task(config, f"jsonl={path}", 3)
    assert (found.task.name, len(found.examples)) == ("jsonl", 3)
    assert [shot.task.name for shot in found.prompting.shots] == ["jsonl"] * 3
    with pytest.raises(UsageError, match=f"task jsonl={path}: its test split has 1 examples; at least 2 are needed"):
        other_task(config, f"jsonl={path}", 1)
    swapped = config.model_copy(update={"template": "swapped"})
    with pytest.raises(UsageError, match="--template swapped: jsonl has no such prompt; expected one of default"):
        other_task(swapped, f"jsonl={path}", 3)
