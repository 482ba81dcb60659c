import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import (
    MOST_LETTERS,
    compact_letters,
    difference_over_seeds,
    different_pairs,
    mcnemar_exact,
    pairwise_p_values,
)


def test_two_rows_with_one_seed_have_the_p_value_of_the_exact_test():
    before, after = np.array([0] * 30 + [1] * 20), np.array([0] * 18 + [1] * 28 + [0] * 4)
    found = pairwise_p_values([before[:, None], after[:, None]])
    assert found[0, 1] == found[1, 0] == pytest.approx(mcnemar_exact(12, 4))
    assert found[0, 0] == found[1, 1] == 1.0


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("seeds", [5, 8])
def test_a_pair_has_the_p_value_of_the_test_of_two_rows(seeds, clustered):
    rng = np.random.default_rng(0)
    before, after = rng.random((500, 1)) < 0.4, rng.random((500, seeds)) < 0.45
    clusters = np.arange(500) // 5 if clustered else None
    pair = difference_over_seeds(before, after, clusters=clusters).p_value
    assert pairwise_p_values([before, after], clusters)[0, 1] == pytest.approx(pair, rel=0.02)


@st.composite
def relations(draw):
    """Which pairs of rows differ: any symmetric relation without the diagonal."""
    rows = draw(st.integers(1, 8))
    differ = np.zeros((rows, rows), dtype=bool)
    for i, j in itertools.combinations(range(rows), 2):
        differ[i, j] = differ[j, i] = draw(st.booleans())
    return differ


@given(relations())
def test_two_rows_share_a_letter_exactly_if_they_do_not_differ(differ):
    letters = [set(text) for text in compact_letters(differ)]
    for i, j in itertools.combinations_with_replacement(range(len(differ)), 2):
        assert bool(letters[i] & letters[j]) == (not differ[i, j])


@given(relations())
def test_no_letter_could_be_left_out_as_part_of_another(differ):
    letters = compact_letters(differ)
    members = {letter: {i for i, text in enumerate(letters) if letter in text} for letter in set().union(*letters)}
    assert not any(one < two for one, two in itertools.permutations(members.values(), 2))


def test_letters_golden():
    differ = np.zeros((4, 4), dtype=bool)
    assert compact_letters(differ) == ["a"] * 4
    for i, j in ((0, 2), (0, 3), (1, 3)):
        differ[i, j] = differ[j, i] = True
    assert compact_letters(differ) == ["a", "ab", "bc", "c"]
    everything = ~np.eye(MOST_LETTERS, dtype=bool)
    assert compact_letters(everything) == [*"abcdefghijklmnopqrstuvwxyz"]


@pytest.mark.parametrize("rows", [MOST_LETTERS + 1, 400])
def test_a_display_that_nobody_can_read_is_not_made(rows):
    assert compact_letters(~np.eye(rows, dtype=bool)) is None


def test_pairs_that_double_the_letters_are_given_up_in_time():
    differ = np.kron(np.eye(14, dtype=bool), np.array([[False, True], [True, False]]))
    began = time.process_time()
    assert compact_letters(differ) is None
    assert time.process_time() - began < 5


def test_rows_without_a_difference_share_a_letter_in_95_percent_of_tables():
    rng, split = np.random.default_rng(2), 0
    for _ in range(400):
        tables = [(rng.random((150, 5)) < 0.3).astype(float) for _ in range(4)]
        split += different_pairs(pairwise_p_values(tables)).any()
    assert split / 400 <= 0.06


def test_a_row_that_is_clearly_better_differs_from_all_others():
    rng = np.random.default_rng(1)
    noise = rng.random((400, 1))
    tables = [(noise < share).astype(float) for share in (0.6, 0.31, 0.3)]
    assert compact_letters(different_pairs(pairwise_p_values(tables))) == ["a", "b", "b"]
