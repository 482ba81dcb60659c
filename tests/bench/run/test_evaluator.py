import pytest

from bench.compute.meter import Meter
from bench.engines.transformers import TransformersEngine
from bench.models.embedded import EMBEDDED
from bench.records.journal import Journal
from bench.run.calibration import calibrate
from bench.run.evaluator import Evaluator
from bench.weights.noise import PLAIN
from bench.weights.points import Point
from tasks.addition import Addition


@pytest.fixture
def evaluator(tmp_path):
    engine = TransformersEngine(str(EMBEDDED["tiny-adder"].prepare().path), batch_size=16)
    return Evaluator(engine, Addition(), engine.style, Meter(engine.profile), Journal(tmp_path / "journal.jsonl"))


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
    flops, seconds = calibrate(evaluator, examples)
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
        Meter(evaluator.engine.profile),
        Journal(tmp_path / "journal.jsonl"),
    )
    evaluator.engine.generate = None  # nothing is computed again
    assert calibrate(resumed, examples)[0] == flops
    assert resumed.meter.ledger["setup"] == work
    assert resumed._last_point == Point()


def test_moves_are_booked_with_the_noise_that_they_add_and_their_time(evaluator, tmp_path):
    examples = evaluator.task.load().support[:2]
    near, step = Point({1: 1e-3}), Point({1: 1e-3, 2: 1e-3, 3: 1e-3})
    theta = near.step(step)
    evaluations = {
        Point(): (0, 0),
        near: (1, 1),
        near.step(Point({4: 1e-3})): (1, 2),  # the centre and one seed
        near.step(Point({5: 1e-3})): (1, 1),
        Point({1: 2e-3, 2: 1e-3}): (1, 2),
        theta: (1, 3),  # its centre was kept
        theta.step(Point({6: 1e-3})): (1, 4),
    }

    def booked(evaluator):
        found = []
        for point in evaluations:
            before = evaluator.meter.ledger["sample"]
            evaluator.score(point, examples, "support 0", "sample", None, "default", as_deployed=False)
            work = evaluator.meter.ledger["sample"] - before
            found.append((work.weight_moves, work.noise_values / evaluator.engine.layout.noise_values(PLAIN)))
        return found

    assert booked(evaluator) == list(evaluations.values())
    evaluator.journal.close()
    again = Evaluator(
        evaluator.engine,
        evaluator.task,
        evaluator.style,
        Meter(evaluator.engine.profile),
        Journal(tmp_path / "journal.jsonl"),
    )
    assert booked(again) == list(evaluations.values())
    assert again.clock.accounts == evaluator.clock.accounts  # a resumed run adds the time of the attempts before it
    assert again.clock.accounts["sample"] > 0
    assert again.clock.seconds == {}


def test_the_seconds_of_a_part_belong_to_its_account(evaluator):
    evaluator.meter.limit = 10**12
    with evaluator.meter.part(10**12, "tune"):
        examples = evaluator.task.load().support[:2]
        evaluator.score(Point(), examples, "support 0", "sample", None, "default", as_deployed=False)
    assert evaluator.clock.accounts.keys() == {"tune"}
