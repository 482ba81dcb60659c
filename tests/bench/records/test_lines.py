"""Strict JSON lines: what is written is read back, and what is not strict is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.records.lines import NotStrict, decode, encode, split

SEPARATORS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
TEXTS = st.text(st.characters() | st.sampled_from(SEPARATORS + "\x00\x7f\x9b\u202e\ufeff\ud800\udc00\U0001f600"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=6))
def test_lines_return_all_values_whatever_characters_they_hold(values):
    data = b"".join(encode(value) + b"\n" for value in values)
    assert [decode(line) for _, line in split(data)] == values
    assert len(data.decode().splitlines()) == len(values)  # for other programs too, each is one line


@pytest.mark.parametrize("text", [SEPARATORS, "a" * 3_000_000, "\ud800", "\udc00\ud800", "\x1b[31m\x9b31m"])
def test_one_text_is_one_line_and_returns(text):
    line = encode({"text": text})
    assert b"\n" not in line
    assert decode(line) == {"text": text}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a": NaN}', "NaN is not JSON; expected a finite number"),
        (b'{"a": -Infinity}', "-Infinity is not JSON; expected a finite number"),
        (b'{"a": 1e999}', "1e999 is too large for a number"),
        (b'{"a": 1, "b": 2, "a": 1}', 'the name "a" is given twice in one object'),
        (b'{"a": "\xff"}', "byte 8 is not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"", "not JSON"),
        (b"1" * 5000, "not JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b"{'a': 1}", "not JSON"),
        (b'["\x01"]', "not JSON"),
    ],
)
def test_what_is_not_strict_is_refused_with_its_reason(data, reason):
    with pytest.raises(NotStrict, match=reason.replace("(", r"\(")):
        decode(data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_a_number_that_json_lacks_is_not_written(value):
    with pytest.raises(ValueError, match="JSON"):
        encode(value)


def test_lines_are_numbered_and_end_at_a_newline_alone():
    data = json.dumps("a\u2028b", ensure_ascii=False).encode() + b'\n\n"c\x85"\r\n'
    assert list(split(data)) == [(1, json.dumps("a\u2028b", ensure_ascii=False).encode()), (3, b'"c\x85"\r')]
