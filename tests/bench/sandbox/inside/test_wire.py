"""Wire format: plain values arrive as equal values of exactly the base type, and other values are refused."""

import io
import json
import os
import random
import time
from array import array
from collections import Counter, OrderedDict, UserList, defaultdict, deque, namedtuple
from collections.abc import ItemsView, KeysView, ValuesView
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.sandbox.inside import wire

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters())
    | st.binary()
    | st.binary().map(bytearray)
    | st.decimals()
    | st.fractions()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.times()
    | st.timedeltas()
    | st.integers(-50, 50).map(lambda n: range(n, 3 * n, 2))
    | st.sampled_from([int, str, list, ValueError, object])
)
HASHABLE = st.integers() | st.text(st.characters()) | st.binary() | st.fractions() | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner, max_size=5).map(lambda items: deque(items, 5))
        | st.sets(HASHABLE)
        | st.frozensets(HASHABLE)
        | st.dictionaries(HASHABLE, inner)
        | st.dictionaries(HASHABLE, inner).map(OrderedDict)
        | st.dictionaries(HASHABLE, st.integers(0, 9)).map(Counter)
    ),
    max_leaves=20,
)
PLAIN = {type(None), bool, int, float, str, list, *(plain.type for plain in wire._PLAIN.values())}


def cross(value: Any) -> Any:
    frame = io.BytesIO(wire.dumps(wire.encode(value)))
    return wire.decode(wire.receive(frame.read))


def same(a: Any, b: Any) -> bool:
    """Return whether two values have equal types and content, including NaN and the sign of zero."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a.items(), b.items(), strict=True))
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, (float, complex, Decimal)):
        return repr(a) == repr(b)
    return bool(a == b)


@given(VALUES)
def test_a_plain_value_arrives_unchanged(value: Any) -> None:
    assert same(cross(value), value)


def test_values_that_other_encodings_would_change_arrive_unchanged() -> None:
    integers = [10**6000, -(1 << 63), (1 << 63) - 1]
    for value in ["\ud83d\ude00", "\ud800", *integers, -0.0, float("nan"), deque([1], maxlen=3)]:
        assert same(cross(value), value)


def test_an_instance_of_a_subclass_arrives_as_its_base() -> None:
    class Yes(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    class Text(str):
        def __str__(self) -> str:
            return "a lie"

    for value, base in [
        (Yes(7), 7),
        (Text("true"), "true"),
        (defaultdict(int, a=1), {"a": 1}),
    ]:
        assert same(cross(value), base)


@given(st.dictionaries(st.integers() | st.text(), st.integers() | st.lists(st.integers()), max_size=5))
def test_a_view_of_a_dictionary_arrives_as_a_view_and_equals_no_list(value: dict[Any, Any]) -> None:
    for kind, view in ((type({}.keys()), value.keys()), (type({}.values()), value.values())):
        found = cross(view)
        assert (type(found), list(found)) == (kind, list(view))
        assert found != list(view)
    assert cross(value.keys()) == value.keys() == set(value)
    assert cross(value.items()) == value.items()
    assert type(cross(value.items())) is type({}.items())


@pytest.mark.parametrize(
    "tree",
    [
        *({"keys": [[1]]}, {"keys": 1}),
        *({"items": [1]}, {"items": [{"tuple": [1]}]}, {"items": [{"tuple": [[], 1]}]}, {"items": ["ab"]}),
    ],
)
def test_a_view_that_no_dictionary_has_is_refused(tree: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(tree)


@pytest.mark.parametrize("tree", [{"object": [0, "A", False]}, {"object": []}, {"object": ["a"]}, {"object": 1}])
def test_an_object_is_refused_where_none_is_expected(tree: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(tree)


def test_named_tuples_and_members_of_enumerations_arrive_with_their_names() -> None:
    class Colour(Enum):
        RED = 1

    class Level(IntEnum):
        HIGH = 3

    class Word(str, Enum):  # noqa: UP042 - the older form
        YES = "yes"

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = str.__hash__

    point = namedtuple("point", "x y")
    arrived = cross(point(1, [2]))
    assert arrived == (1, [2])
    assert (arrived.x, arrived.y, arrived._fields, repr(arrived)) == (1, [2], ("x", "y"), "point(x=1, y=[2])")
    assert type(arrived) is not point
    for member in (Colour.RED, Level.HIGH, Word.YES):
        arrived = cross(member)
        assert (arrived.name, arrived.value, repr(arrived)) == (member.name, member.value, repr(member))
        assert arrived is cross(member)
        assert type(arrived) is not type(member)
    assert cross(Level.HIGH) == 3
    assert cross(Word.YES) == "yes"
    assert cross(Word.YES) != "no"
    assert cross(Colour.RED) != 1


def test_a_function_in_place_of_a_plain_value_s_method_leaves_a_tuple() -> None:
    def arrived(name: str, value: Any) -> Any:
        return wire.decode({"namedtuple": ["p", [name], value]}, lambda kind, number: len)

    function = {"function": [0]}
    assert arrived("startswith", 1).startswith == 1
    assert arrived("call", function).call is len
    assert type(arrived("startswith", function)) is tuple


@pytest.mark.parametrize(
    "tree",
    [
        {"namedtuple": ["p", ["x"], 1, 2]},
        {"namedtuple": ["p", ["__eq__"], 1]},
        {"namedtuple": ["p", ["x", "x"], 1, 2]},
        {"namedtuple": ["p; import os", ["x"], 1]},
        {"namedtuple": ["p", "x", 1]},
        {"namedtuple": []},
        {"enum": ["Enum", "", "C", "__eq__", 1]},
        {"enum": ["Enum", "", "C", "mro", 1]},
        {"enum": ["Enum", "", "C", "A", [1]]},
        {"enum": ["Flag", "", "C", "A", 1]},
        {"enum": ["Enum", "list", "C", "A", 1]},
        {"enum": ["StrEnum", "", "C", "A", 1]},
        {"enum": []},
    ],
)
def test_names_that_are_no_fields_or_members_are_refused(tree: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(tree)


def test_values_of_more_types_arrive_unchanged() -> None:
    for value in [array("d", [1.5]), array("i"), slice(1, None, 2), ..., NotImplemented, timezone(timedelta(hours=1))]:
        assert cross(value) == value
        assert type(cross(value)) is type(value)
    for view in [memoryview(b"ab"), memoryview(bytearray(4)).cast("H"), memoryview(bytes(6)).cast("B", [2, 3])]:
        arrived = cross(view)
        assert arrived == view
        assert (arrived.format, arrived.shape, arrived.readonly) == (view.format, view.shape, view.readonly)


def test_a_value_that_occurs_twice_arrives_once() -> None:
    rows: Any = [[]] * 3
    for value in (rows, (rows[0], {"a": rows[0]}), [deque(), deque()] * 2, [bytearray(), {1}, {}, array("i")] * 2):
        assert cross(value) == value
    assert wire.encode(rows) == [[], {"same": [0]}, {"same": [0]}]
    arrived = cross(rows)
    arrived[0].append(1)
    assert arrived == [[1]] * 3


def test_values_count_as_often_as_they_occur() -> None:
    value: Any = [0]
    for _ in range(40):
        value = [value, value]
    with pytest.raises(wire.WireError, match="more than 1,000,000"):
        wire.encode(value)
    tree: Any = [[0]]
    for n in range(40):
        tree.append([{"same": [n]}, {"same": [n]}])
    with pytest.raises(wire.WireError, match="more than 1,000,000"):
        wire.decode(tree)


@pytest.mark.parametrize("tree", [[{"same": [0]}], {"same": [-1]}, [[], {"same": [True]}], [[], {"same": ["0"]}]])
def test_a_reference_to_no_value_before_it_is_refused(tree: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(tree)


@pytest.mark.parametrize("value", [object(), len, map(abs, [1]), UserList([1]), type("C", (), {})])
def test_values_that_are_not_plain_are_refused(value: Any) -> None:
    with pytest.raises(wire.WireError, match="is not a plain value"):
        wire.encode(value)


def test_limits() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(wire.MAX_DEPTH + 1):
        deep = [deep]
    for value in (cycle, deep):
        with pytest.raises(wire.WireError, match="deeper"):
            wire.encode(value)
    for bad in (wire.encode, wire.decode):
        with pytest.raises(wire.WireError, match="more than 1,000,000"):
            bad([0] * wire.MAX_ITEMS)
    with pytest.raises(wire.WireError, match="16 MiB"):
        wire.dumps("x" * wire.MAX_BYTES)


def test_an_iterator_is_not_read_but_numbered() -> None:
    numbered: list[Any] = []

    def export(value: Any) -> int:
        numbered.append(value)
        return len(numbered) - 1

    endless, generator, of_list = iter(int, 1), (n for n in [1]), iter([1])
    expected = [{"iterator": [0]}, {"generator": [1]}, {"iterator": [2]}]
    assert wire.encode([endless, generator, of_list], export) == expected
    assert numbered == [endless, generator, of_list]
    assert list(of_list) == [1]
    with pytest.raises(wire.WireError, match="list_iterator is not a plain value"):
        wire.encode(of_list)
    assert wire.decode({"iterator": [7]}, lambda kind, number: (kind, number)) == ("iterator", 7)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"a": [], "b": []},
        {"tuple": 1},
        {"nothing": [1]},
        {"int": [5]},
        {"int": ["0x1", "0x2"]},
        {"int": []},
        {"type": ["eval"]},
        {"type": ["__import__"]},
        {"type": [["int"]]},
        {"function": [0]},
        {"set": [[1]]},
        {"dict": [1]},
        {"dict": [[], 1]},
        {"Fraction": [1, 0]},
        {"Fraction": ["1e999999999"]},
        {"Decimal": ["five"]},
        {"bytes": ["zz"]},
        {"range": [1.5]},
        {"datetime": [5, 5]},
        {"timedelta": [1e300]},
        {"deque": [5]},
    ],
)
def test_a_malformed_tree_is_refused(tree: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(tree)


def test_a_frame_longer_than_the_limit_is_refused_by_its_header() -> None:
    with pytest.raises(wire.WireError, match="4,294,967,295 bytes"):
        wire.receive(io.BytesIO(b"\xff\xff\xff\xff").read)


def test_a_stream_that_ends_early_is_an_end_of_file() -> None:
    frame = wire.dumps([1, 2, 3])
    for cut in range(len(frame)):
        with pytest.raises(EOFError):
            wire.receive(io.BytesIO(frame[:cut]).read)


VIEWS = [type({}.keys()), type({}.values()), type({}.items())]


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return type(value) in PLAIN and all(plain(part) for item in value.items() for part in item)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        value = (*value,)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return type(value) in PLAIN and all(map(plain, value))
    if isinstance(value, (KeysView, ValuesView, ItemsView)):
        return type(value) in VIEWS and all(map(plain, value))
    return type(value) in PLAIN or isinstance(value, (type, Enum)) or type(value) is type(iter([])) or value is ...


def mutate(rng: random.Random, body: bytes) -> bytes:
    """Return a JSON text with a few random insertions, deletions, repetitions and replacements."""
    data = bytearray(body)
    pieces = [b"[", b"]", b"{", b"}", b'"', b",", b":", b"1e999", b"NaN", b"-1", b"null", b"\xff", b"\\ud800"]
    pieces += [json.dumps({tag: []}).encode() for tag in wire._PLAIN] + [
        b'"function"',
        *(b'"iterator"', b'"same"', b'{"same": [0]}', b'"enum"', b'"namedtuple"', b'"listed"', b'"constant"'),
        b'"type"',
        b'"keys"',
        b'"values"',
        b'"items"',
        b'"object"',
        b'{"object": [0, "A", false]}',
    ]
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[at:at] = rng.choice(pieces)
            case 1:
                del data[at : at + rng.randint(1, 8)]
            case 2:
                data[at:at] = data[: rng.randint(0, 30)]
            case 3:
                data[at : at + 1] = bytes([rng.randrange(256)])
    return bytes(data)


@pytest.mark.slow
def test_the_decoder_survives_any_bytes() -> None:
    """Decode 2,000 damaged frames; BENCH_FUZZ_SECONDS sets a longer duration."""
    seconds = float(os.environ.get("BENCH_FUZZ_SECONDS", "0"))
    seed = random.randrange(1 << 32) if seconds else 0
    rng = random.Random(seed)
    samples: list[Any] = [
        [1, 2.5, "text", None, True],
        {(1, "a"): {2, 3}, b"k": deque([1], 2)},
        [{1: 2}.keys(), {1: [2]}.values(), {"a": (1, 2)}.items()],
        [Counter("aab"), OrderedDict(a=1), frozenset([4]), 2 + 3j, 1 << 80, range(3)],
        [Decimal("1.5"), Fraction(1, 3), datetime(2020, 1, 1, tzinfo=UTC), date(2020, 1, 1), timedelta(1)],
    ]
    bodies = [wire.dumps(wire.encode(sample))[4:] for sample in samples]
    decoded, count, end = 0, 0, time.monotonic() + seconds
    while count < 2000 or time.monotonic() < end:
        count += 1
        body = mutate(rng, rng.choice(bodies))
        frame = len(body).to_bytes(4, "big") + body
        try:
            value = wire.decode(wire.receive(io.BytesIO(frame).read))
        except (wire.WireError, EOFError):
            continue
        decoded += 1
        assert plain(value), (seed, body)
    assert 0 < decoded < count
