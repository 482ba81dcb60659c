import io
import json

import numpy as np
import pytest
from pydantic import TypeAdapter
from rich.console import Console

from bench.compute.flops import FLOPS_VERSION
from bench.records.config import RunConfig
from bench.records.rows import Accuracy, AnswerCost, PairedComparison, Row
from bench.records.schema import ModelInfo, Result, Versions
from bench.records.source import RunSource
from bench.stats import difference_over_seeds
from reports.html.leaderboard import board_page
from reports.leaderboard.build import make_board
from reports.leaderboard.group import OverSeeds
from reports.leaderboard.text import BoardOutput, markdown, print_board
from reports.leaderboard.transfer import Transferred, make_transfers
from reports.record import Record, outcomes

BASE = "1" * 10 + "0" * 10
BETTER = "1" * 15 + "0" * 5
WORSE = "1" * 4 + "0" * 16


def record(
    task, verdicts, adapted_on=None, *, seed=0, method="es", items="", changed=True, settings=None, budget="small"
):
    """A run if `adapted_on` is None, else a test of the run that adapted there."""
    source = None
    if adapted_on is not None:
        folder = f"{method}-{adapted_on}-{seed}-{json.dumps(settings)}-{budget}"
        source = RunSource(folder="runs/x", id=folder, task=adapted_on, sha256="0" * 64)
    config = RunConfig(
        method=method, method_config=settings or {}, task=task, model="m", seed=seed, budget=budget, source=source
    )
    right = verdicts.count("1")
    accuracy = Accuracy(correct=right, items=20, excluded=0, accuracy=right / 20, low=0, high=1, mean_reward=0)
    cost = AnswerCost(evaluations=1, flops=10.0, new_tokens=3)
    comparison = PairedComparison(items=20, fixes=0, regressions=0, difference=0, low=0, high=0, p_value=1)
    result = Result(
        identity_version=3,
        id=f"{method}-{task}-{seed}-{json.dumps(settings)}-{budget}" + ("-test" if source else ""),
        status="ok",
        config=config,
        versions=Versions(method="1", task="1", noise="n", flops=FLOPS_VERSION),
        model=ModelInfo(name="m", origin="o", fingerprint="f", digest="d" * 64, licence=None),
        rows=(
            Row(kind="base", accuracy=accuracy, cost=cost, changed=False),
            Row(accuracy=accuracy, cost=cost, comparison=comparison, changed=changed),
        ),
    )
    return Record(result=result, items=items or task, verdicts=(BASE, verdicts))


RECORDS = [
    record("sums", BETTER),
    record("sums", BETTER, seed=1),
    record("words", WORSE, "sums"),
    record("words", BASE, "sums", seed=1),
    record("logic", WORSE, "sums"),
    record("logic", WORSE, "sums", seed=1),
    record("words", BETTER, method="corp"),
    record("sums", BASE, "words", method="corp", changed=False),
]


def stacked(*texts):
    return np.stack([outcomes(text) for text in texts], axis=1)


def test_a_row_is_a_method_by_task_adapted_on_and_a_column_a_task_tested_on():
    (found,) = make_transfers(RECORDS)
    assert [column.task for column in found.columns] == ["logic", "sums", "words"]
    assert [(row.name, row.adapted_on) for row in found.rows] == [("es", "sums"), ("corp", "words")]
    assert [column.base for column in found.columns] == [0.5] * 3


def test_a_cell_is_the_paired_difference_over_seeds_with_its_interval():
    (found,) = make_transfers(RECORDS)
    es, corp = found.rows
    assert es.cells[1] == Transferred((0, 1), OverSeeds(0.25, seeds=(0.25, 0.25)))
    assert es.cells[2].difference.seeds == pytest.approx((-0.3, 0.0))
    one = difference_over_seeds(outcomes(BASE), stacked(BETTER))
    assert corp.cells[2].difference == OverSeeds(0.25, one.low, one.high, one.p_value, (0.25,))
    assert corp.cells == (None, Transferred((0,), returned_base=True), corp.cells[2])
    assert [row[3:5] for row in found.texts[1:2]] == [("[+25.0 (seeds: +25.0, +25.0)]", "-15.0 (seeds: -30.0, +0.0)")]


@pytest.mark.parametrize("count", [4, 5])
def test_a_cell_has_an_interval_where_a_row_of_a_table_has_one(count):
    def cell(kept, clusters=None):
        made = [record("words", BETTER if s < kept else BASE, "sums", seed=s, changed=s < kept) for s in range(count)]
        known = {} if clusters is None else {made[0].item_set: clusters}
        return make_transfers(made, known)[0].rows[0].cells[0].difference

    for kept in (count, 2, 1):
        assert (cell(kept).interval is not None) == (count == 5 and kept > 1)
    if count == 5:
        changed = np.array([True, True, False, False, False])
        before, after = stacked(*[BASE] * 5), stacked(*[BETTER] * 2, *[BASE] * 3)
        expected = difference_over_seeds(before, after, changed=changed)
        assert (cell(2).low, cell(2).high) == (expected.low, expected.high)
        joined = cell(5, [0] * 8 + [1] * 10 + [2, 3])
        assert joined.high - joined.low > 1.2 * (cell(5).high - cell(5).low)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"reward": "random"}, "reward random"),
        ({"gate": "off"}, "no gate"),
        ({"prompt": "chat"}, "prompt chat"),
    ],
)
def test_runs_under_other_settings_are_a_matrix_of_their_own_that_names_them(other, said):
    known = record("words", WORSE, "sums")
    config = known.result.config.model_copy(update=other)
    twin = known.model_copy(update={"result": known.result.model_copy(update={"config": config, "id": "twin"})})
    found = make_transfers([known, twin])
    assert len(found) == 2
    assert [said in each.title for each in found].count(True) == 1
    assert not any(each.notes for each in found)


def test_a_limit_of_new_tokens_is_a_column_of_its_own():
    known = record("words", WORSE, "sums")
    config = known.result.config.model_copy(update={"max_new_tokens": 8})
    twin = known.model_copy(update={"result": known.result.model_copy(update={"config": config, "id": "twin"})})
    (found,) = make_transfers([known, twin])
    assert [heading.endswith("8 new tokens") for heading in found.headings[2:4]] == [False, True]


def test_other_tasks_join_the_items_of_all_columns_but_the_task_adapted_on():
    (found,) = make_transfers(RECORDS)
    es, corp = found.rows
    assert es.others.difference.seeds == pytest.approx((-0.3, -0.15))
    assert es.others.difference.value == pytest.approx(-0.225)
    assert corp.others == Transferred((0,), returned_base=True)


def test_other_tasks_are_joined_over_the_seeds_that_all_of_them_have():
    (found,) = make_transfers(RECORDS[:-3])
    assert found.rows[0].others.seeds == (0,)


def test_a_run_and_its_test_on_the_same_items_count_once():
    (found,) = make_transfers([*RECORDS, record("sums", WORSE, "sums")])
    (before,) = make_transfers(RECORDS)
    assert found.rows == before.rows
    (note,) = found.notes
    assert note.startswith("es adapted on sums, tested on sums: seed 0 has several runs, with DIFFERENT results: run ")
    board = make_board([*RECORDS, record("sums", WORSE, "sums")])
    assert all(note in text for text in (markdown(board), board_page(board)))


def test_items_of_another_set_are_a_column_of_their_own():
    (found,) = make_transfers([*RECORDS, record("words", WORSE, "sums", items="half", method="grpo")])
    assert [h for h in found.headings if h.startswith("words")] == ["words (half), 20 items", "words (words), 20 items"]


def test_rows_that_differ_in_settings_say_so():
    pair = [record("words", WORSE, "sums", settings={"sigma": s, "k": 2}) for s in (0.1, 0.2)]
    (found,) = make_transfers(pair)
    assert [row.name for row in found.rows] == ["es sigma=0.1", "es sigma=0.2"]


def test_budgets_are_tables_of_their_own():
    found = make_transfers([*RECORDS, record("words", WORSE, "sums", budget="1e9flops")])
    assert [each.budget for each in found] == ["1e9flops", "small"]


def test_runs_alone_make_no_matrix():
    assert make_transfers(RECORDS[:2]) == ()
    assert make_board(RECORDS[:2]).transfers == ()


def test_every_rendering_shows_the_matrix():
    board = make_board(RECORDS)
    console = Console(file=io.StringIO(), width=160)
    print_board(console, board)
    page = board_page(board)
    for text in (console.file.getvalue(), markdown(board), page):
        for part in (
            "Transfer, m, budget small, published",
            "all other tasks",
            "-15.0 (seeds: -30.0",
            "returned the base",
        ):
            assert part in text
    assert "[+25.0 (" in markdown(board)
    assert 'data-value="-0.225"' in page
    plain = TypeAdapter(BoardOutput).dump_python(BoardOutput(**vars(board)), mode="json")
    assert plain["transfers"][0]["rows"][0]["cells"][2]["difference"]["value"] == pytest.approx(-0.15)


def test_tests_are_groups_of_their_own_and_join_no_curve_and_no_profile():
    board = make_board(RECORDS)
    assert {(group.task, group.tests) for group in board.groups} >= {("sums", False), ("sums to words", True)}
    assert all("to" not in curve.task for curve in board.curves)
    assert all("to" not in task for profile in board.profiles for task in profile.tasks)
