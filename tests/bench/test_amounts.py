import pytest

from bench.amounts import counted, number, whole_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("65536", 65536),
        ("65_536", 65536),
        ("65,536", 65536),
        ("1e5", 100_000),
        ("1E+5", 100_000),
        ("64k", 64_000),
        ("64K", 64_000),
        ("1.5k", 1500),
        ("2M", 2_000_000),
        ("2.0", 2),
        ("-3", -3),
        ("0", 0),
    ],
)
def test_a_whole_number_is_read_as_people_write_it(text, value):
    assert whole_number(text) == value


@pytest.mark.parametrize("text", ["", "ten", "0-2", "1.5", "0,1,2", "1,0", "1__0", "1e-3", " 5", "64m", "9" * 5000])
def test_another_text_is_no_whole_number(text):
    assert whole_number(text) is None


def test_a_number_may_have_a_fraction():
    assert number("0.1") == 0.1
    assert number("2h") is None


def test_one_thing_is_singular_and_all_other_counts_are_plural():
    assert counted(1, "regression") == "1 regression"
    assert counted(0, "regression") == "0 regressions"
    assert counted(2, "fix", "fixes") == "2 fixes"
