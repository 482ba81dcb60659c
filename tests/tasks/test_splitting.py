from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from tasks.examples import SPLITS, Example, Splits, clusters, cut
from tasks.splitting import cut_beside, cut_one_file

GROUPS = st.lists(st.integers(0, 12), min_size=1, max_size=40)
"""Group of each of several examples; 0 stands for none."""


def examples(groups: list[int]) -> list[Example]:
    return [Example(str(n), {}, group=str(group or "")) for n, group in enumerate(groups)]


def placed(splits: Splits) -> dict[str, set[str]]:
    """Return the splits that each group is in."""
    found: dict[str, set[str]] = {}
    for name in SPLITS:
        for example in getattr(splits, name):
            if example.group:
                found.setdefault(example.group, set()).add(name)
    return found


@given(GROUPS, st.data())
def test_a_group_is_in_one_split_and_the_sizes_are_as_asked_for_up_to_a_group(
    groups: list[int], data: st.DataObject
) -> None:
    total = len(groups)
    first, second, third = sorted(data.draw(st.lists(st.integers(0, total // 2), min_size=3, max_size=3)))
    sizes = {"support": first, "select": second - first, "gate": third - second, "test": total - third}
    largest = max(Counter(filter(None, groups)).values(), default=1)
    if largest > max(sizes.values()):
        with pytest.raises(ValueError, match=f"{largest} examples belong to one group .*; the largest split has"):
            cut(examples(groups), salt="s", **sizes)
        return
    splits = cut(examples(groups), salt="s", **sizes)
    assert sum(splits.sizes.values()) == total  # nothing is left out
    assert all(len(names) == 1 for names in placed(splits).values())
    most = max(sizes.values())  # a group that finds no room goes into a split of this size
    assert all(splits.sizes[name] <= sizes[name] + largest * (sizes[name] == most) for name in SPLITS if sizes[name])
    assert splits == cut(examples(groups)[::-1], salt="s", **sizes)


def test_groups_that_find_no_room_are_left_out_where_more_examples_are_given_than_asked_for() -> None:
    groups = [n // 3 + 1 for n in range(300)]
    splits = cut(examples(groups), salt="s", support=10, select=10, gate=10, test=50)
    assert splits.sizes == {"support": 9, "select": 9, "gate": 9, "test": 48}


def test_single_examples_fill_what_groups_leave() -> None:
    groups = [n // 3 + 1 if n < 150 else 0 for n in range(300)]
    sizes = {"support": 50, "select": 50, "gate": 50, "test": 150}
    splits = cut(examples(groups), salt="s", **sizes)
    assert splits.sizes == sizes
    shares = [sum(bool(e.group) for e in getattr(splits, name)) / size for name, size in sizes.items()]
    assert all(0.3 < share < 0.7 for share in shares)  # groups are in all splits alike


def test_a_group_in_two_splits_is_an_error() -> None:
    one, two = Example("1", {}, group="g"), Example("2", {}, group="g")
    with pytest.raises(ValueError, match="group 'g' is in the splits support and test"):
        Splits((one,), (), (), (two,))
    assert (
        Splits((one, two), (), (), ()).content_hash
        == Splits((Example("1", {}), Example("2", {})), (), (), ()).content_hash
    )


def test_clusters_label_the_examples_of_a_group_alike() -> None:
    assert clusters([Example(i, {}, group=g) for i, g in (("a", ""), ("b", "x"), ("x", ""), ("c", "x"))]) == (
        0,
        1,
        2,
        1,
    )
    assert clusters([Example("a", {}, group="x"), Example("b", {})]) is None
    assert clusters([]) is None


def text(example: Example) -> str:
    return str(example.fields["text"])


def question(number: int, name: str = "") -> Example:
    """Return one of several questions; with a name it is a near duplicate of the one without."""
    words = ("one", "ace", "ark", "elk", "imp", "oak", "urn", "yew", "ash", "ivy", "rye", "oat", "fir")
    place = " ".join(f"{chr(97 + number)}{word}" for word in words)
    asked = f"{name or 'Kim'} has {number} birds. {place}"
    return Example(f"{number}{name}", {"text": asked})


def test_near_duplicates_of_a_file_are_cut_together() -> None:
    rows = [question(n, name) for n in range(20) for name in ("", "Ann", "Bo")]
    splits = cut_one_file(rows, "rows", salt="s", support=9, select=9, gate=9, content=text)
    assert splits.sizes == {"support": 9, "select": 9, "gate": 9, "test": 33}
    assert all(len(names) == 1 for names in placed(splits).values())
    assert Counter(Counter(clusters(splits.test) or ()).values()) == {3: 11}
    alone = cut_one_file(rows, "rows", salt="s", support=9, select=9, gate=9, content=None)
    assert clusters(alone.test) is None


def test_a_file_of_one_question_cannot_be_cut() -> None:
    rows = [Example(str(n), {"text": f"What is {n}?" if n > 30 else "What is it?"}) for n in range(40)]
    with pytest.raises(UsageError, match=r"rows: 31 examples belong to one group .*; the largest .* 20"):
        cut_one_file(rows, "rows", salt="s", support=10, select=5, gate=5, content=text)


def test_rows_that_nearly_equal_a_published_test_row_are_left_out() -> None:
    test = [question(n) for n in (5, 3, 1)]
    others = [question(n, name) for n in range(20) for name in ("Ann", "Bo")]
    splits = cut_beside(test, others, "rows", salt="s", support=10, select=5, gate=5, content=text)
    assert splits.left_out == 6
    assert list(splits.test) == test
    kept = {e.id for name in SPLITS[:3] for e in getattr(splits, name)}
    assert not kept & {f"{n}{name}" for n in (5, 3, 1) for name in ("Ann", "Bo")}
    with pytest.raises(
        UsageError, match="rows: 3 rows of the test split and 0 others, without the 6 that nearly equal"
    ):
        cut_beside(
            test,
            [question(n, name) for n in (5, 3, 1) for name in "AB"],
            "rows",
            salt="s",
            support=10,
            select=5,
            gate=5,
            content=text,
        )
