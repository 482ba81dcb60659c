import pytest
from hypothesis import given
from hypothesis import strategies as st

import tasks.checks
from tasks.checks import CHECKS, LONGEST
from tasks.code.forms import read_test


def judged(check: str, answer: str, reply: str) -> bool | None:
    """Return whether a reply is correct; None if it has nothing to compare."""
    found = CHECKS[check].find(reply)
    judge = CHECKS[check].judge
    assert judge is not None
    return None if found is None else judge(answer, found).correct


@pytest.mark.parametrize(
    ("check", "answer", "reply", "right"),
    [
        ("exact", "Paris", "Paris", True),
        ("exact", " Paris\n", "\tParis ", True),
        ("exact", "Paris", "paris", False),
        ("exact", "Paris", "It is Paris.", False),
        ("exact", "Paris", " \n", None),
        ("number", "42", "42", True),
        ("number", "42", "6 times 7 is 42.0, of course.", True),
        ("number", "1000", "1,000", True),
        ("number", "-3.5", "x is -3.50", True),
        ("number", "42", "42 or rather 43", False),
        ("number", "42", "forty-two", None),
        ("math", "1/2", r"So \boxed{\frac{2}{4}}.", True),
        ("math", r"\{1, 2\}", r"The answer is 2, 1.", True),
        ("math", "0.5", "1/2", True),
        ("math", "1/2", r"\boxed{2}", False),
        ("math", "1/2", "", None),
        ("regex", r"\d{4}", "in 1984", True),
        ("regex", "^a+$", " aaa\n", True),
        ("regex", "(?i)yes", "YES", True),
        ("regex", "yes", "no", False),
        ("regex", "yes", "", None),
        ("regex", "a", "a" * (LONGEST + 1), None),
    ],
)
def test_a_reply_is_compared_as_the_check_says(check: str, answer: str, reply: str, right: bool | None) -> None:
    assert judged(check, answer, reply) is right


def test_a_pattern_that_takes_too_long_is_a_timeout_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.checks, "PATTERN_SECONDS", 0.05)
    judge = CHECKS["regex"].judge
    assert judge is not None
    score = judge("(a|aa)+$", "a" * 60 + "b")
    assert (score.correct, score.reward, score.status) == (False, 0.0, "timeout")


@pytest.mark.parametrize(
    ("check", "answer", "accepted"),
    [
        ("number", "42", True),
        ("number", " -1,000.5 ", True),
        ("number", "six", False),
        ("number", "42 apples", False),
        ("number", "the sum is 42", False),
        ("math", r"\frac{1}{2}", True),
        ("math", r"We get \boxed{\frac{1}{2}}.", False),
        ("math", "1 + 1 = 2\n#### 2", False),
        ("regex", "a|b", True),
        ("regex", "(", False),
        ("regex", "a{2,1}", False),
        ("python", "assert f(1) == 2", True),
        ("python", "assert f(1) ==", False),
        ("python", "assert 1 == 1", False),
        ("python", "def check(candidate):\n    assert candidate(1) == 2", False),
    ],
)
def test_an_answer_must_be_what_its_check_expects(check: str, answer: str, accepted: bool) -> None:
    assert (CHECKS[check].problem(answer) is None) is accepted


@pytest.mark.parametrize(
    ("test", "name"),
    [
        ("assert add(1, 2) == 3", "add"),
        ("assert sorted(unique([1])) == [1]", "unique"),
        ("from math import sqrt\nassert sqrt(area(2)) == 2", "area"),
        ("import math as m\nx = m.sqrt(4)\nassert half(x) == 1", "half"),
        ("def near(a, b):\n    return abs(a - b) < 1\nassert near(root(2), 1.4)", "root"),
        ("for f in [1, 2]:\n    assert g(f)", "g"),
        ("assert first(1)\nassert second(1)", "first"),
        ("class T:\n    pass\nassert kind(T())", "kind"),
        ("x = 1", None),
        ("nonlocal f\nassert f(1)", None),
        ("assert", None),
        ("\0", None),
        ("(" * 10_000, None),
    ],
)
def test_the_entry_point_is_the_first_function_that_a_test_calls_but_does_not_define(
    test: str, name: str | None
) -> None:
    found = read_test(test)
    assert (found.entry_point or None) == name
    assert (found.problem is None) == (name is not None)


@given(
    st.sampled_from([name for name, check in CHECKS.items() if check.judge]), st.text(max_size=60), st.text(max_size=60)
)
def test_replies_that_share_a_vote_are_right_or_wrong_together(check: str, one: str, other: str) -> None:
    way = CHECKS[check]
    found = [way.find(reply) for reply in (one, other)]
    votes = [None if text is None else way.vote(text) for text in found]
    if None not in votes and votes[0] == votes[1]:
        assert judged(check, "1", one) == judged(check, "1", other)
