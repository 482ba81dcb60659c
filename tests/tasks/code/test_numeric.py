from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.sandbox import Program, judge
from tasks.code.numeric import allclose, self_contained, testing

NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)
LISTS = st.lists(NUMBERS, max_size=4)
TEST = "import numpy as np\n\ndef check(candidate):\n    np.testing.assert_allclose(candidate(2), 1.0, atol=1e-6)\n"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(
    st.tuples(NUMBERS, NUMBERS)
    | LISTS.flatmap(lambda one: st.tuples(st.just(one), LISTS.filter(lambda other: len(other) == len(one)))),
    st.sampled_from([0.0, 1e-7, 0.5]),
    st.sampled_from([0.0, 1e-6, 3.0]),
)
def test_it_compares_as_numpy_does(pair: tuple[Any, Any], rtol: float, atol: float) -> None:
    expected = bool(numpy.allclose(*pair, rtol=rtol, atol=atol))
    assert allclose(*pair, rtol, atol) == expected


@given(NUMBERS, st.floats(-2.0, 2.0))
def test_near_numbers_are_compared_as_numpy_does(number: float, off: float) -> None:
    near = number + off * 1e-6
    assert allclose(near, number, 1e-7, 1e-6) == bool(numpy.allclose(near, number, rtol=1e-7, atol=1e-6))


@pytest.mark.parametrize(
    ("actual", "desired"),
    [(1.0, [1.0]), ([1.0], [1.0, 1.0]), ("1", 1.0), (None, 0.0), ([1.0], 1.0), ([["a"]], [[1.0]])],
)
def test_values_of_another_type_or_shape_are_not_close(actual: Any, desired: Any) -> None:
    assert not allclose(actual, desired)
    with pytest.raises(AssertionError, match="is not close to"):
        testing.assert_allclose(actual, desired)


def test_a_test_that_imports_numpy_runs_without_it_and_other_tests_are_unchanged() -> None:
    codes = ("return 1 + 1e-9", "return 1.1", "return 'x'", "import numpy\n  return numpy.float64(1.0)")
    programs = [Program(f"def exec(x):\n  {code}", self_contained(TEST), "exec") for code in codes]
    assert [verdict.status for verdict in judge(programs)] == ["passed", "failed", "failed", "failed"]
    assert self_contained("assert numpy_like(1) == 2") == "assert numpy_like(1) == 2"
