from hypothesis import given
from hypothesis import strategies as st

from bench.seeds import derive

PART = st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PARTS = st.lists(PART, max_size=4).map(tuple)


def test_seeds_are_the_same_in_every_version() -> None:
    assert derive() == 5460801731388113703
    assert derive(0, "corp", "population", 0) == 3250049512086890151
    assert derive(1, "corp", "population", 0) == 9051790793282707104


@given(PARTS)
def test_a_seed_depends_only_on_its_parts_and_has_63_bits(parts: tuple[str | int, ...]) -> None:
    assert derive(*parts) == derive(*parts)
    assert 0 <= derive(*parts) < 2**63


@given(PARTS, PARTS)
def test_different_parts_have_different_seeds(a: tuple[str | int, ...], b: tuple[str | int, ...]) -> None:
    assert (derive(*a) == derive(*b)) == (a == b)


def test_numbers_differ_from_their_digits_and_parts_are_not_concatenated() -> None:
    parts = [(1,), ("1",), (1, 2), (12,), ("1", 2), (2, 1), ("a", "b"), ("ab",), ("", "ab"), ("ab", "")]
    assert len({derive(*p) for p in parts}) == len(parts)


def test_every_bit_of_a_seed_is_random() -> None:
    seeds = [derive("a stream", i) for i in range(4096)]
    for bit in range(63):
        ones = sum(seed >> bit & 1 for seed in seeds)
        assert abs(ones - 2048) < 5 * 32
