from bench.records.schema import BudgetInfo, Result, RunConfig
from bench.stats import Estimate
from reports.leaderboard.group import LeaderboardRow
from reports.leaderboard.notes import NOT_RUN, notes_of
from reports.leaderboard.rows import make_rows
from reports.record import Record

CONFIG = RunConfig(method="corp", task="addition", model="m")


def notes(*stages):
    results = [
        Result(identity_version=3, id=str(seed) * 64, status="ok", config=CONFIG, report={"stages": each})
        for seed, each in enumerate(stages)
    ]
    records = [Record(result=result) for result in results]
    lines = [table.line for table in make_rows("corp", records, 1)]
    return [note for note in notes_of(records, lines, "float32") if "stage" in note]


def test_a_table_says_which_stages_ran_and_changed_the_model():
    first = {"stage": "stage 1", "committed": True, "reason": "above the base"}
    rounds = [{"stage": f"stage 2, round {n}", "committed": n == 2, "reason": "fixes"} for n in (1, 2)]
    assert notes([first, *rounds], [first, rounds[0]]) == [
        "corp: stage 1 committed in 2 of 2 runs, stage 2 committed in 1 of 2 runs"
    ]
    skipped = {"stage": "stage 2", "committed": False, "reason": f"{NOT_RUN}: the budget is too small"}
    assert notes([first, skipped]) == ["corp: stage 1 committed in 1 of 1 runs, stage 2 did not run"]


def test_a_method_without_stages_has_no_such_note():
    assert notes(None, "x") == []


def test_a_row_without_adaptation_below_the_base_bounds_nothing_whatever_its_name():
    def bounds(*rows):
        record = Record(result=Result(identity_version=3, id="0" * 64, status="ok", config=CONFIG))
        base = LeaderboardRow("base", "base", bound=True, is_base=True, accuracy=Estimate(0.5, 0.4, 0.6))
        lines = [base, *(LeaderboardRow(n, n, bound=b, accuracy=Estimate(v, 0, 1)) for n, b, v in rows)]
        return [note for note in notes_of([record], lines, "float32") if "bounds nothing" in note]

    assert bounds(("votes", True, 0.49), ("more votes", True, 0.6), ("search", False, 0.3)) == [
        "bounds nothing, because it is below the base: votes (docs/controls.md)"
    ]
    assert bounds(("votes", True, 0.5)) == []


def timed(flops, budget="20s", planned=256):
    size = BudgetInfo(
        name=budget,
        evaluations=256,
        evaluation_flops=1.0,
        flops=flops,
        planned={"sample": planned} if planned else {},
        spent=0,
    )
    config = RunConfig(method="es", task="addition", model="tiny-adder", budget=budget)
    return Record(result=Result.model_construct(config=config, budget=size, report={}, tuning=None, id=str(flops)))


def test_one_device_time_with_other_flops_in_each_run_is_noted():
    def notes(*records):
        return [note for note in notes_of(records, [], "float32") if "device time" in note]

    apart = "20s of device time became 1e+10 to 6.9e+10 FLOPs, as the machine was faster or slower: compare only rows"
    assert [note.startswith(apart) for note in notes(timed(69 * 10**9), timed(10**10), timed(10**12, planned=0))] == [
        True
    ]
    assert notes(timed(100), timed(96)) == []
    assert notes(timed(100, "small"), timed(10, "small")) == []
