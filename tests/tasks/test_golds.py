from typing import Any

import pytest

from bench.errors import UsageError
from tasks.golds import sole


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (r"5\sqrt{2}", r"5\sqrt{2}"),
        (204, "204"),
        (1e-07, "0.0000001"),
        (["1", "2"], "1,2"),
        ([3, 4.5], "3,4.5"),
        ("$f(x)=a x+b$, where $b$ is an arbitrary integer", "$f(x)=a x+b$, where $b$ is an arbitrary integer"),
        ("#3", "#3"),
    ],
)
def test_an_answer_alone_is_accepted(value: Any, text: str) -> None:
    assert sole(value) == text


@pytest.mark.parametrize("value", ["", "  ", None, [], [""], ["1", None], True, {}, float("nan")])
def test_an_empty_answer_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"field 'answer' is .*; expected an answer as text or number"):
        sole(value)


@pytest.mark.parametrize(
    ("value", "inner"),
    [
        (r"We add them and get \boxed{12}.", "12"),
        (r"\boxed{\frac{1}{2}}", r"\\frac{1}{2}"),
        ("First 5 + 7 = 12.\n#### 12", "12"),
        ("We add them. The answer is 12.", "12"),
    ],
)
def test_a_whole_solution_is_refused_and_its_answer_named(value: str, inner: str) -> None:
    with pytest.raises(UsageError) as caught:
        sole(value, "gold")
    assert str(caught.value).startswith("field 'gold' is ")
    assert str(caught.value).endswith(f'a whole solution; expected the answer alone, which seems to be "{inner}"')


def test_hashes_with_nothing_behind_are_refused() -> None:
    with pytest.raises(UsageError, match=r"a whole solution; expected the answer alone$"):
        sole("It is so.\n#### ")
