import csv
import io
import math
import time
from pathlib import Path

import numpy as np
import pytest
from consistent_records import consistent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from rich.console import Console
from scipy.special import ndtr
from synthetic_board import gated

from bench.compute.budget import BUDGETS
from bench.compute.flops import FLOPS_VERSION
from bench.compute.ledger import Work
from bench.errors import BenchError
from bench.records.config import RunConfig
from bench.records.rows import Accuracy, AnswerCost, PairedComparison, Row
from bench.records.samples import Sample
from bench.records.schema import AccountRow, BudgetInfo, ModelInfo, Result, Versions
from bench.records.tuning import Tuning
from bench.stats import mcnemar_exact, paired_difference_interval
from reports.html.leaderboard import board_page
from reports.leaderboard.board import Board, Rate
from reports.leaderboard.build import SORTS, make_board
from reports.leaderboard.columns import area_text, columns
from reports.leaderboard.text import as_csv, markdown, print_board
from reports.reading import find_records, read_record
from reports.record import Record

BASE = "1" * 10 + "0" * 10
PLANNED = {"sample": 256}
BETTER = "1" * 15 + "0" * 5


def run(
    method="corp",
    seed=0,
    correct=BETTER,
    label="",
    spent=100,
    reason=None,
    planned=PLANNED,
    ruleset="published",
    tuning=None,
    changed=True,
    **fields,
):
    config = {"method": method, "task": "addition", "model": "tiny-adder", "seed": seed, **fields}
    right = correct.count("1")
    accuracy = Accuracy(correct=right, items=20, excluded=0, accuracy=right / 20, low=0, high=1, mean_reward=0)
    cost = AnswerCost(evaluations=5, flops=50.0, new_tokens=3)
    comparison = PairedComparison(items=20, fixes=0, regressions=0, difference=0, low=0, high=0, p_value=1)
    row = Row(label=label, accuracy=accuracy, cost=cost, comparison=comparison, changed=changed and method != "base")
    base_cost = AnswerCost(evaluations=1, flops=10.0, new_tokens=3)
    base_row = Row(kind="base", accuracy=accuracy, cost=base_cost, changed=False)
    result = Result(
        identity_version=2,
        id=repr((config, label, planned, ruleset)),
        ruleset=ruleset,
        tuning=tuning,
        status="failed" if reason else "ok",
        reason=reason,
        config=RunConfig.model_validate(config),
        versions=Versions(method="1", task="1", noise="n", flops=FLOPS_VERSION),
        model=None if reason else ModelInfo(name="m", origin="o", fingerprint="f", digest="d" * 64, licence=None),
        prompt=None if reason else "chat",
        budget=None
        if reason
        else BudgetInfo(
            name="x",
            evaluations=BUDGETS[fields.get("budget", "quick")],
            evaluation_flops=1.0,
            flops=100,
            planned=planned,
            spent=spent if planned else 0,
        ),
        rows=() if reason else (base_row, row),
        ledger={
            "sample": AccountRow(work=Work(evaluations=200), flops=spent, hardware_flops=1),
            "inference": AccountRow(work=Work(evaluations=20), flops=999, hardware_flops=1),
        },
    )
    return Record(result=result) if reason else Record(result=result, items="i", verdicts=(BASE, correct))


def groups(runs):
    return make_board(runs).groups


def lines(*runs):
    (group,) = groups(runs)
    return {line.name: line for line in group.lines}


def test_the_base_comes_first_and_other_rows_by_accuracy():
    (group,) = groups([run("es", correct=BASE), run("base", correct=BASE, planned={}), run("corp")])
    assert [line.name for line in group.lines] == ["base", "corp", "es"]
    assert group.items == 20


def test_a_line_holds_accuracy_difference_and_both_costs():
    line = lines(run())["corp"]
    assert line.accuracy.value == 0.75
    assert line.difference.value == 0.25
    assert line.difference.p_value == pytest.approx(2 * 0.5**5)
    assert (line.evaluations, line.flops, line.share) == (200, 100, 1.0)
    assert (line.passes, line.answer_flops) == (5, 50.0)


@pytest.mark.parametrize(
    ("control", "settings"),
    [
        ({"reward": "random"}, "reward random"),
        ({"template": "swapped"}, "prompt swapped"),
        ({"shots": 5, "shots_seed": 2}, "5 shots, shots seed 2"),
        ({"system": "Be brief."}, "system message 213c22ed"),
    ],
)
def test_runs_under_a_control_are_a_group_of_their_own_that_enters_no_profile(control, settings):
    board = make_board([on(task, **fields) for task in "abcde" for fields in ({}, control)])
    assert sorted((group.task, group.settings) for group in board.groups) == sorted(
        (task, text) for task in "abcde" for text in ("", settings)
    )
    assert [line.seeds for group in board.groups for line in group.lines if not line.is_base] == [(0,)] * 10
    (profile,) = board.profiles
    assert sorted(profile.tasks) == [*"abcde"]
    assert settings in markdown(board)


def test_seeds_are_averaged_and_named():
    line = lines(run(seed=2, correct=BASE), run(seed=1))["corp"]
    assert line.seeds == (1, 2)
    assert line.accuracy.value == pytest.approx(0.625)
    assert line.difference.value == pytest.approx(0.125)


def test_only_runs_with_equal_settings_are_compared():
    others = [{"task": "humaneval"}, {"budget": "small"}, {"limit": 7}, {"model": "other"}, {"strategy": "maj@4"}]
    found = groups([run(), *(run(**other) for other in others)])
    assert len(found) == 6
    assert all(len(group.lines) == 2 for group in found)


def test_variants_of_a_method_are_named_by_the_settings_that_differ():
    iid, tied = ({"method_config": {"noise": kind, "rank": 8}} for kind in ("iid", "tied"))
    assert set(lines(run(**iid), run(**tied), run("es"))) == {"base", "corp noise=iid", "corp noise=tied", "es"}


def seeds(values, method="corp", **fields):
    """Return runs of seeds 0, 1, ... with these verdicts; None is a seed that returned the base."""
    return [
        run(method, seed=seed, correct=BASE if value is None else value, changed=value is not None, **fields)
        for seed, value in enumerate(values)
    ]


def renderings(records):
    board = make_board(records)
    wide = Console(file=io.StringIO(), width=250)
    print_board(wide, board)
    return wide.file.getvalue(), markdown(board), board_page(board)


def test_a_line_shows_results_as_trained_and_beside_them_what_the_gate_made_of_them():
    records = [gated(run(seed=seed), accepted=seed < 2, detectable=0.1 + seed / 100) for seed in range(5)]
    (line,) = (line for line in make_board(records).groups[0].lines if not line.is_base)
    assert line.difference.value == pytest.approx(0.25)
    assert (line.gated.kept, line.gated.seeds) == (2, 5)
    assert (line.gated.low, line.gated.high) == (pytest.approx(0.0527, abs=1e-4), pytest.approx(0.8534, abs=1e-4))
    assert line.gated.difference.value == pytest.approx(0.1)
    assert line.gated.difference.seeds == (0.25, 0.25, 0.0, 0.0, 0.0)
    assert line.gated.difference.low < 0.1 < line.gated.difference.high
    assert line.gated.detectable == pytest.approx(0.14)
    for text in renderings(records):
        assert "kept 2 of 5 (5 to 85 %)" in text
        assert f"+10.0 ({100 * line.gated.difference.low:+.1f} to" in text
        assert (
            "Gain that the gate keeps in 80 % of runs, in points, at the observed share of regressions: corp +14.0."
            in text
        )


@pytest.mark.parametrize("count", [2, 3, 4])
def test_two_to_four_seeds_are_shown_as_they_are(count):
    records = seeds([BETTER, worse(0), "1" * 12 + "0" * 8, BETTER][:count])
    line = lines(*records)["corp"]
    assert line.accuracy.interval is line.difference.interval is line.difference.p_value is None
    assert line.accuracy.value == pytest.approx(sum(line.accuracy.seeds) / count)
    assert (line.verdict, line.letters) == ("cannot be told", None)
    shown = f"seeds: {', '.join(['+25.0', '+0.0', '+10.0', '+25.0'][:count])}"
    for text in renderings(records):
        assert shown in text
    _, row = csv.DictReader(io.StringIO(as_csv(make_board(records))))
    assert row["difference_low"] == row["p"] == row["letters"] == row["low"] == ""
    assert [float(value) for value in row["difference_seeds"].split()] == list(line.difference.seeds)


def test_one_kept_seed_is_shown_as_it_is_and_two_have_an_interval():
    for kept in (1, 2):
        records = [gated(run(seed=seed), accepted=seed < kept) for seed in range(5)]
        line = lines(*records)["corp"]
        assert (line.gated.difference.interval is None) == (kept == 1)
        for text in renderings(records):
            assert ("+5.0 (seeds: +25.0, +0.0, +0.0, +0.0, +0.0)" in text) == (kept == 1)


def test_seeds_that_returned_the_base_count_as_a_share():
    line = lines(*seeds([BETTER, BETTER, BETTER, BETTER, None]))["corp"]
    always = lines(*seeds([BETTER] * 5))["corp"]
    assert line.difference.value == pytest.approx(0.2)
    assert line.difference.high < always.difference.high
    assert lines(*seeds([BETTER, None, None, None, None]))["corp"].difference.interval is None


def test_a_line_whose_seeds_all_abstained_has_no_interval():
    records = [gated(run(seed=seed), accepted=False, detectable=None) for seed in range(3)]
    (line,) = (line for line in make_board(records).groups[0].lines if not line.is_base)
    assert (line.gated.kept, line.gated.difference) == (0, None)
    for text in renderings(records):
        assert "kept 0 of 3" in text
        assert "kept 0 of 3 (" not in text
    (_, row) = csv.DictReader(io.StringIO(as_csv(make_board(records))))
    assert (row["gated"], row["gated_seeds"], row["gated_difference"]) == ("0", "3", "")


def test_a_board_without_gated_rows_has_no_column_for_them():
    for text in renderings([run()]):
        assert "gated" not in text


def test_runs_without_a_gate_are_not_compared_with_gated_ones_as_they_adapt_with_more():
    board = make_board([gated(run(), accepted=True), run(gate="off")])
    assert sorted("no gate" in group.settings for group in board.groups) == [False, True]
    assert [[line.name for line in group.lines] for group in board.groups] == [["base", "corp"]] * 2


def test_a_line_whose_runs_could_not_be_gated_is_noted_with_the_reason():
    reason = "too few items to keep any result"
    one = run("randopt")
    one = one.model_copy(update={"result": one.result.model_copy(update={"ungated": reason})})
    for text in renderings([gated(run(), accepted=True), one]):
        assert f"randopt: no gate: {reason}" in text


@pytest.mark.parametrize(("method", "own"), [("grpo", True), ("ppo", True), ("corp", "both"), ("corp", "stage2")])
def test_a_row_that_its_methods_own_gate_chose_is_marked_and_has_no_letters(method, own):
    records = [
        run(method, gate="off", method_config={"gate": own}),
        run("es", gate="off"),
        run("cat", gate="off", method_config={"gate": False}),
    ]
    name = f"{method} (gated by its method)"
    found = lines(*records)
    assert {row.name: row.letters for row in found.values()} == {"base": "a", name: None, "es": "a", "cat": "a"}
    assert found[name].own_gate
    assert found[name].difference
    note = f"a gate of the method's own kept the result or the base: {name}; such rows are not as trained"
    console, *others = renderings(records)
    for text in (console.replace("\n", " "), *others):
        assert name in text
        assert note in text.replace("&#39;", "'")
    (row,) = [row for row in csv.DictReader(io.StringIO(as_csv(make_board(records)))) if row["name"] == name]
    assert (row["letters"], row["own_gate"]) == ("", "True")


def test_rows_that_their_methods_own_gate_chose_are_in_no_curve_and_no_profile():
    old = {"gate": "off", "method_config": {"gate": True}}
    board = make_board([on(t, m, **f) for m, f in (("es", {"gate": "off"}), ("grpo", old)) for t in "abcde"])
    assert {point.name for curve in board.curves for point in curve.points} == {"base", "es"}
    assert set(board.profiles[0].shares) == {"base", "es"}


def test_a_method_may_have_a_gate_setting_beside_the_harness_gate():
    assert not lines(run("mine", method_config={"gate": True}))["mine"].own_gate


def test_a_row_whose_seeds_all_returned_the_base_is_compared_with_nothing():
    same = [run("corp", seed=seed, correct=BASE, changed=False) for seed in range(3)]
    records = [*same, run("es"), run("grpo", correct=worse(1))]
    found = lines(*records)
    line = found["corp"]
    assert line.accuracy.value == 0.5
    assert (line.returned_base, line.is_base) == (True, False)
    assert (line.difference, line.verdict, line.letters) == (None, None, None)
    assert found["base"].is_base
    without = lines(*records[3:])
    assert {n: (row.letters, row.difference) for n, row in found.items() if n != "corp"} == {
        n: (row.letters, row.difference) for n, row in without.items()
    }
    for text in renderings(records):
        assert text.count("returned the base") == 2  # the row, and the legend
        assert "+0.0" not in text
    row = next(row for row in csv.DictReader(io.StringIO(as_csv(make_board(records)))) if row["name"] == "corp")
    assert (row["accuracy"], row["returned_base"]) == ("0.5", "True")
    empty = ("letters", "difference", "difference_low", "difference_high", "p", "verdict")
    assert {row[key] for key in empty} == {""}


def test_a_row_is_compared_if_one_of_its_seeds_changed_the_base():
    line = lines(run(seed=0), run(seed=1, correct=BASE, changed=False))["corp"]
    assert not line.returned_base
    assert line.difference.value == pytest.approx(0.125)


def test_rows_of_one_search_are_lines_of_their_own():
    assert set(lines(run("randopt", label="k=1"))) == {"base", "randopt k=1"}


def test_a_run_that_failed_is_a_line_with_its_reason():
    runs = run(), run("grpo", reason="diverged")
    line = lines(*runs)["grpo"]
    assert line.accuracy is None
    shown = {c.heading: c.text(line) for c in columns(make_board([])) if c.text(line)}
    assert shown == {"method": "grpo", "accuracy": "failed", "status": "failed"}
    assert "grpo: seed 0: failed: diverged" in markdown(make_board(runs))


def test_one_failed_seed_is_noted_below_the_table():
    text = markdown(make_board([run(seed=0), run(seed=1, reason="out of memory")]))
    assert "corp: seed 1: failed: out of memory" in text


def test_seeds_that_ended_for_the_same_reason_share_a_line():
    ended = [run(seed=seed, reason="out of memory") for seed in (1, 2)]
    text = markdown(make_board([run(seed=0), *ended, run(seed=3, reason="diverged")]))
    assert "corp: seeds 1, 2: failed: out of memory" in text
    assert "corp: seed 3: failed: diverged" in text
    assert text.count("out of memory") == 1


def test_rows_that_left_the_budget_unspent_are_not_called_matched():
    text = markdown(make_board([run(spent=96), run("es", spent=94)]))
    assert "(spent less than 95 % of the budget): es" in text


def test_every_row_has_every_column():
    table = [
        line
        for line in markdown(make_board([run(), run("es", reason="x")])).split("## Accuracy against")[0].splitlines()
        if line[:1] == "|"
    ]
    assert {line.count("|") for line in table} == {len(columns(make_board([]))) + 1}


def test_answers_that_were_not_judged_are_left_out(tmp_path: Path):
    good = consistent(run().model_copy(update={"verdicts": ("01-", "1-0")})).result
    (tmp_path / "config.json").write_text(good.config.model_dump_json())
    (tmp_path / "result.json").write_text(good.model_dump_json())
    blank = {"prompt_sha256": "", "text": "", "answer": None, "reward": None, "status": "ok", "detail": ""}
    verdicts = [(False, True, None), (True, None, False)]
    samples = [Sample(row=r, id=i, correct=c, **blank) for r in (0, 1) for i, c in zip("abc", verdicts[r], strict=True)]
    (tmp_path / "samples.jsonl").write_text("".join(s.model_dump_json() + "\n" for s in samples))
    read = read_record(tmp_path)
    assert read.verdicts == ("01-", "1-0")
    (group,) = groups([read])
    assert group.lines[1].accuracy.value == 1.0  # only one item was judged for both


@pytest.mark.parametrize(("width", "seen"), [(80, False), (200, True)])
def test_a_console_shows_the_columns_that_fit_and_cuts_no_number(width, seen):
    file = io.StringIO()
    print_board(Console(file=file, width=width), make_board([run()]))
    text = file.getvalue()
    assert ("status" in text) == seen
    for figure in ("75.0 %", "53.1 to 88.8", "+25.0", "0.062", "50"):
        assert figure in text
    assert max(map(len, text.splitlines())) <= width


def test_a_narrow_console_folds_names_and_the_values_of_seeds_and_no_interval():
    file = io.StringIO()
    records = [*seeds([BETTER, worse(0), BETTER], "self-consistency"), run("es", correct=worse(4))]
    print_board(Console(file=file, width=80), make_board(records))
    table = file.getvalue().split("The order of rows")[0]
    line = lines(*records)["es"]
    assert f"{100 * line.difference.low:+.1f} to {100 * line.difference.high:+.1f}" in table
    assert "seeds: +25.0," in table
    assert "\n".join(map(str.rstrip, table.splitlines())).count("simultaneous") == 1


def test_the_same_run_given_twice_counts_once():
    assert lines(run(), run())["corp"].seeds == (0,)


def test_runs_of_other_versions_or_engines_are_lines_of_their_own():
    other = run()
    settings = {"id": "other", "engine": {"batch_size": 32}}
    other = other.model_copy(update={"result": other.result.model_copy(update=settings)})
    first = run().model_copy(update={"result": run().result.model_copy(update={"engine": {"batch_size": 64}})})
    assert set(lines(first, other)) == {"base", "corp engine batch_size=64", "corp engine batch_size=32"}


def test_the_smallest_share_over_seeds_decides_whether_compute_is_matched():
    (group,) = groups([run(spent=100), run(seed=1, spent=90)])
    assert any("not matched" in note for note in group.notes)


def test_a_method_that_plans_no_budget_is_not_called_unmatched():
    (group,) = groups([run("self-consistency", spent=0, planned={})])
    assert not any("not matched" in note for note in group.notes)


def test_a_note_says_if_no_row_without_adaptation_matches_the_highest_answer_cost():
    (without,) = groups([run()])
    (with_,) = groups([run(), run("self-consistency", planned={})])
    assert any("no row without adaptation takes as many" in note for note in without.notes)
    assert not any("no row without adaptation takes as many" in note for note in with_.notes)


def test_bases_that_disagree_are_noted():
    (group,) = groups([run(), run(seed=1).model_copy(update={"verdicts": (BETTER, BETTER)})])
    assert any("base's answers differ" in note for note in group.notes)


def test_a_failed_run_of_the_base_is_not_hidden():
    (group,) = groups([run("base", reason="out of memory")])
    assert any("out of memory" in note for note in group.notes)


def test_samples_that_are_missing_or_torn_are_an_error_that_names_the_file(tmp_path: Path):
    good = consistent(run().model_copy(update={"verdicts": ("01-", "1-0")})).result
    (tmp_path / "config.json").write_text(good.config.model_dump_json())
    (tmp_path / "result.json").write_text(good.model_dump_json())
    for content in (None, '{"id": "a'):
        if content:
            (tmp_path / "samples.jsonl").write_text(content)
        with pytest.raises(BenchError, match=r"samples\.jsonl"):
            read_record(tmp_path)


def worse(n):
    return "1" * (10 - n) + "0" * (10 + n)


def test_tables_that_differ_in_precision_say_so_and_share_no_curve():
    board = make_board([run(), run(dtype="float32")])
    assert [group.settings for group in board.groups] == ["", "dtype float32"]
    assert "budget quick, published settings, dtype float32, 20 test items" in markdown(board)
    assert [curve.settings for curve in board.curves] == ["", "dtype float32"]


def test_runs_made_by_other_rules_share_no_table_curve_or_profile():
    rulesets = ("custom", "tuned 10", "published", "tuned 5")
    methods = ("corp", "es")
    board = make_board([on(t, m, ruleset=r) for m in methods for r in rulesets for t in "abcde"])
    ordered = ["published", "tuned 5", "tuned 10", "custom"]
    assert [group.ruleset for group in board.groups] == 5 * ordered
    assert [curve.ruleset for curve in board.curves] == 5 * ordered[:3]
    assert [profile.ruleset for profile in board.profiles] == ordered[:3]
    assert all(len(group.lines) == 3 for group in board.groups)
    for group in board.groups:
        assert {line.letters is None for line in group.lines} == {group.ruleset == "custom"}
    console = Console(width=240, record=True)
    print_board(console, board)
    for text in (markdown(board), board_page(board), console.export_text()):
        assert "budget quick, published settings" in text
        assert "settings tuned in 5 trials" in text
        assert "custom settings (not compared)" in text
    rows = list(csv.DictReader(io.StringIO(as_csv(board))))
    assert {row["ruleset"]: row["letters"] for row in rows} == {r: "" if r == "custom" else "a" for r in ordered}


def test_a_table_of_tuned_runs_says_which_settings_were_chosen():
    def tuned(seed, **chosen):
        return Tuning(trials=(), trial=len(chosen), chosen=chosen, flops=1)

    runs = [run("es", 0, tuning=tuned(0, sigma=0.01, step=0.02)), run("es", 1, tuning=tuned(1))]
    (group,) = groups(runs)
    assert "es: tuning chose sigma=0.01 step=0.02 (seed 0), the published ones (seed 1)" in group.notes


def test_runs_billed_by_another_version_of_flops_share_no_table():
    es = run("es")
    versions = es.result.versions.model_copy(update={"flops": 1})
    old = Record(result=es.result.model_copy(update={"versions": versions}), items=es.items, verdicts=es.verdicts)
    board = make_board([run(), old])
    assert [group.settings for group in board.groups] == ["FLOPs version 1", ""]


def test_versions_of_flops_with_the_same_numbers_share_a_table():
    new, old = run(), run("es")
    versions = old.result.versions.model_copy(update={"flops": 2})
    old = Record(result=old.result.model_copy(update={"versions": versions}), items=old.items, verdicts=old.verdicts)
    assert new.result.versions.flops == 3
    assert [group.settings for group in make_board([new, old]).groups] == [""]


def test_rows_without_adaptation_come_first_in_every_order():
    runs = [run("corp"), run("es", correct=BASE), run("self-consistency", planned={}, spent=0, correct=worse(5))]
    for sort in SORTS:
        (group,) = make_board(runs, sort=sort).groups
        assert [line.name for line in group.lines[:2]] == ["base", "self-consistency"]
        assert [line.bound for line in group.lines] == [True, True, False, False]
    (group,) = make_board(runs, sort="name").groups
    assert [line.name for line in group.lines[2:]] == ["corp", "es"]


def test_a_failed_row_comes_last_in_every_order():
    for sort in SORTS:
        (group,) = make_board([run("corp", reason="out of memory"), run("es")], sort=sort).groups
        assert group.lines[-1].name == "corp"
        assert group.lines[-1].letters is None


def test_intervals_and_p_values_are_corrected_for_the_different_comparisons_of_the_table():
    good, half = "1" * 20, "1" * 14 + "0" * 6
    (group,) = groups([run("corp", correct=good), run("es", correct=half), run("randopt", correct=BASE)])
    assert group.comparisons == 2
    table = {line.name: line for line in group.lines}
    for name, fixes in (("corp", 10), ("es", 4)):
        single = paired_difference_interval(fixes, 0, 20, 1 - 0.05 / 2)
        p_value = min(2 * max(mcnemar_exact(fixes, 0), 2 * float(ndtr(-(fixes**0.5)))), 1.0)
        assert table[name].difference.p_value == pytest.approx(p_value)
        assert table[name].difference.high == pytest.approx(single.high)
    assert (table["corp"].verdict, table["es"].verdict) == ("better", "cannot be told")
    assert table["es"].difference.low <= 0 < table["corp"].difference.low
    # A copy of the base is no hypothesis: it is shown as it is.
    assert (table["randopt"].difference.interval, table["randopt"].verdict) == (None, "cannot be told")
    assert any("simultaneous 95 %: 2 different comparisons with the base, each at 97.50 %" in n for n in group.notes)


def test_labels_of_one_artifact_are_one_hypothesis():
    one = groups([run("corp")])[0]
    two = groups([run("corp"), run("randopt", label="k=1"), run("es")])[0]
    assert one.comparisons == two.comparisons == 1
    assert two.lines[1].difference == one.lines[1].difference
    assert not any("simultaneous" in note for note in two.notes)
    assert {line.letters for line in two.lines} == {"a"}


@given(st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=6), min_size=1, max_size=7), st.data())
@settings(max_examples=40)
def test_the_verdict_the_p_value_and_the_interval_agree_in_every_table(counts, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    records = []
    for method, of_method in enumerate(counts):
        for seed, right in enumerate(of_method):
            flips = rng.permutation(20) < right
            text = "".join(str(int((c == "1") != flip)) for c, flip in zip(BASE, flips, strict=True))
            changed = bool(rng.random() < 0.8)
            one = run(f"m{method}", seed=seed, correct=text if changed else BASE, changed=changed)
            records.append(gated(one, accepted=changed and bool(rng.random() < 0.7)))
    (group,) = groups(records)
    for line in group.lines:
        if line.difference is not None and line.difference.interval is not None:
            low, high = line.difference.interval
            assert (low > 0 or high < 0) == (line.difference.p_value <= 0.05) == (line.verdict != "cannot be told")
            assert len(line.difference.seeds) in (1, 5, 6)
        if line.gated and line.gated.difference and line.gated.difference.interval:
            assert len(line.gated.difference.seeds) >= 5


def test_rows_share_a_letter_unless_pairs_differ_significantly():
    good = "1" * 20
    table = lines(run("corp", correct=good), run("es", correct=good), run("randopt", correct=worse(4)))
    letters = {name: line.letters for name, line in table.items()}
    assert letters == {"corp": "a", "es": "a", "base": "b", "randopt": "b"}
    for text in renderings([run("corp", correct=good), run("es", correct=worse(4))]):
        assert "letters" in text
        assert "#:" not in text


def test_items_of_one_cluster_count_once():
    def rows(clusters):
        record = run("corp", correct="1" * 18 + "00").model_copy(update={"clusters": clusters})
        return make_board([record]).groups[0].lines

    base, line = rows(None)
    joined, known = rows((0,) * 8 + (1,) * 10 + (2, 3))
    assert known.difference.value == line.difference.value
    assert known.difference.high - known.difference.low > 1.5 * (line.difference.high - line.difference.low)
    assert joined.accuracy.high - joined.accuracy.low > 1.5 * (base.accuracy.high - base.accuracy.low)
    _, one = rows((7,) * 20)
    assert one.accuracy.interval is one.difference.interval is None


def test_item_sets_are_groups_of_their_own():
    other = run("es").model_copy(update={"items": "other"})
    assert len(groups([run(), other])) == 2


def test_the_order_of_records_changes_nothing():
    runs = [run(seed=1), run("es", reason="x"), run(seed=0), run("randopt", label="k=5"), run(budget="small")]
    board = make_board(runs)
    assert make_board(runs[::-1]) == board


def test_the_status_counts_failed_seeds():
    assert lines(run())["corp"].status == "ok"
    assert lines(run(), run(seed=1, reason="x"))["corp"].status == "1 of 2 ok"
    assert lines(run(seed=1, reason="x"))["corp"].status == "failed"


def test_a_curve_joins_budgets_and_counts_adaptation_and_answers():
    board = make_board([run(), run(budget="small", correct=BASE), run("self-consistency", planned={}, spent=0)])
    (curve,) = board.curves
    assert [(p.name, p.budget, p.flops, p.front) for p in curve.points] == [
        ("base", "", 200.0, True),
        ("self-consistency", "", 1000.0, True),
        ("corp", "quick", 1100.0, False),
        ("corp", "small", 1100.0, False),
    ]
    assert (curve.answers, curve.low, curve.high) == (20, 200.0, 20_000.0)
    # From 200 FLOPs on .5, and from 1000 on .75.
    assert curve.area == pytest.approx(0.75 - 0.25 * math.log(5) / math.log(100))


def test_a_curve_counts_the_answers_that_will_be_deployed():
    (curve,) = make_board([run()], answers=1_000_000).curves
    assert [p.flops for p in curve.points] == [10_000_000, 50_000_100]
    assert "adaptation and 1,000,000 answers" in markdown(make_board([run()], answers=1_000_000))


@given(st.integers(0, 15), st.integers(101, 10**9), st.sampled_from(["quick", "paper"]))
@settings(max_examples=30)
def test_dominated_dear_rows_do_not_change_the_area(right, spent, budget):
    text = "1" * right + "0" * (20 - right)
    fewer = make_board([run()])
    more = make_board([run(), run("es", correct=text, spent=spent, budget=budget)])
    assert more.curves[0].area == pytest.approx(fewer.curves[0].area, rel=1e-12)


def test_a_console_shows_the_points_of_a_curve_as_markdown_does():
    board = make_board([run(), run("self-consistency", planned={}, spent=0)])
    file = io.StringIO()
    print_board(Console(file=file, width=200), board)
    shown, page = (text.split("Accuracy against FLOPs")[1] for text in (file.getvalue(), markdown(board)))
    rows = [line.replace("|", " ").split() for line in page.splitlines() if line.endswith("|") and "---" not in line]
    assert rows[1] == ["base", "200", "50.0", "%", "29.9", "to", "70.1", "yes"]
    assert [line.split() for line in shown.splitlines()[1 : 1 + len(rows)]] == rows
    assert area_text(board.curves[0]) in " ".join(shown.split())
    assert "from 200 FLOPs, which 20 answers of the base cost, to 100 times as much" in page


def on(task, method="corp", **fields):
    """Return a run on a task with items of its own."""
    return run(method, task=task, **fields).model_copy(update={"items": task})


def test_profiles_need_five_tasks_with_different_items():
    four = [on(task) for task in "abcd"]
    for records, count in (
        ([], 0),
        ([run()], 1),
        (four, 4),
        ([*four, run(task="e").model_copy(update={"items": "d"})], 4),
    ):
        board = make_board(records)
        assert (board.profiles, board.most_tasks) == ((), count)
        assert any("no profile across tasks" in line for line in board.completeness) == bool(records)
    assert "and there are 4 at most" in markdown(make_board(four))


def test_a_profile_counts_the_tasks_within_a_margin():
    runs = [on(task, correct=BASE if task == "a" else BETTER) for task in "abcde"]
    same = run("es", task="f").model_copy(update={"items": "b"})
    board = make_board([*runs, *(on(task, "es", correct=BASE) for task in "bcde"), same])
    (profile,) = board.profiles
    assert profile.tasks == ("a", "b and f", "c", "d", "e")
    shares = {name: [share.value for share in values] for name, values in profile.shares.items()}
    assert {name: values[0] for name, values in shares.items()} == {"base": 0.2, "corp": 1.0, "es": 0.0}
    # On the items of b and f, es has a mean of .625 and corp .75.
    assert shares["es"][12] == 0.0
    assert shares["es"][13] == pytest.approx(0.2)
    assert all(share.low <= share.value <= share.high for values in profile.shares.values() for share in values)
    assert "corp | 100 % (100 to 100)" in markdown(board)


def test_a_rate_adds_prices():
    board = make_board([run()], rate=Rate(2e15, "USD"))
    text = markdown(board)
    assert "USD adaptation | USD 1000 answers" in text
    assert "| 200 | 1e+05 |" in text
    assert "adaptation_price" in as_csv(board).splitlines()[0]


def test_csv_and_data_hold_the_same_numbers():
    board = make_board([run(), run("es", reason="a, b")])
    rows = list(csv.DictReader(io.StringIO(as_csv(board))))
    plain = TypeAdapter(Board).dump_python(board, mode="json")["groups"][0]["lines"]
    assert [row["name"] for row in rows] == [line["name"] for line in plain] == ["base", "corp", "es"]
    corp = plain[1]
    values = [rows[1][key] for key in ("accuracy", "low", "high", "p")]
    known = [*(corp["accuracy"][key] for key in ("value", "low", "high")), corp["difference"]["p_value"]]
    assert [float(value) for value in values] == known
    assert rows[2]["reason"] == "seed 0: failed: a, b"
    assert rows[2]["accuracy"] == ""
    assert (plain[2]["seeds"], plain[2]["status"], plain[2]["problems"]) == ([], "failed", ["seed 0: failed: a, b"])


def test_a_record_is_the_same_from_its_file_and_from_its_run_directory(tmp_path: Path):
    good = consistent(run().model_copy(update={"verdicts": ("00", "11")})).result
    folder = tmp_path / "seed-0-abc"
    folder.mkdir()
    (folder / "config.json").write_text(good.config.model_dump_json())
    (folder / "result.json").write_text(good.model_dump_json())
    blank = {"prompt_sha256": "", "text": "", "answer": None, "reward": None, "status": "ok", "detail": ""}
    samples = [Sample(row=row, id=i, correct=bool(row), **blank) for row in (0, 1) for i in "ab"]
    (folder / "samples.jsonl").write_text("".join(s.model_dump_json() + "\n" for s in samples))
    (tmp_path / "seed-1-def").mkdir()
    (tmp_path / "seed-1-def" / "config.json").write_text(good.config.model_dump_json())
    read = read_record(folder)
    file = tmp_path / "seed-0-abc.json"
    file.write_text(read.model_dump_json())
    assert read_record(file) == read
    assert find_records([tmp_path]) == ([folder, file], [tmp_path / "seed-1-def"])
    file.write_text(read.model_copy(update={"verdicts": ("0", read.verdicts[1])}).model_dump_json())
    with pytest.raises(BenchError, match="same items"):
        read_record(file)


def test_the_time_to_make_a_board_grows_linearly():
    def seconds(count):
        runs = [run(m, seed=s, task=f"t{t}") for t in range(count // 6) for m in ("corp", "es") for s in range(3)]
        times = []
        for _ in range(3):
            began = time.process_time()
            make_board(runs)
            times.append(time.process_time() - began)
        return min(times)

    assert seconds(480) < 9 * seconds(120)  # four times the records; quadratic time would be a factor of 16


def test_a_run_that_was_refused_before_it_had_an_engine_joins_the_other_seeds():
    engine = {"backend": "transformers", "batch_size": 64}
    good = run()
    good = good.model_copy(update={"result": good.result.model_copy(update={"engine": engine})})
    early = run(seed=1, reason="no sandbox")
    lines = make_board([good, early]).groups[0].lines
    assert [line.name for line in lines] == ["base", "corp"]
    assert lines[1].status == "1 of 2 ok"
    other = run("corp", seed=1, reason="no sandbox", method_config={"rank": 9})
    names = [line.name for line in make_board([good, other]).groups[0].lines]
    assert len(names) == 3
    assert not any("engine" in name for name in names)


def test_a_run_that_adapts_nothing_has_no_part_in_the_budget_that_others_are_matched_with():
    base = run("base", correct=BASE, planned={})
    larger = base.result.budget.model_copy(update={"flops": 190})
    base = base.model_copy(update={"result": base.result.model_copy(update={"budget": larger})})
    (group,) = groups([base, run()])
    assert group.budget_flops == 100
    assert [line.matched for line in group.lines if not line.bound] == [True]
    assert groups([base])[0].budget_flops == 190
