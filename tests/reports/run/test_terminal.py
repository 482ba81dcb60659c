import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench.compute.ledger import Work
from bench.records.rows import (
    Accuracy,
    AnswerCost,
    Difference,
    GateLook,
    GateRecord,
    Move,
    PairedComparison,
    PassAtK,
    Row,
)
from bench.records.samples import Sample
from bench.records.schema import AccountRow, BudgetInfo, Result, RunConfig, Timing
from reports.run.summary import decided
from reports.run.terminal import print_run, print_samples, print_times

FOLDER = Path("runs/humaneval/smollm2-135m-instruct/corp/paper/seed-3-0123abcd")
BASE = Row(
    kind="base",
    changed=False,
    accuracy=Accuracy(correct=11, items=82, excluded=0, accuracy=11 / 82, low=0.0766, high=0.2243, mean_reward=0.9),
    cost=AnswerCost(evaluations=1, flops=4.321e10, new_tokens=120),
)
RESULT = Result(
    identity_version=2,
    id="0123abcd",
    status="ok",
    config=RunConfig(method="corp", task="humaneval", model="smollm2-135m-instruct", budget="paper", seed=3),
    budget=BudgetInfo(
        name="paper",
        evaluations=1_000_000,
        evaluation_flops=4.567e10,
        flops=45_670_000_000_000_000,
        planned={"sample": 900_000},
        spent=34_252_500_000_000_000,
    ),
    rows=(
        BASE,
        Row(
            accuracy=Accuracy(
                correct=16, items=81, excluded=1, accuracy=16 / 81, low=0.1254, high=0.2971, mean_reward=0.9
            ),
            cost=AnswerCost(evaluations=50, flops=2.1605e12, new_tokens=6000),
            comparison=PairedComparison(
                items=81, fixes=9, regressions=4, difference=5 / 81, low=-0.0213, high=0.1446, p_value=0.26684
            ),
            changed=True,
        ),
    ),
    ledger={
        "sample": AccountRow(
            work=Work(evaluations=812_345, prefill_tokens=123_456_789, decode_tokens=98_765_432, weight_moves=5_021),
            flops=33_985_000_000_000_000,
            hardware_flops=40_000_000_000_000_000,
        ),
        "gate": AccountRow(
            work=Work(evaluations=60, prefill_tokens=9_001, weight_moves=2),
            flops=267_400_000_000_000,
            hardware_flops=267_500_000_000_000,
        ),
        "inference": AccountRow(work=Work(evaluations=4_100), flops=177_000_000_000_000, hardware_flops=1),
    },
    report={
        "gates": [
            {"stage": "first", "accepted": True, "reason": "6 of 30 fixed, none lost"},
            {"stage": "second", "accepted": False, "reason": "no gain on [gate] items"},
        ]
    },
)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def printed(result: Result = RESULT, width: int | None = 80, folder: Path = FOLDER) -> str:
    file = io.StringIO()
    print_run(Console(file=file, width=width), folder, result)
    return file.getvalue()


def cells(text: str, name: str) -> list[str]:
    """Return the cells of the only table row with this name. At least two spaces separate columns."""
    (row,) = [line for line in text.splitlines() if re.match(rf"{re.escape(name)}  +\d", line)]
    return re.split(r"  +", row.strip())


def gate_record(*, accepted: bool) -> GateRecord:
    return GateRecord(
        accepted=accepted,
        items=32,
        max_items=64,
        fixes=12,
        regressions=1,
        gain=11 / 32,
        level=0.05,
        looks=(GateLook(items=32, fixes=12, regressions=1, needed=11),),
        reason="kept at look 2 of 4: 12 fixes against 1 regression, 11 were needed" if accepted else "rejected",
        detectable=0.182,
    )


def failed(reason: str | None) -> Result:
    return Result(
        identity_version=2, id="x", status="failed", reason=reason, traceback="Traceback ...", config=RESULT.config
    )


def test_the_run_is_named_with_its_method_task_model_budget_and_seed() -> None:
    assert "corp on humaneval, smollm2-135m-instruct, budget paper, seed 3\n" in printed()


def test_noise_and_seconds_by_account_are_below_the_ledger() -> None:
    assert "noise" not in printed()
    sample = RESULT.ledger["sample"]
    noisy = sample.model_copy(update={"work": sample.work.model_copy(update={"noise_values": 1_660_000_000_000})})
    timing = Timing(total=9.0, stages={}, accounts={"sample": 1310.25, "gate": 4.0})
    text = printed(RESULT.model_copy(update={"ledger": RESULT.ledger | {"sample": noisy}, "timing": timing}))
    assert "noise values drawn for moves (no model FLOPs): sample 1.66e+12\n" in text
    assert "seconds: sample 1,310.2, gate 4.0\n" in text


def test_base_and_method_are_shown_with_interval_counts_and_the_cost_of_an_answer() -> None:
    text = printed()
    assert cells(text, "base") == ["base", "13.4 %", "7.7 to 22.4", "11/82", "1", "4.32e+10", "0"]
    assert cells(text, "corp") == ["corp", "19.8 %", "12.5 to 29.7", "16/81", "50", "2.16e+12", "1"]


def test_rewards_are_never_shown_as_accuracies() -> None:
    assert "90" not in re.sub(r"9,001|90\d,", "", printed().split("account")[0])


def test_the_comparison_is_shown_in_points_with_its_interval_counts_and_p_value() -> None:
    assert (
        "corp: +6.2 points (-2.1 to +14.5) on the same 81 items: 9 fixes, 4 regressions, exact McNemar p = 0.267\n"
    ) in printed()


def test_several_rows_are_shown_each_with_its_own_cost_and_comparison() -> None:
    one = RESULT.rows[1].model_copy(update={"label": "k=1", "cost": BASE.cost})
    fifty = RESULT.rows[1].model_copy(update={"label": "k=50"})
    text = printed(RESULT.model_copy(update={"rows": (BASE, one, fifty)}), width=100)
    assert [line.split()[-3] for line in text.splitlines() if line.startswith("corp k=") and "%" in line] == ["1", "50"]
    assert "corp k=1: +6.2 points" in text
    assert "corp k=50: +6.2 points" in text


def test_each_account_is_shown_with_its_work_its_flops_and_its_share_of_the_budget() -> None:
    text = printed()
    assert cells(text, "sample") == ["sample", "812,345", "222,222,221", "0", "5,021", "3.4e+16", "74.4 %"]
    assert cells(text, "gate") == ["gate", "60", "9,001", "0", "2", "2.67e+14", "0.6 %"]


def test_training_is_shown_with_its_tokens_and_its_backward_passes() -> None:
    work = Work(evaluations=696, forward_tokens=13_877, backward_passes=704)
    ledger = {"train": AccountRow(work=work, flops=10**16, hardware_flops=10**16)}
    text = printed(RESULT.model_copy(update={"ledger": ledger}))
    assert cells(text, "train") == ["train", "696", "13,877", "704", "0", "1e+16", "21.9 %"]


def test_an_account_that_is_not_billed_says_so() -> None:
    assert cells(printed(), "inference")[-1] == "not billed"


def test_the_budget_is_shown_with_what_was_spent_of_it() -> None:
    assert (
        "adaptation spent 3.425e+16 of 4.567e+16 FLOPs (75.0 %), the budget paper of 1,000,000 evaluations at "
        "4.57e+10 FLOPs each\n"
    ) in printed()


def gated(*, accepted: bool, label: str = "") -> Row:
    gate = gate_record(accepted=accepted)
    numbers = RESULT.rows[1] if accepted else BASE.model_copy(update={"comparison": RESULT.rows[1].comparison})
    update = {"kind": "gated", "label": label, "gate": gate, "answers_of": int(accepted)}
    return numbers.model_copy(update=update)


def test_a_result_is_shown_as_trained_and_gated() -> None:
    text = printed(RESULT.model_copy(update={"rows": (*RESULT.rows, gated(accepted=True))}), width=100)
    assert cells(text, "corp")[1] == cells(text, "corp, gated")[1] == "19.8 %"
    assert "corp: +6.2 points" in text
    assert (
        "corp, gated: kept at look 2 of 4: 12 fixes against 1 regression, 11 were needed; answers and cost are as "
        "trained (detectable gain on 64 items: +18.2 points in 80 % of runs)\n"
    ) in text
    text = printed(RESULT.model_copy(update={"rows": (*RESULT.rows, gated(accepted=False))}), width=100)
    assert (cells(text, "corp")[1], cells(text, "corp, gated")[1]) == ("19.8 %", "13.4 %")
    assert "corp, gated: rejected; answers and cost are the base's" in text


def test_a_run_without_a_gate_says_why() -> None:
    result = RESULT.model_copy(update={"ungated": "the task has no gate split"})
    assert "\nno gate: the task has no gate split\n" in printed(result)


def test_gates_are_shown_with_verdict_and_reason() -> None:
    text = printed()
    assert "the method's report: first: kept; 6 of 30 fixed, none lost\n" in text
    assert "report: second: not kept; no gain on [gate] items\n" in text


def test_no_table_is_wider_than_the_terminal() -> None:
    text = printed()
    rows = [
        line
        for line in text.splitlines()
        if re.match(r" +accuracy|account|(base|corp|sample|gate|inference) {2}", line)
    ]
    assert len(rows) == 7
    assert max(map(len, rows)) <= 80


def test_a_long_name_is_folded_and_no_number_is() -> None:
    method = "a_third_party.with_a_long_package.and_module:ItsMethod"
    result = RESULT.model_copy(update={"config": RESULT.config.model_copy(update={"method": method})})
    text = printed(result)
    table = text[text.index("base ") : text.index(f"{method}: ")].splitlines()
    assert cells(text, "base")[1:] == cells(printed(), "base")[1:]
    assert re.split(r"  +", table[1].strip())[1:] == cells(printed(), "corp")[1:]
    assert "".join(line.split("  ")[0] for line in table[1:]) == method


@pytest.mark.parametrize("width", [None, 80, 120, 200])
def test_nothing_is_coloured_outside_a_terminal(width: int | None) -> None:
    assert "\x1b" not in printed(width=width)
    assert "\x1b" not in printed(failed("why"), width=width)


def test_a_terminal_gets_the_same_text_in_colour() -> None:
    file = io.StringIO()
    print_run(Console(file=file, width=80, force_terminal=True, color_system="standard"), FOLDER, RESULT)
    assert "\x1b[1m" in file.getvalue()
    text = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert text.split() == printed().split()
    copied = ("record: ", "next:   ")
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith(copied))


def test_a_run_that_kept_the_base_says_so_and_claims_no_difference() -> None:
    kept = {"changed": False, "accuracy": BASE.accuracy, "cost": BASE.cost}
    same = RESULT.model_copy(update={"rows": (BASE, RESULT.rows[1].model_copy(update=kept))})
    text = printed(same)
    assert "corp returned the base model unchanged, so its answers and cost are the base's\n" in text
    assert "points" not in text
    assert f"next:   bench show {FOLDER}\n" in text
    assert cells(text, "corp")[1:] == cells(text, "base")[1:]


def test_the_base_itself_has_one_row_and_nothing_to_compare() -> None:
    rows = (BASE, RESULT.rows[1].model_copy(update={"changed": False}))
    budget = RESULT.budget.model_copy(update={"planned": {}, "spent": 0})
    text = printed(RESULT.model_copy(update={"rows": rows, "budget": budget}))
    assert cells(text, "base")[1] == "13.4 %"
    assert "points" not in text
    assert "unchanged" not in text


def test_the_share_of_truncated_answers_is_shown_if_there_are_any() -> None:
    shares = zip(RESULT.rows, (0.0, 0.25), strict=True)
    rows = tuple(row.model_copy(update={"truncated": share}) for row, share in shares)
    text = printed(RESULT.model_copy(update={"rows": rows}))
    assert "corp: 25.0 % of the answers ended at the length limit\n" in text
    assert text.count("length limit") == 1
    assert "length limit" not in printed()  # not known


def test_a_move_that_the_dtype_does_not_hold_is_told() -> None:
    def shown(cosine: float | None) -> str:
        move = Move(norm=0.01, survived=0.002, cosine=cosine, changed=0.056)
        rows = (BASE, RESULT.rows[1].model_copy(update={"move": move}))
        return printed(RESULT.model_copy(update={"rows": rows, "engine": {"dtype": "bfloat16"}}))

    assert (
        "warning: corp: bfloat16 does not hold the move of the weights (cosine 0.31, 5.6 % of them changed); the "
        "tested model is not the one that was made, so take --dtype float32 for all methods\n"
    ) in shown(0.31)
    assert "does not hold" not in shown(0.95) + shown(None) + printed()


def test_signs_of_a_collapse_in_training_are_shown() -> None:
    report = {"training": {"collapse": "sampling has no entropy since step 4 of 33"}}
    assert "the method's report: training: sampling has no entropy since step 4 of 33\n" in printed(
        RESULT.model_copy(update={"report": report})
    )
    assert "training:" not in printed(RESULT.model_copy(update={"report": {"training": {"collapse": None}}}))


def test_a_refused_run_shows_its_reason_and_no_traceback() -> None:
    refused = {"status": "refused", "reason": "too small a budget", "rows": (), "report": {}}
    text = printed(RESULT.model_copy(update=refused))
    assert "refused: too small a budget\n" in text
    assert "next:   change what the reason names, and start the run again" in text
    assert "bench resume" not in text


def test_only_a_model_that_was_shown_to_be_better_is_exported_next() -> None:
    export, show = f"next:   bench export {FOLDER} -o my-model\n", f"next:   bench show {FOLDER}\n"
    assert show in printed()  # p = .27
    row = RESULT.rows[1]
    assert row.comparison is not None
    better = row.model_copy(update={"comparison": row.comparison.model_copy(update={"p_value": 0.01})})
    lower = row.comparison.model_copy(update={"p_value": 0.01, "difference": -0.1})
    worse = row.model_copy(update={"comparison": lower})
    assert export in printed(RESULT.model_copy(update={"rows": (BASE, better)}))
    assert show in printed(RESULT.model_copy(update={"rows": (BASE, worse)}))
    for accepted, text in ((True, export), (False, show)):  # with a gate, the gate alone decides
        gated = better.model_copy(update={"kind": "gated", "gate": gate_record(accepted=accepted)})
        assert text in printed(RESULT.model_copy(update={"rows": (BASE, better, gated)}))


def test_a_failed_run_shows_its_reason_and_how_to_go_on_and_no_accuracy() -> None:
    text = printed(failed("OSError: the model's file is truncated"))
    assert "failed: OSError: the model's file is truncated\n" in text
    assert f"next:   fix the cause, then bench resume {FOLDER}\n" in text
    assert "accuracy" not in text


@pytest.mark.parametrize(
    "reason",
    [
        "KeyError: '[/INST]'",
        "TypeError: list[int] is not dict[str, float]",
        "[red]not a style[/red]",
        r"a path C:\[x]\ ",
        "file.py:100: slice a[:100:]",
        "x" * 300,
        "two\nlines",
    ],
)
def test_a_reason_is_shown_unchanged(reason: str) -> None:
    assert f"failed: {reason}\n" in printed(failed(reason))


def test_a_run_stopped_at_its_budget_says_so_and_shows_what_it_spent() -> None:
    update = {"status": "over_budget", "reason": "stopped at its budget", "rows": ()}
    text = printed(RESULT.model_copy(update=update | {"report": {}}))
    assert "over_budget: stopped at its budget\n" in text
    assert "adaptation spent 3.425e+16" in text
    assert "13.4 %" not in text
    assert f"next:   bench show {FOLDER}\n" in text


def test_a_folder_is_shown_in_one_line_unchanged() -> None:
    folder = Path("/a/[bold]/:100:/" + "deep/" * 40)
    assert f"record: {folder}\n" in printed(folder=folder)


def sample(**fields: object) -> Sample:
    blank = {
        "row": 1,
        "id": "HumanEval/7",
        "prompt_sha256": "0",
        "text": "    return 1",
        "answer": None,
        "correct": True,
        "reward": 1.0,
        "status": "ok",
        "detail": "",
    }
    return Sample.model_validate(blank | fields)


def printed_samples(*samples: Sample) -> str:
    file = io.StringIO()
    print_samples(Console(file=file, width=80), RESULT, list(samples))
    return file.getvalue()


@pytest.mark.parametrize(("correct", "verdict"), [(True, "right"), (False, "wrong"), (None, "not judged")])
def test_a_sample_is_shown_with_its_verdict(correct: bool | None, verdict: str) -> None:
    assert f"HumanEval/7, corp: {verdict} ─" in printed_samples(sample(correct=correct))


@pytest.mark.parametrize(
    "text",
    ["    return xs[:100:]\n", "[/bold] [red]x[/red]", "x = " + "a + " * 60 + "1", "", "  é🙂  ", "d: dict[str, int]"],
)
def test_an_answer_is_shown_unchanged(text: str) -> None:
    assert f"─\n{text}\n" in printed_samples(sample(text=text))


def test_a_detail_is_shown_if_there_is_one() -> None:
    assert "\n(failed: assert f([1]) == [/2])\n" in printed_samples(sample(detail="failed: assert f([1]) == [/2]"))
    assert "()" not in printed_samples(sample())


def test_a_question_is_shown_once_before_the_answers_to_it() -> None:
    asked = {"prompt_id": "default", "prompt": "1+[b]=", "gold": ":100:"}
    text = printed_samples(sample(row=0, **asked), sample(**asked))
    assert text.startswith("HumanEval/7, prompt default ─")
    assert text.count("─\n1+[b]=\n(reference answer: :100:)\nHumanEval/7, base: right ─") == 1
    assert text.count("1+[b]=") == 1
    turns = ({"role": "system", "content": "Add."}, {"role": "user", "content": "1+1="})
    assert "─\nsystem: Add.\n\nuser: 1+1=\nHumanEval/7" in printed_samples(sample(prompt=turns))


def test_samples_are_shown_in_order() -> None:
    text = printed_samples(sample(id="b[x]"), sample(id="a", row=0))
    assert text.index("b[x], corp: right") < text.index("a, base: right")


def test_a_coverage_is_a_line_and_refusals_are_shown() -> None:
    cost = AnswerCost(evaluations=4, flops=1e9, new_tokens=1)
    covered = PassAtK(k=4, samples=8, items=80, excluded=2, value=0.7061, low=0.621, high=0.778, cost=cost)
    gain = Difference(items=80, difference=0.05, low=-0.01, high=0.11, p_value=0.0421)
    row = RESULT.rows[1].model_copy(update={"coverage": covered.model_copy(update={"difference": gain})})
    config = RESULT.config.model_copy(update={"strategy": "pass@4"})
    changes = {
        "config": config,
        "rows": (BASE.model_copy(update={"coverage": covered}), row),
        "untested": {"k=5": "no model"},
    }
    text = printed(RESULT.model_copy(update=changes))
    assert "seed 3, pass@4\n" in text
    assert "base: pass@4 70.6 % (62.1 to 77.8), from 8 samples for each of 80 items\n" in text
    assert "80 items; +5.0 points (-1.0 to +11.0), p = 0.0421" in text
    assert "corp k=5 was not tested: no model" in text


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, "generation: 50.0 tokens/s, 2e+09 FLOP/s"), (8e9, "25.0% of what this machine reaches")],
)
def test_times_end_with_the_speed_of_generation(limit, expected):
    console = Console(width=100, record=True)
    timing = Timing(
        total=12, stages={"test": 9.0}, kinds={"generation": 10}, new_tokens=500, generation_flops=20 * 10**9
    )
    print_times(console, timing, limit)
    text = console.export_text()
    assert expected in text
    assert "the harness itself" in text


def judged(label: str, *, accepted: bool, items: int, fixes: int) -> Row:
    gain = fixes / items if items else 0.0
    gate = GateRecord(
        accepted=accepted, items=items, max_items=100, fixes=fixes, gain=gain, level=0.05, reason="as tested"
    )
    return RESULT.rows[1].model_copy(update={"kind": "gated", "label": label, "gate": gate, "answers_of": 0})


def decision(*rows: Row) -> str | None:
    return decided(RESULT.model_copy(update={"rows": (*RESULT.rows, *rows)}))


def test_the_end_says_what_the_gate_decided_and_what_would_decide_more() -> None:
    kept, rejected = judged("k=1", accepted=True, items=50, fixes=6), judged("k=5", accepted=False, items=100, fixes=2)
    assert decision(kept, rejected) == "corp k=1 kept in place of the base (corp k=1 +12.0 points on 50 gate items)"
    assert decision(rejected) == "the base stays (corp k=5 +2.0 points on 100 gate items)"
    assert decision(judged("", accepted=False, items=0, fixes=0)) == "the base stays (corp was not tested)"
    assert decision() is None
    file = io.StringIO()
    result = RESULT.model_copy(update={"rows": (*RESULT.rows, rejected)})
    print_run(Console(file=file, width=200), FOLDER, result, "budget small")
    end = "gate:   the base stays (corp k=5 +2.0 points on 100 gate items)\nmore:   budget small\nrecord: "
    assert end in file.getvalue()
    assert "more:" not in printed()
