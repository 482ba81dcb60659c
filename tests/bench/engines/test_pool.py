"""Engine pool compared with a single engine. The workers here finish jobs in random order, and some of them die."""

import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from end_rules import AtDigit

import bench.engines.processes as processes
from bench.compute.ledger import Work
from bench.compute.meter import AllowanceSpent, Meter, OverBudget
from bench.engines.groups import cut
from bench.engines.interface import Job, Sampling
from bench.engines.placement import Engines
from bench.engines.pool import DEPTH, EngineInfo, EnginePool, JobResult, run_job
from bench.engines.transformers import TransformersEngine
from bench.errors import BenchError
from bench.models.source import resolve
from bench.records.journal import Journal
from bench.records.schema import RunConfig
from bench.run.context import AdaptationContext
from bench.run.evaluator import Evaluator
from bench.run.prepare import prepare
from bench.run.progress import ProgressDisplay
from bench.run.runner import execute
from bench.weights.checkpoint import Checkpoint
from bench.weights.points import Point
from methods.training.iterative_randopt import IterativeRandOpt, IterativeRandOptConfig
from tasks.addition import Addition
from tasks.interface import Splits, TaskTraits

SAMPLING = Sampling(max_new_tokens=5)
COST = 6_500_000
"""FLOPs of an answer to `addition`, about."""


@dataclass
class LocalWorkers:
    """Workers in this process. A job runs when `wait` chooses it at random."""

    engine: TransformersEngine
    count: int
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    mortal: bool = False
    queues: dict = field(default_factory=dict)
    dying: dict = field(default_factory=dict)
    computed: int = 0
    deepest: int = 0
    started: list = field(default_factory=list)

    def __post_init__(self):
        self.queues = {worker: [] for worker in range(self.count)}

    @property
    def alive(self):
        if not self.queues:
            raise BenchError("all workers are dead")
        return tuple(self.queues)

    def describe(self):
        return EngineInfo.of(self.engine)

    def prepare(self, jobs):
        self.engine.prepare(jobs, lambda *_: None)

    def start(self, worker, job, limit):
        self.queues[worker].append((job, limit))
        self.started.append((job, sum(map(len, self.queues.values()))))
        self.deepest = max(self.deepest, len(self.queues[worker]))

    def wait(self):
        worker = self.rng.choice([w for w, queue in self.queues.items() if queue] or sorted(self.dying))
        if worker in self.dying or (self.mortal and len(self.queues) > 1 and self.rng.random() < 0.05):
            queue = self.dying.setdefault(worker, self.queues.pop(worker, []))
            job, _ = queue.pop()
            if not queue:
                del self.dying[worker]
            return worker, job, None
        job, limit = self.queues[worker].pop(0)
        try:
            found = run_job(self.engine, job, limit)
        except Exception as error:
            return worker, job, error
        self.computed += Meter(self.engine.profile).flops(found.work)
        return worker, job, found


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(resolve("tiny-adder").prepare().path)


@pytest.fixture(scope="module")
def prompts(engine):
    return [engine.encode(f"{a}+{b}=") for a, b in ((1, 2), (13, 5), (234, 765), (99, 1), (5, 5), (700, 12))]


def jobs(prompts, count):
    rules = tuple(AtDigit(str(i)) if i % 2 else None for i in range(len(prompts)))
    return [Job(Point({seed: 2e-2}), tuple(prompts), SAMPLING, rules) for seed in range(1, count + 1)]


def added_jobs(prompts, count):
    rules = tuple(AtDigit(str(i)) if i % 2 else None for i in range(len(prompts)))
    centre = Point({99: 1e-2}, "lowrank")
    return [
        Job(centre, tuple(prompts), SAMPLING, rules, Point({seed: 2e-2}, "lowrank")) for seed in range(1, count + 1)
    ]


def ask(engine, asked, meter, announced=()):
    """Announce jobs, then request one after another, as methods do, until one exceeds the budget."""
    arrived = {}
    engine.prepare(announced, lambda job, completions, work: arrived.update({job: (completions, work)}))
    found = []
    with meter.account("sample", meter.allowance):
        for job in asked:
            if job in arrived and meter.covers(arrived[job][1]):
                meter.reserve(arrived[job][1])
                found.append(arrived[job][0])
                continue
            engine.move_to(job.point)
            try:
                found.append(engine.generate(job.prompts, job.sampling, meter, job.end_rules, job.added))
            except (AllowanceSpent, OverBudget) as error:
                found.append((type(error), str(error)))
                break
    return found, meter.ledger.accounts(), meter.tripped


def metered(engine, limit=None, allowance=None):
    meter = Meter(engine.profile, limit)
    meter.allowance = allowance
    return meter


@pytest.fixture(scope="module")
def cost(engine, prompts):
    meter = metered(engine)
    ask(engine, jobs(prompts, 8), meter)
    return meter.spent


@pytest.mark.parametrize("make", [jobs, added_jobs], ids=["moved", "added"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_answers_and_ledger_are_those_of_one_engine_wherever_the_budget_ends(engine, prompts, cost, count, make):
    rng = random.Random(count)
    for trial in range(25):
        share = rng.uniform(0.02, 1.2)
        limit, allowance = (int(share * cost), None) if trial % 2 else (cost, int(share * cost))
        asked = make(prompts, 8)
        workers = LocalWorkers(engine, count, rng, mortal=trial % 3 == 0)
        meters = [metered(engine, limit, allowance) for _ in range(2)]
        announced = asked if trial % 5 else asked[: rng.randrange(9)]
        expected = ask(engine, asked, meters[0], announced)  # which jobs share a batch follows from the announcement
        assert ask(EnginePool(engine, lambda: engine, workers), asked, meters[1], announced) == expected
        assert meters[1].available == meters[0].available
        assert workers.deepest <= DEPTH + 1 or make is added_jobs  # a group is queued whole


def test_computed_work_stays_within_the_budget_unless_a_share_ran_out(engine, prompts, cost):
    for trial in range(20):
        rng = random.Random(trial)
        limit = int(rng.uniform(0.1, 0.9) * cost)
        workers, meter = LocalWorkers(engine, 4, rng), metered(engine, limit)
        ask(EnginePool(engine, lambda: engine, workers), jobs(prompts, 8), meter, jobs(prompts, 8))
        again = len(workers.started) - len({job for job, _ in workers.started})
        assert workers.computed <= limit or again
        assert again <= 2


def test_all_engines_are_busy_while_the_budget_is_large(engine, prompts, cost):
    workers = LocalWorkers(engine, 4)
    pool = EnginePool(engine, lambda: engine, workers)
    ask(pool, jobs(prompts, 8), metered(engine, 10 * cost), jobs(prompts, 8))
    again = [Job(Point({-seed: 2e-2}), tuple(prompts), SAMPLING) for seed in range(1, 31)]
    ask(pool, again, metered(engine, 10 * cost), again)
    busy = [at_once for _, at_once in workers.started[-30:]]
    assert max(busy) == DEPTH * 4
    assert sorted(busy)[len(busy) // 2] >= 7


def test_an_error_is_raised_when_its_job_is_requested_and_not_before(engine, prompts):
    long = Job(Point(), (prompts[0] * 500,), SAMPLING)
    asked = [*jobs(prompts, 2), long]
    pool = EnginePool(engine, lambda: engine, LocalWorkers(engine, 2))
    meter = metered(engine)
    with pytest.raises(BenchError, match="positions"):
        ask(pool, asked, meter, asked)
    alone = metered(engine)
    ask(engine, asked[:2], alone)
    assert meter.ledger.accounts() == alone.ledger.accounts()


def test_when_all_have_died_the_error_says_so(engine, prompts):
    workers = LocalWorkers(engine, 1)
    pool = EnginePool(engine, lambda: engine, workers)
    workers.dying, workers.queues = {0: [(jobs(prompts, 1)[0], None)]}, {}
    with pytest.raises(BenchError, match="dead"):
        ask(pool, jobs(prompts, 1), metered(engine), jobs(prompts, 1))


def adapting(engine, folder, budget):
    """Return a context on 16 support examples, and its evaluator."""
    evaluator = Evaluator(engine, Addition(), "chat", metered(engine, budget), Journal(folder / "journal.jsonl"))
    traits = TaskTraits({"support": 16}, vote_by="the number")
    data = SimpleNamespace(splits=Splits(Addition().load().support[:16], (), (), ()), traits=traits)
    return AdaptationContext(evaluator, data, 0, COST, ProgressDisplay(quiet=True)), evaluator


def test_announced_answers_of_a_method_are_computed_ahead_and_billed_as_by_one_engine(engine, tmp_path):
    points = [Point({seed: 1e-2}) for seed in (1, 2, 3)]

    def answered(engine, folder):
        context, evaluator = adapting(engine, folder, 10**9)
        context.prepare(points, "support", scored=False)
        found = [context.answer(p, "support", account="sample", allowance=context.remaining) for p in points]
        return found, evaluator.meter.ledger.accounts()

    workers = LocalWorkers(engine, 2)
    found = answered(EnginePool(engine, lambda: engine, workers), tmp_path / "two")
    assert found == answered(engine, tmp_path / "one")
    assert '"generated"' in (tmp_path / "two" / "journal.jsonl").read_text()
    assert max(at_once for _, at_once in workers.started) == len(workers.started) == 3
    context, _ = adapting(engine, tmp_path / "three", 10**9)
    with pytest.raises(ValueError, match="prompts is swapped: answers have the prompt default alone"):
        context.prepare(points, "support", prompts=["swapped"], scored=False)


@pytest.mark.slow
def test_several_engines_share_the_voters_of_iterative_randopt_and_train_the_same_weights(engine, tmp_path):
    settings = IterativeRandOptConfig(rounds=1, voters=8, epochs=1, batch=4, lr=1e-3)

    def adapted(engine, folder):
        context, evaluator = adapting(engine, folder, 250 * COST)
        return IterativeRandOpt(settings).adapt(context), context.report, evaluator.meter.ledger.accounts()

    found = adapted(EnginePool(engine, lambda: engine, LocalWorkers(engine, 2)), tmp_path / "two")
    assert found == adapted(engine, tmp_path / "one")
    assert [round_["vote"]["voters"] for round_ in found[1]["rounds"]] == [8]
    assert isinstance(found[0].point, Checkpoint)
    assert '"generated"' in (tmp_path / "two" / "journal.jsonl").read_text()


def test_prompts_that_were_never_announced_are_answered(engine, prompts):
    pool = EnginePool(engine, lambda: engine, LocalWorkers(engine, 2))
    assert ask(pool, jobs(prompts, 3), metered(engine)) == ask(engine, jobs(prompts, 3), metered(engine))
    assert pool.generate([], SAMPLING, metered(engine)) == []


def test_a_limit_returns_the_step_that_it_refused(engine, prompts):
    job = jobs(prompts, 1)[0]
    whole = run_job(engine, job, None)
    flops = Meter(engine.profile).flops
    cut_off = run_job(engine, job, flops(whole.work) - 1)
    assert isinstance(cut_off, JobResult)
    assert cut_off.completions is None
    assert flops(cut_off.work) < flops(whole.work) <= flops(cut_off.work + cut_off.refused)
    assert run_job(engine, job, flops(whole.work)).completions == whole.completions
    assert run_job(engine, job, 0).work == Work()


def test_the_bound_of_a_job_is_its_cost_with_answers_of_full_length(engine, prompts):
    job = Job(Point(), tuple(prompts[2:]), Sampling(max_new_tokens=2))
    found = run_job(engine, job, None)
    assert {completion.finish for completion in found.completions} == {"length"}
    assert EnginePool(engine, lambda: engine, LocalWorkers(engine, 1))._longest(job) == Meter(engine.profile).flops(
        found.work
    )


@pytest.mark.parametrize("batch", [1, 16, 64])
@pytest.mark.parametrize(("backend", "device", "smallest"), [("transformers", "cpu", 8), ("transformers", "cuda", 2)])
def test_chunks_hold_every_example_once_and_are_neither_small_nor_large(batch, backend, device, smallest):
    settings = {"backend": backend, "device": device, "batch_size": batch}
    for count in (1, 5, 15, 16, 63, 64, 127, 128, 300, 1319, 20_000):
        chunks = cut(count, settings)
        assert [i for chunk in chunks for i in chunk] == list(range(count))
        assert all(min(batch // smallest, count) <= len(chunk) <= 4 * batch for chunk in chunks)
        if count <= 32 * batch:
            assert len(chunks) in (1, 2, 4, 8)


def test_two_engines_share_a_few_examples_on_a_cpu_and_vllm_keeps_them_together():
    on = {"backend": "transformers", "device": "cpu", "batch_size": 64}
    assert list(map(len, cut(16, on))) == [8, 8]
    assert len(cut(16, on | {"backend": "vllm"})) == len(cut(63, on | {"device": "cuda"})) == 1


# Whole runs

RUNS = {
    "corp": ({"method": "corp", "budget": "1200", "method_config": {"smallest_population": 3}}, 4),
    "racing": ({"method": "randopt", "budget": "1200", "method_config": {"racing": True, "top_k": 3}}, 3),
    "randopt": ({"method": "randopt", "budget": "600", "method_config": {"top_k": [1, 3]}}, 2),
    "es": ({"method": "es", "budget": "800"}, 4),
    "landscape": ({"method": "landscape", "budget": "400"}, 3),
    "prompt-search": ({"method": "prompt-search", "budget": "600"}, 2),
    "sampling": ({"method": "base", "budget": "600", "strategy": "pass@2"}, 4),
}
"""Settings of a run, and the number of engines."""


def run(folder, engines=1, seed=0, **fields):
    config = RunConfig(task="addition", model="tiny-adder", limit=90, batch_size=16, **fields)
    prepared = prepare(config, folder, ProgressDisplay(quiet=True))
    result = execute(prepared, ProgressDisplay(quiet=True), Engines(engines))
    return prepared, result.model_copy(update={"timing": None})


@pytest.fixture
def several(engine, monkeypatch):
    """Use workers in this process instead of child processes."""
    made = []

    @contextmanager
    def child_processes(loads, threads):
        made.append(LocalWorkers(loads[0](), len(loads), random.Random(len(made)), mortal=True))
        yield made[-1]

    monkeypatch.setattr(processes, "child_processes", child_processes)
    return made


QUICK = ("landscape", "prompt-search", "sampling")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RUNS]
)
def test_a_run_ends_the_same_on_one_engine_and_on_several(tmp_path, several, name):
    settings, count = RUNS[name]
    prepared, alone = run(tmp_path / "alone", **settings)
    other, result = run(tmp_path / "several", count, **settings)
    assert alone.status == "ok"
    assert result == alone
    assert other.folder.name == prepared.folder.name
    assert (other.folder / "samples.jsonl").read_bytes() == (prepared.folder / "samples.jsonl").read_bytes()
    assert several[-1].deepest == DEPTH  # there was enough work for all engines


@pytest.mark.slow
def test_a_run_on_several_engines_goes_on_with_any_number_of_them(tmp_path, several):
    prepared, result = run(tmp_path, 4, **RUNS["randopt"][0])
    journal = prepared.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    prefetched = [i for i, line in enumerate(lines) if b'{"prefetched"' in line]
    assert prefetched
    for kept, count in ((prefetched[0] + 1, 1), (prefetched[len(prefetched) // 2] + 1, 2)):
        journal.write_bytes(b"".join(lines[:kept]))
        (prepared.folder / "result.json").unlink()
        resumed = execute(prepared, ProgressDisplay(quiet=True), Engines(count))
        assert resumed.model_copy(update={"timing": None}) == result
