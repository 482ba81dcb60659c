import io
import json

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
        model=ModelInfo(name="m", origin="o", fingerprint="f", digest="d", licence=None),
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
    import numpy as np

    return np.stack([outcomes(text) for text in texts], axis=1)


def test_a_row_is_a_method_by_task_adapted_on_and_a_column_a_task_tested_on():
    (found,) = make_transfers(RECORDS)
    assert [column.task for column in found.columns] == ["logic", "sums", "words"]
    assert [(row.name, row.adapted_on) for row in found.rows] == [("es", "sums"), ("corp", "words")]
    assert [column.base for column in found.columns] == [0.5] * 3


def test_a_cell_is_the_paired_difference_over_seeds_with_its_interval():
    (found,) = make_transfers(RECORDS)
    es, corp = found.rows
    assert es.cells[1] == Transferred((0, 1), difference_over_seeds(stacked(BASE, BASE), stacked(BETTER, BETTER)))
    assert es.cells[2] == Transferred((0, 1), difference_over_seeds(stacked(BASE, BASE), stacked(WORSE, BASE)))
    assert es.cells[2].difference.value == pytest.approx(-0.15)
    assert corp.cells == (None, Transferred((0,)), corp.cells[2])


def test_other_tasks_join_the_items_of_all_columns_but_the_task_adapted_on():
    (found,) = make_transfers(RECORDS)
    es, corp = found.rows
    joined = difference_over_seeds(stacked(BASE * 2, BASE * 2), stacked(WORSE * 2, WORSE + BASE))
    assert es.others == Transferred((0, 1), joined)
    assert es.others.difference.value == pytest.approx(-0.225)
    assert corp.others == Transferred((0,))


def test_other_tasks_are_joined_over_the_seeds_that_all_of_them_have():
    (found,) = make_transfers(RECORDS[:-3])
    assert found.rows[0].others.seeds == (0,)


def test_a_run_and_its_test_on_the_same_items_count_once():
    (found,) = make_transfers([*RECORDS, record("sums", WORSE, "sums"), RECORDS[0]])
    (before,) = make_transfers(RECORDS)
    assert found == before


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
        for part in ("Transfer, m, budget small, published", "all other tasks", "-15.0 (", "returned the base"):
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
