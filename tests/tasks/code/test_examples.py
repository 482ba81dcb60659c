from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.code.examples import Case, cases

WORD = st.text(st.characters(codec="utf-8", exclude_characters="(", exclude_categories=["C", "Z"]), max_size=5)
LITERAL: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | WORD,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(WORD, inner, max_size=2),
    max_leaves=5,
)


def read(*lines: str, quotes: str = '"""') -> tuple[Case, ...]:
    body = "".join(f"    {line}\n" for line in lines)
    return cases(f"def f(x, y=0):\n    {quotes}Says what f does.\n\n{body}    {quotes}\n", "f")


@pytest.mark.parametrize("quotes", ['"""', "'''"])
def test_a_doctest_is_an_example_with_the_output_in_the_next_lines(quotes: str) -> None:
    assert read(">>> f(1)", "2", ">>> f([1,  2], 'a')", "[1,", " 2]", quotes=quotes) == (
        ("(1,)", "2"),
        ("([1, 2], 'a')", "[1, 2]"),
    )


@pytest.mark.parametrize(
    "sign",
    ["==", " == ", " = ", " => ", " ==> ", "==>", " -> ", "->", " ➞ ", " returns ", " should return ", "  # => "],
)
@pytest.mark.parametrize("before", ["", "* ", "For example: ", "for ", "assert ", ">>> "])
def test_common_signs_introduce_the_result(before: str, sign: str) -> None:
    assert read(f"{before}f('a', -1){sign}[1, 2]") == (("('a', -1)", "[1, 2]"),)


@given(st.lists(LITERAL, min_size=1, max_size=2), LITERAL, st.sampled_from(["f{} == {}", "f{} ➞ {}.", ">>> f{}\n{}"]))
def test_a_written_example_is_found(arguments: list[Any], output: Any, form: str) -> None:
    written = "({})".format(", ".join(map(repr, arguments)))
    (case,) = read(*form.format(written, repr(output)).split("\n"))
    assert (list(eval(case.arguments)), case.expected and eval(case.expected)) == (arguments, output)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("2 # a remark", "2"),
        ("'No' (the name is wrong)", "'No'"),
        ("True.", "True"),
        ("true", "True"),
        ("false", "False"),
        ("19 - 5 - 6 = 8", "8"),
        ("6.00", "6.0"),
        ("-1", "-1"),
        ("None", "None"),
        ("['a', 'b'] ", "['a', 'b']"),
        ("19 - 5", None),
        ("g(2) + 1", None),
        ("1.5x", None),
        ("the same", None),
        ('""a""', None),
        ("", None),
    ],
)
def test_a_result_is_a_literal_that_a_remark_may_follow(stated: str, expected: str | None) -> None:
    assert read(f"f(1) == {stated}") == (("(1,)", expected),)


def test_a_doctest_without_output_expects_none_if_the_call_is_all_of_it() -> None:
    assert read(">>> f(1)", "", ">>> round(f(2), 2)", "0.5", ">>> f(3)", "<object>") == (
        ("(1,)", "None"),
        ("(2,)", None),
        ("(3,)", None),
    )


@pytest.mark.parametrize(
    "line",
    ["f(a) == 1", "f(n - 1) == 1", "f() == 1", "g(1) == 1", "ff(1) == 1", "self.f(1) == 1", "f(x=1) == 1", "f(1", "f"],
)
def test_only_calls_of_the_function_with_literals_are_examples(line: str) -> None:
    assert read(line) == ()


def test_no_code_is_executed() -> None:
    assert read("f(__import__('os').abort()) == 1", ">>> __import__('os').abort()", "1") == ()


def test_a_call_may_span_lines_and_hold_text_that_looks_like_calls() -> None:
    assert read("f([", "  [1],", "], ')f(2)(') == 3") == (("([[1]], ')f(2)(')", "3"),)


def test_a_repeated_call_is_one_example_with_the_first_stated_result() -> None:
    assert read("like f(1)", "f(1) == 2", "f(1) == 3", "f(2) == 4") == (("(1,)", "2"), ("(2,)", "4"))


def test_only_the_text_of_the_function_itself_is_read() -> None:
    helper = "def g(x):\n    '''\n    >>> f(9)\n    1\n    '''\n    return f(8) == 1\n\n"
    assert cases(f"{helper}def f(x):\n    '''\n    >>> f(1)\n    2\n    '''\n", "f") == (("(1,)", "2"),)


def test_a_doctest_that_does_not_parse_is_read_as_prose() -> None:
    assert read(">>> f(1)", "2", ">>>f(2) == 3") == (("(1,)", None), ("(2,)", "3"))


@given(st.text(st.sampled_from("f(1,'\"[]) =>-#.\n\\é\0"), max_size=40))
def test_every_text_is_parsed_without_an_error(text: str) -> None:
    for arguments, _ in cases(f'def f(x):\n    """{text}', "f"):
        assert isinstance(eval(arguments), tuple)
