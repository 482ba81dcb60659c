import numpy as np
import pytest

from bench.compute.passes import Pass
from bench.compute.profile import AttentionLayer

MASK = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0]], dtype=bool)
"""Three rows with two cached columns and four new ones."""


@pytest.fixture
def current():
    return Pass("update", rows=3, width=4, context=2, mask=MASK, layers=2)


def test_real_tokens_are_those_of_the_mask(current):
    assert (current.real, current.run) == (11, 12)
    assert dict(current.lengths(4)) == {(2, 4): 1, (0, 4): 1, (1, 3): 1}
    assert dict(current.lengths(1)) == {(5, 1): 1, (3, 1): 1, (4, 0): 1}


def test_a_mask_of_the_new_columns_leaves_the_whole_cache_as_context():
    alone = Pass("update", rows=3, width=4, context=2, mask=MASK[:, 2:], layers=2)
    assert dict(alone.lengths(4)) == {(2, 4): 2, (2, 3): 1}


def test_without_a_mask_all_tokens_are_real():
    whole = Pass("update", rows=3, width=4, context=2, mask=None, layers=2)
    assert (whole.real, whole.lengths(3)) == (12, {(3, 3): 3})


@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize(("window", "chunked"), [(None, False), (2, False), (3, True)])
def test_attention_costs_what_each_token_sees(current, queries, window, chunked):
    def seen(position):
        if window is None:
            return position + 1
        return position % window + 1 if chunked else min(position + 1, window)

    real = sum(
        seen(int(row[: column + 1].sum()) - 1) for row in MASK for column in range(6 - queries, 6) if row[column]
    )
    padded = 3 * sum(seen(column) for column in range(6 - queries, 6))
    calls = [AttentionLayer(8, window, chunked), AttentionLayer(4, window, chunked)]
    assert current.attended(calls, queries) == (12 * real, 12 * padded)


def test_work_has_the_share_of_real_tokens_of_its_columns(current):
    assert (current.work(24).products, current.work(24).padded_products) == (22, 24)
    assert current.work(24, 1, backward_passes=3).model_dump(exclude_defaults=True) == {
        "products": 16,
        "padded_products": 24,
        "backward_passes": 3,
    }


def test_recomputed_products_are_taken_once(current):
    current.recomputed, current.recomputed_gradients = 5, 7
    assert current.take_recomputed() == (5, 7)
    assert current.take_recomputed() == (0, 0)
