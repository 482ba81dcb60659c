import io
from pathlib import Path

import numpy as np
import pytest
from consistent_records import consistent
from rich.console import Console

from bench.errors import UsageError
from bench.records.rows import Accuracy, AnswerCost, PairedComparison, Row
from bench.records.samples import Sample
from bench.records.schema import Result, RunConfig, Versions
from bench.stats import Estimate
from reports.comparison.compare import compare_runs
from reports.comparison.terminal import print_comparison
from reports.record import Record


def write(folder: Path, answers, task="addition", rows=("",), reward=None) -> Path:
    accuracy = Accuracy(correct=1, items=4, excluded=0, accuracy=0.25, low=0, high=1, mean_reward=0)
    compared = PairedComparison(items=4, fixes=0, regressions=0, difference=0, low=0, high=0, p_value=1)
    cost = AnswerCost(evaluations=1, flops=5.0, new_tokens=2)
    base = Row(kind="base", accuracy=accuracy, cost=cost, changed=False)
    artifacts = [Row(label=r, accuracy=accuracy, cost=cost, comparison=compared, changed=True) for r in rows]
    result = Result(
        identity_version=2,
        id=folder.name,
        status="ok" if answers else "failed",
        reason=None if answers else "out of memory",
        config=RunConfig(method="corp", task=task, model="m"),
        versions=Versions(method="1", task="1", noise="n", flops=2),
        content_hash="c",
        rows=(base, *artifacts) if answers else (),
    )
    verdicts = "".join({True: "1", False: "0", None: "-"}[right] for right in answers.values())
    tested = {"items": "i", "verdicts": (verdicts,) * (1 + len(rows))} if answers else {}
    result = consistent(Record(result=result, **tested)).result
    folder.mkdir()
    (folder / "config.json").write_text(result.config.model_dump_json())
    (folder / "result.json").write_text(result.model_dump_json())
    samples = [
        Sample(
            row=row,
            id=i,
            prompt_sha256="",
            text=f"{folder.name} says [red]{i}",
            answer=None,
            correct=right,
            reward=None if right is None else reward(i) if reward else float(right),
            status="ok",
            detail="",
        )
        for row in range(1 + len(rows))
        for i, right in answers.items()
    ]
    (folder / "samples.jsonl").write_text("".join(s.model_dump_json() + "\n" for s in samples))
    return folder


BEFORE = {"a": True, "b": False, "c": False, "d": True, "e": None, "f": True}
AFTER = {"f": False, "a": True, "b": True, "c": True, "d": True, "e": True, "g": True}


def test_items_are_matched_by_id_whatever_their_order(tmp_path):
    found = compare_runs([write(tmp_path / "x", BEFORE), write(tmp_path / "y", AFTER)], [])
    assert [c.id for c in found.fixes] == ["b", "c"]
    assert [c.id for c in found.regressions] == ["f"]
    assert (found.both_right, found.both_wrong, found.items, found.excluded) == (2, 0, 5, 2)
    assert found.difference.value == pytest.approx(0.2)
    assert found.difference.p_value == pytest.approx(1.0)
    assert (found.first.accuracy.value, found.second.accuracy.value) == (0.6, 0.8)
    assert found.reward.value == pytest.approx(0.2)
    assert (found.reward.low, found.reward.high) == pytest.approx((-0.4, 0.8))


def test_comparing_the_other_way_turns_the_sign(tmp_path):
    x, y = write(tmp_path / "x", BEFORE), write(tmp_path / "y", AFTER)
    there, back = compare_runs([x, y], []), compare_runs([y, x], [])
    assert there.difference.value == -back.difference.value
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert [c.id for c in there.fixes] == [c.id for c in back.regressions]


def test_rows_are_chosen_by_label(tmp_path):
    x, y = write(tmp_path / "x", BEFORE), write(tmp_path / "y", AFTER, rows=("k=1", "k=5"))
    with pytest.raises(UsageError, match="rows k=1, k=5; choose with --row"):
        compare_runs([x, y], [])
    with pytest.raises(UsageError, match="--row k=9: neither run has such a row; expected one of k=1, k=5"):
        compare_runs([x, y], ["k=9"])
    assert compare_runs([x, y], ["k=5"]).second.name.startswith("corp k=5")
    both = compare_runs([y, y], ["k=1", "k=5"])
    assert (both.first.name[:8], both.second.name[:8]) == ("corp k=1", "corp k=5")


def test_runs_on_other_items_are_refused(tmp_path):
    x = write(tmp_path / "x", BEFORE)
    with pytest.raises(UsageError, match="only runs on the same items"):
        compare_runs([x, write(tmp_path / "y", AFTER, task="gsm8k")], [])
    with pytest.raises(UsageError, match="no test item in common"):
        compare_runs([x, write(tmp_path / "z", {"q": True})], [])
    with pytest.raises(UsageError, match=r"failed.*out of memory"):
        compare_runs([x, write(tmp_path / "w", {})], [])


@pytest.mark.parametrize("width", [80, 200])
def test_both_answers_are_printed_side_by_side_unchanged(tmp_path, width):
    found = compare_runs([write(tmp_path / "x", BEFORE), write(tmp_path / "y", AFTER)], [])
    file = io.StringIO()
    print_comparison(Console(file=file, width=width), found, samples=1)
    text = file.getvalue()
    assert "2 fixes, 1 regression: +20.0 (" in text
    assert "exact McNemar p = 1" in text
    assert "fixes: b, c\n" in text
    rows = [line for line in text.splitlines() if "x says [red]" in line]
    assert [[f"{side} says [red]{i}" in row for side, i in ("xb", "yb", "xf", "yf")] for row in rows] == [
        [True, True, False, False],
        [False, False, True, True],
    ]
    assert max(map(len, rows)) <= width


def test_without_rewards_there_is_no_difference_of_rewards(tmp_path):
    runs = [write(tmp_path / name, BEFORE, reward=lambda _: None) for name in "xy"]
    assert compare_runs(runs, []).reward is None


def test_the_interval_of_rewards_is_a_seeded_percentile_bootstrap(tmp_path):
    gains = np.random.default_rng(0).normal(0.1, 1.0, 400)
    x = write(tmp_path / "x", {str(i): True for i in range(400)}, reward=lambda item: 0.0)
    y = write(tmp_path / "y", {str(i): True for i in range(400)}, reward=lambda item: gains[int(item)])
    found = compare_runs([x, y], []).reward
    assert found == compare_runs([x, y], []).reward
    assert found.high - found.low == pytest.approx(2 * 1.96 * gains.std() / 20, rel=0.05)
    assert (found.low, found.high) == pytest.approx((-0.03457312, 0.16044791))


def test_the_interval_of_the_reward_of_one_item_is_a_point(tmp_path):
    x, y = write(tmp_path / "x", {"a": False}), write(tmp_path / "y", {"a": True})
    assert compare_runs([x, y], []).reward == Estimate(1.0, 1.0, 1.0)
