import pytest

from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.models.embedded import EMBEDDED
from bench.records.journal import Journal
from bench.run.evaluator import Evaluator
from bench.weights.points import Point
from tasks.addition import Addition


@pytest.fixture
def evaluator(tmp_path):
    engine = TransformersEngine(str(EMBEDDED["tiny-adder"].prepare().path), batch_size=16)
    return Evaluator(engine, Addition(), engine.style, Meter(engine.shape), Journal(tmp_path / "journal.jsonl"))


def test_chunks_stay_the_same_when_memory_runs_out_in_between(evaluator):
    before = evaluator.cut(200)
    evaluator.engine._halve_batch()
    assert evaluator.engine.settings["batch_size"] == 8
    assert evaluator.cut(200) == evaluator.for_task(Addition()).cut(200) == before
    assert evaluator.for_task(Addition()).batch_size == 16


def test_the_calibration_is_shared_by_engines_and_read_from_the_journal_by_a_resumed_run(evaluator, tmp_path):
    examples = evaluator.task.load().support[:16]
    announced = []
    prepare = evaluator.engine.prepare
    evaluator.engine.prepare = lambda jobs, arrived: (
        announced.append([len(j.prompts) for j in jobs]),
        prepare(jobs, arrived),
    )
    flops, seconds = evaluator.calibrate(examples)
    assert announced == [[4, 4, 4, 4]]  # 16 examples are one batch
    assert seconds > 0
    work = evaluator.meter.ledger["setup"]
    assert work.evaluations == 16
    assert flops == evaluator.meter.flops(work) / 16
    evaluator.journal.close()
    resumed = Evaluator(
        evaluator.engine,
        evaluator.task,
        evaluator.style,
        Meter(evaluator.engine.shape),
        Journal(tmp_path / "journal.jsonl"),
    )
    evaluator.engine.generate = None  # nothing is computed again
    assert resumed.calibrate(examples)[0] == flops
    assert resumed.meter.ledger["setup"] == work
    assert resumed._last_point == Point()
