"""The speed that a budget of device time is converted at."""

import time
from dataclasses import asdict
from pathlib import Path

from bench.compute.flops import ModelShape
from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.engines.interface import Job, Sampling
from bench.records.journal import Journal, read_entries
from bench.records.schema import RunConfig
from bench.run.calibration import CALIBRATION_EXAMPLES, WINDOW, timed
from bench.run.chunks import Chunk
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute


def test_the_speed_is_that_of_full_batches_over_two_seconds(tmp_path):
    config = RunConfig(method="base", task="addition", model="tiny-adder", budget="2s", limit=20)
    prepared = prepare(config, tmp_path, ProgressDisplay(quiet=True))
    result = execute(prepared, ProgressDisplay(quiet=True))
    entries, _ = read_entries(prepared.folder / "journal.jsonl")
    (found,) = (entry["value"] for entry in entries if "timed" in entry.get("key", {}))
    batch = result.engine["batch_size"]
    assert found["seconds"] >= WINDOW
    assert found["warm_up"]["evaluations"] == batch
    assert found["work"]["evaluations"] % batch == 0
    assert result.ledger["setup"].work.evaluations == CALIBRATION_EXAMPLES + batch + found["work"]["evaluations"]


class Slow:
    """Evaluator that takes a second for each round of its engines, and keeps what was announced."""

    batch_size = 5

    def __init__(self, path):
        self.journal = Journal(path)
        self.meter = Meter(ModelShape(2, 8, 2, 2, 4, 16, 32, tied=True).profile())
        self.rounds = []

    def answer_chunk(self, point, examples, label, decoding):
        job = Job(point, tuple((e,) for e in examples), Sampling(max_new_tokens=1, **asdict(decoding)))
        return Chunk({"label": label}, job, dict, dict)

    def announce(self, chunks):
        self.rounds.append([chunk.job for chunk in chunks])
        time.sleep(1)

    def run_chunk(self, point, chunk):
        self.meter.reserve(Work(evaluations=len(chunk.job.prompts)))


def test_each_round_gives_every_engine_a_batch_of_its_own_and_the_first_is_not_timed(tmp_path: Path):
    evaluator = Slow(tmp_path / "journal.jsonl")
    work, seconds = timed(evaluator, [1, 2], 3)
    jobs = [job for each in evaluator.rounds for job in each]
    assert [len(each) for each in evaluator.rounds] == [3, 3, 3]
    assert len(set(jobs)) == len(jobs)  # a pool answers equal jobs only once
    assert {job.prompts for job in jobs} == {((1,), (2,), (1,), (2,))}
    assert (work.evaluations, evaluator.meter.ledger["setup"].evaluations) == (24, 36)
    assert WINDOW <= seconds < 2 * WINDOW
    evaluator.journal.close()
    resumed = Slow(tmp_path / "journal.jsonl")
    assert timed(resumed, [1, 2], 3) == (work, seconds)
    assert (resumed.rounds, resumed.meter.ledger["setup"].evaluations) == ([], 36)
