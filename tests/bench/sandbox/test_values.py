"""Results beyond plain data: right programs that return them pass, and they forge nothing."""

import re

import pytest

from bench.sandbox import Program, Verdict, judge

RIGHT = {
    "an endless generator, read as far as asked": (
        "def f(n):\n    while True:\n        yield n\n        n += 1",
        "import itertools\ndef check(c):\n    assert list(itertools.islice(c(3), 4)) == [3, 4, 5, 6]",
    ),
    "a generator that waits for values": (
        "def f():\n    total = 0\n    while True:\n        total += yield total",
        "def check(c):\n    g = c()\n    assert (next(g), g.send(5), g.send(2)) == (0, 5, 7)\n    g.close()\n"
        "    assert list(g) == []",
    ),
    "a generator is one": (
        "def f(): yield 1",
        "import inspect, types\ndef check(c):\n    assert isinstance(c(), types.GeneratorType)\n"
        "    assert inspect.isgenerator(c())",
    ),
    "an iterator over an endless one of the test": (
        "def f(xs): return (x * x for x in xs)",
        "import itertools\ndef check(c):\n    xs = itertools.count(2)\n    g = c(xs)\n    assert next(g) == 4\n"
        "    assert next(xs) == 3 and next(g) == 16",
    ),
    "the value that a generator returns": (
        "def f():\n    yield 1\n    return 7",
        "def check(c):\n    g = c()\n    assert next(g) == 1\n    try:\n        next(g)\n"
        "    except StopIteration as end:\n        assert end.value == 7\n    else:\n        assert False\n"
        "    def all_of():\n        found = yield from c()\n        yield found\n    assert list(all_of()) == [1, 7]",
    ),
    "a generator of the test, and its value": (
        "def f(g):\n    found = yield from g\n    yield found",
        "def check(c):\n    def g():\n        yield 1\n        return (2, 3)\n    assert list(c(g())) == [1, (2, 3)]",
    ),
    "exceptions that are thrown into a generator": (
        "def f():\n    n = 0\n    while True:\n        try:\n            yield n\n            n += 1\n"
        "        except IndexError:\n            n = 0\n        except ValueError as error:\n"
        "            n = error.args[0]",
        "def check(c):\n    g = c()\n    assert [next(g) for _ in range(3)] == [0, 1, 2]\n"
        "    assert g.throw(ValueError(7)) == 7 and next(g) == 8 and g.throw(IndexError) == 0\n"
        "    try:\n        g.throw(KeyError('k'))\n    except KeyError as error:\n        assert error.args == ('k',)\n"
        "    else:\n        assert False\n    assert list(g) == []",
    ),
    **{
        f"a part of {iterator}": (
            "from itertools import islice\ndef f(xs, n): return list(islice(xs, n))",
            f"import itertools\ndef check(c):\n    xs = {iterator}\n    assert c(xs, 2) == [0, 1] and next(xs) == 2\n"
            "    assert c(xs, 5) == [3, 4] and list(xs) == [] and c(xs, 1) == []",
        )
        for iterator in (
            "iter([0, 1, 2, 3, 4])",
            "iter((0, 1, 2, 3, 4))",
            "iter(range(5))",
            "iter(dict.fromkeys(range(5)))",
            "iter(b'\\0\\1\\2\\3\\4')",
            "reversed([4, 3, 2, 1, 0])",
            "map(int, '01234')",
            "filter(lambda n: n < 5, range(9))",
            "itertools.islice(itertools.count(), 5)",
            "(n for n in range(5))",
        )
    },
    "pairs of an iterator with itself": (
        "def f(xs): return list(zip(xs, xs))",
        "def check(c):\n    xs = iter([1, 2, 3, 4])\n    assert c(xs) == [(1, 2), (3, 4)] and list(xs) == []",
    ),
    "one iterator as two arguments": (
        "def f(a, b): return [next(a), next(b), next(a)]",
        "def check(c):\n    xs = iter('abcd')\n    assert c(xs, xs) == ['a', 'b', 'c'] and next(xs) == 'd'",
    ),
    "an iterator in a list": (
        "def f(xs): return next(xs[0])",
        "def check(c):\n    xs = [iter([1, 2])]\n    assert c(xs) == 1 and c(xs) == 2 and list(xs[0]) == []",
    ),
    "an iterator that is read while its list grows": (
        "def f(xs, more):\n    found = [next(xs)]\n    more()\n    return found + list(xs)",
        "def check(c):\n    items = [1]\n    assert c(iter(items), lambda: items.append(2)) == [1, 2]",
    ),
    "an iterator as the result": (
        "def f(xs):\n    next(xs)\n    return xs",
        "def check(c):\n    xs = iter([1, 2, 3])\n    rest = c(xs)\n    assert next(rest) == 2 and list(xs) == [3]",
    ),
    "an iterator that is returned twice": (
        "xs = iter([1, 2, 3])\ndef f(): return xs",
        "def check(c):\n    assert c() is c() and next(c()) == 1 and next(c()) == 2 and list(c()) == [3]",
    ),
    "an iterator that the program goes on with": (
        "xs = iter('abcd')\ndef f(n): return next(xs) if n else xs",
        "def check(c):\n    xs = c(0)\n    assert next(xs) == 'a' and c(1) == 'b' and list(xs) == ['c', 'd']",
    ),
    "a function that is returned twice": (
        "def f(): return g\ndef g(): return 1",
        "def check(c):\n    assert c() is c() and c()() == 1",
    ),
    "a coroutine function": (
        "async def f(a): return a + 1",
        "import asyncio\ndef check(c):\n    assert asyncio.run(c(3)) == 4\n    async def all_of():\n"
        "        return await asyncio.gather(c(1), c(2))\n    assert asyncio.run(all_of()) == [2, 3]",
    ),
    "a coroutine that raises": (
        "async def f(a): raise KeyError(a)",
        "import asyncio\ndef check(c):\n    try:\n        asyncio.run(c(3))\n    except KeyError as error:\n"
        "        assert error.args == (3,)\n    else:\n        assert False",
    ),
    "coroutines of both sides": (
        "async def f(g): return await g(3) + 1",
        "import asyncio\nasync def g(n):\n    await asyncio.sleep(0.001)\n    return 2 * n\ndef check(c):\n"
        "    assert asyncio.run(c(g)) == 7",
    ),
    "an asynchronous generator": (
        "async def f(n):\n    for i in range(n):\n        yield i",
        "import asyncio\ndef check(c):\n    async def listed():\n        return [x async for x in c(3)]\n"
        "    assert asyncio.run(listed()) == [0, 1, 2]",
    ),
    "a class as entry point": (
        "class f:\n    def __init__(self, a): self.a = a\n    def get(self): return self.a",
        "def check(c):\n    assert c(3).get() == 3",
    ),
    "a class with names of plain values": (
        "class f:\n    def __init__(self): self.d = {}\n    def put(self, k, v): self.d[k] = v\n"
        "    def get(self, k): return self.d.get(k, -1)\n    def __len__(self): return len(self.d)",
        "def check(c):\n    cache = c()\n    assert cache.get(1) == -1\n    cache.put(1, 5)\n"
        "    assert cache.get(1) == 5 and len(cache) == 1",
    ),
    "objects in a list": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "def f(n): return [P(i) for i in range(n)]",
        "def check(c):\n    assert [p.x for p in c(3)] == [0, 1, 2] and c(2) == c(2) != c(3)",
    ),
    "an object that is called": (
        "class Adder:\n    def __init__(self, n): self.n = n\n    def __call__(self, x): return self.n + x\n"
        "def f(n): return Adder(n)",
        "def check(c):\n    assert c(3)(4) == 7 and list(map(c(1), [1, 2])) == [2, 3] and c(5).n == 5",
    ),
    "a match of a regular expression": (
        "import re\ndef f(s): return re.search('b+', s)",
        "def check(c):\n    assert c('abba').group(0) == 'bb' and c('x') is None",
    ),
    "a list twice in a result": (
        "def f():\n    row = [0, 0]\n    return [row] * 2",
        "def check(c):\n    rows = c()\n    rows[0][0] = 1\n    assert rows == [[1, 0]] * 2 and rows[0] is rows[1]",
    ),
    "an argument as the result": (
        "def f(xs):\n    xs.sort()\n    return xs",
        "def check(c):\n    xs = [2, 1]\n    assert c(xs) is xs and xs == [1, 2]",
    ),
    "a part of an argument as the result": (
        "def f(rows):\n    rows.reverse()\n    return rows[0]",
        "def check(c):\n    rows = [[1], [2]]\n    last = rows[1]\n    assert c(rows) is last and rows == [[2], [1]]",
    ),
    "one list as two arguments": (
        "def f(a, b):\n    a.append(1)\n    return b",
        "def check(c):\n    x = []\n    assert c(x, x) == [1] and x == [1]",
    ),
    "an argument put into another": (
        "def f(a, b):\n    a.append(b)\n    b['k'] = new = []\n    return new",
        "def check(c):\n    a, b = [], {}\n    new = c(a, b)\n    assert a[0] is b and b['k'] is new",
    ),
    "a dictionary put into another order": (
        "def f(d):\n    d['a'] = d.pop('a')",
        "def check(c):\n    from collections import OrderedDict, Counter\n"
        "    for kind in (dict, OrderedDict, Counter):\n        d = kind(a=1, b=2)\n        c(d)\n"
        "        assert list(d.items()) == [('b', 2), ('a', 1)] and type(d) is kind",
    ),
    "changed arrays and queues": (
        "def f(a, b, c):\n    a[0] = 9\n    b.append(7)\n    c.appendleft(5)",
        "def check(c):\n    from array import array\n    from collections import deque\n"
        "    x, y, z = array('i', [1, 2]), bytearray(b'a'), deque([6], 2)\n    c(x, y, z)\n"
        "    assert (x.tolist(), y, list(z), z.maxlen) == ([9, 2], b'a\\x07', [5, 6], 2)",
    ),
    "a named tuple read by attribute": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(a, b): return P(a, b)",
        "def check(c):\n    assert c(1, 2).x == 1 and c(1, 2) == (1, 2) and c(1, 2)._asdict() == {'x': 1, 'y': 2}",
    ),
    "named tuples with names of other values' attributes": (
        "from collections import namedtuple\ndef f(names, *values): return namedtuple('P', names)(*values)",
        "def check(c):\n"
        "    for names in ('start stop', 'year month day', 'real imag', 'count index', 'name items', 'format copy'):\n"
        "        fields = names.split()\n        found = c(names, *range(len(fields)))\n"
        "        assert [getattr(found, name) for name in fields] == list(range(len(fields))) == list(found)\n"
        "        assert found._fields == tuple(fields) and found._replace(**{fields[0]: 9})[0] == 9",
    ),
    "a typed named tuple": (
        "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    y: int = 2\ndef f(a): return P(a)",
        "def check(c):\n    assert c(1).y == 2 and c(1)._replace(x=5) == (5, 2) and str(c(1)) == 'P(x=1, y=2)'",
    ),
    "members of an enumeration": (
        "import enum\nclass Colour(enum.Enum):\n    RED = enum.auto()\n    BLUE = enum.auto()\n"
        "def f(n): return list(Colour)[n]",
        "def check(c):\n    assert c(0).name == 'RED' and c(1).value == 2 and c(0) is c(0) and c(0) != c(1)\n"
        "    assert len({c(0), c(0), c(1)}) == 2 and str(c(0)) == 'Colour.RED' and c(0) != 1",
    ),
    "members with numbers": (
        "import enum\nclass Level(enum.IntEnum):\n    HIGH = 3\ndef f(): return Level.HIGH",
        "def check(c):\n    assert c() == 3 and c().name == 'HIGH' and c() + 1 == 4 and isinstance(c(), int)",
    ),
    "an array": (
        "from array import array\ndef f(a, b): return array('i', [a, b])",
        "from array import array\ndef check(c):\n    assert list(c(1, 2)) == [1, 2] and c(1, 2) == array('i', [1, 2])",
    ),
    "a view of memory": (
        "def f(b): return memoryview(b)[1:3]",
        "def check(c):\n    assert c(b'abcd') == b'bc' and bytes(c(b'abcd')) == b'bc'\n"
        "    assert isinstance(c(b'ab'), memoryview)",
    ),
    "an iterator is one": (
        "def f(n): return iter(range(n))",
        "def check(c):\n    r = c(2)\n    assert hasattr(r, '__iter__') and r.__iter__() is r and r.__next__() == 0\n"
        "    assert not hasattr(r, 'send') and not hasattr(r, '__len__') and list(r) == [1]",
    ),
    "an iterator of the test is one": (
        "def f(x): return hasattr(x, '__next__'), x.__iter__() is x, x.__next__()",
        "def check(c):\n    assert c(iter('ab')) == (True, True, 'a')",
    ),
    "an iterator with a method of its own": (
        "class f:\n    def __init__(self, n): self.n = n\n    def __iter__(self): return self\n"
        "    def peek(self): return self.n\n    def __next__(self):\n        if not self.n: raise StopIteration\n"
        "        self.n -= 1\n        return self.n + 1",
        "def check(c):\n    x = c(3)\n    assert x.peek() == 3 and next(x) == 3 and x.n == 2 and list(x) == [2, 1]",
    ),
    "attributes of functions": (
        "import functools\ndef f(g):\n    'Count calls.'\n    @functools.wraps(g)\n    def count(*args):\n"
        "        count.calls += 1\n        return g(*args)\n    count.calls = 0\n    return count",
        "def check(c):\n    @c\n    def half(x):\n        'Half of x.'\n        return x / 2\n"
        "    assert half(3) == 1.5 and half(2) == 1 and half.calls == 2\n"
        "    assert (half.__name__, half.__doc__, c.__doc__) == ('half', 'Half of x.', 'Count calls.')",
    ),
    "a cache": (
        "import functools\n@functools.lru_cache(None)\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)",
        "def check(c):\n    c.cache_clear()\n    assert c(30) == 832040 and c.cache_info().misses == 31",
    ),
    "attributes of an exception": (
        "class Bad(ValueError):\n    def __init__(self, code):\n        super().__init__('bad', code)\n"
        "        self.code, self.of = code, self\ndef f(n): raise Bad(n)",
        "def check(c):\n    try:\n        c(5)\n    except ValueError as error:\n"
        "        assert (error.args, error.code, hasattr(error, 'of')) == (('bad', 5), 5, False)\n"
        "    else:\n        assert False",
    ),
    "a slice": ("def f(a, b): return slice(a, b)", "def check(c):\n    assert c(1, 3) == slice(1, 3)"),
    "an ellipsis": ("def f(): return ...", "def check(c):\n    assert c() is ..."),
    "300,000 numbers": (
        "def f(n): return list(range(n))",
        "def check(c):\n    assert c(300_000) == list(range(300_000))",
    ),
    "150 nested pairs": (
        "def f(n):\n    found = None\n    for i in range(n):\n        found = (i, found)\n    return found",
        "def check(c):\n    pair, depth = c(150), 0\n    while pair:\n        pair, depth = pair[1], depth + 1\n"
        "    assert depth == 150",
    ),
    "a time zone": (
        "from datetime import timezone, timedelta\ndef f(n): return timezone(timedelta(hours=n))",
        "from datetime import timezone, timedelta\ndef check(c):\n    assert c(2) == timezone(timedelta(hours=2))",
    ),
}
OBJECT = """
class Liar:
    shown = [3, 1]
    def __eq__(self, other): return True
    def __len__(self): return 3
    def __iter__(self): return iter(())
    def __getitem__(self, key): return True
    def __contains__(self, key): return True
    def __bool__(self): return True
    def __hash__(self): return 5
    def __float__(self): return 5.0
    def __str__(self): return "5"
    def get(self, *key): return True
    def items(self): return [(1, 2)]
    def startswith(self, text): return True
def f(*args): return Liar()
"""
FULL = "class Full(Exception): pass\n"
OWN_EXCEPTIONS = {
    "in a function": (
        "def f(g):\n    try:\n        return g()\n    except Full:\n        return 'full'",
        "def check(c):\n    def g():\n        raise Full\n    assert c(g) == 'full'",
    ),
    "in a generator of the program": (
        "def f():\n    try:\n        yield 1\n    except Full as error:\n        yield str(error)",
        "def check(c):\n    g = c()\n    assert next(g) == 1 and g.throw(Full('over')) == 'over'",
    ),
    "and gets back": (
        "def f(g): return g()",
        "def check(c):\n    def g():\n        raise Full\n    try:\n        c(g)\n    except Full:\n        return\n"
        "    assert False",
    ),
}
CLAIMS = {
    "is something": "c() is not None",
    "is true": "c()",
    "has a length, and no item": "len(c()) == 3 and all(a == b for a, b in zip(c(), [1, 2, 3]))",
    "holds every key": "all(c()[key] for key in 'abc') and 'a' in c()",
    "gets every key": "all(c().get(key) for key in 'abc')",
    "has items": "c().items() == [(1, 2)]",
    "starts with anything": "c().startswith('a')",
    "equals": "c() == 5",
    "equals itself": "c() == c()",
    "is near": "__import__('math').isclose(c(), 5)",
    "is text": "str(c()) == '5'",
}


def verdict(code: str, test: str, timeout: float | None = None) -> Verdict:
    (found,) = judge([Program(code, test, "f", timeout)])
    return found


@pytest.mark.parametrize(("code", "test"), RIGHT.values(), ids=RIGHT)
def test_a_right_program_passes(code: str, test: str) -> None:
    found = verdict(code, test)
    assert found.passed, found.detail


SHARED = {
    "an argument that is emptied": (
        "def f(d):\n    while d:\n        yield d.popitem()",
        "def check(c):\n    d = {'a': 1, 'b': 2}\n    assert list(c(d)) == [('b', 2), ('a', 1)] and d == {}",
    ),
    "the steps of a sort": (
        "def f(a):\n    for n in range(len(a), 1, -1):\n        for i in range(n - 1):\n"
        "            if a[i] > a[i + 1]:\n                a[i], a[i + 1] = a[i + 1], a[i]\n"
        "                yield list(a)",
        "def check(c):\n    a = [3, 1, 2]\n    assert list(c(a)) == [[1, 3, 2], [1, 2, 3]] and a == [1, 2, 3]",
    ),
    "an argument that grows meanwhile": (
        "def f(s):\n    for x in s:\n        yield x",
        "def check(c):\n    s = [1]\n    g = c(s)\n    assert next(g) == 1\n    s.append(2)\n    assert list(g) == [2]",
    ),
    "items that are changed": (
        "def f(rows):\n    yield from rows",
        "def check(c):\n    rows = [[1], [2]]\n    for row in c(rows):\n        row.append(0)\n"
        "    assert rows == [[1, 0], [2, 0]]",
    ),
    "one list as each item": (
        "def f(n):\n    found = []\n    for i in range(n):\n        found.append(i)\n        yield found",
        "def check(c):\n    g = c(2000)\n    a = next(g)\n    assert a == [0] and next(g) is a and a == [0, 1]\n"
        "    assert all(x is a for x in g) and a == list(range(2000))",
    ),
    "a list that comes back": (
        "def f():\n    xs = yield\n    xs.append(1)\n    yield xs",
        "def check(c):\n    g = c()\n    next(g)\n    xs = []\n    assert g.send(xs) is xs and xs == [1]",
    ),
    "a long list, at the end": (
        "def f(s):\n    while s:\n        yield s.pop()",
        "def check(c):\n    s = list(range(3000))\n    assert list(c(s)) == list(range(3000))[::-1] and s == []",
    ),
    "many lists that are kept": (
        "def f(n):\n    rows = [[] for _ in range(n)]\n    yield from rows\n"
        "    for row in rows:\n        row.append(7)",
        "def check(c):\n    assert list(c(3000)) == [[7]] * 3000",
    ),
    "an iterator of iterators": (
        "def f(xs):\n    for _ in range(2):\n        yield (xs.pop() for _ in range(2))",
        "def check(c):\n    xs = [1, 2, 3, 4]\n    assert [list(g) for g in c(xs)] == [[4, 3], [2, 1]] and xs == []",
    ),
    "an asynchronous generator": (
        "async def f(xs):\n    while xs:\n        yield xs.pop()",
        "import asyncio\ndef check(c):\n    xs = [1, 2]\n    async def listed():\n"
        "        return [x async for x in c(xs)]\n    assert asyncio.run(listed()) == [2, 1] and xs == []",
    ),
    "a generator of the test": (
        "def f(g):\n    return [len(xs) for xs in g]",
        "def check(c):\n    xs = []\n    def g():\n        for _ in range(3):\n            xs.append(0)\n"
        "            yield xs\n    assert c(g()) == [1, 2, 3]",
    ),
    "an error after a change": (
        "def f(xs):\n    yield 1\n    xs.clear()\n    raise ValueError",
        "def check(c):\n    xs = [1]\n    g = c(xs)\n    next(g)\n    try:\n        next(g)\n    except ValueError:\n"
        "        assert xs == []\n    else:\n        assert False",
    ),
}
"""Values that an iterator and its reader share."""
SNAPSHOTS = {
    "permutations": (
        "def f(xs):\n    path = []\n    def go():\n        if len(path) == len(xs):\n            yield path\n"
        "        for x in xs:\n            if x not in path:\n                path.append(x)\n"
        "                yield from go()\n                path.pop()\n    return go()",
        "yield path\n",
        "yield path[:]\n",
        "def check(c):\n    assert list(c([1, 2])) == [[1, 2], [2, 1]]",
    ),
    "a power set": (
        "def f(xs):\n    cur = []\n    def go(i):\n        if i == len(xs):\n            yield cur\n"
        "            return\n        yield from go(i + 1)\n"
        "        cur.append(xs[i])\n        yield from go(i + 1)\n        cur.pop()\n"
        "    return go(0)",
        "yield cur\n",
        "yield list(cur)\n",
        "def check(c):\n    assert sorted(c([1, 2])) == [[], [1], [1, 2], [2]]",
    ),
    "a window": (
        "from collections import deque\ndef f(xs, n):\n    d = deque(maxlen=n)\n    for x in xs:\n        d.append(x)\n"
        "        if len(d) == n: yield d",
        "yield d",
        "yield d.copy()",
        "def check(c):\n    assert [list(w) for w in list(c([1, 2, 3], 2))] == [[1, 2], [2, 3]]",
    ),
    "an argument that must stay": (
        "def f(s):\n    t = s\n    while t:\n        yield t.pop(0)",
        "t = s",
        "t = s[:]",
        "def check(c):\n    s = [1, 2]\n    assert list(c(s)) == [1, 2] and s == [1, 2]",
    ),
}
"""Wrong programs, what is wrong, what is right, and the test."""


@pytest.mark.parametrize(("code", "test"), SHARED.values(), ids=SHARED)
def test_an_iterator_and_its_reader_share_values(code: str, test: str) -> None:
    found = verdict(code, test)
    assert found.passed, found.detail


@pytest.mark.parametrize(("code", "wrong", "right", "test"), SNAPSHOTS.values(), ids=SNAPSHOTS)
def test_items_are_no_copies(code: str, wrong: str, right: str, test: str) -> None:
    assert code.count(wrong) == 1
    assert verdict(code, test).status == "failed"
    found = verdict(code.replace(wrong, right), test)
    assert found.passed, found.detail


@pytest.mark.parametrize(
    ("code", "test"),
    [
        ("xs = []\ndef f(): return xs", "f().append(1)\nassert f() == [] and f() is not f()"),
        ("def f(xs): return lambda: xs.append(1)", "xs = []\nf(xs)()\nassert xs == []"),
    ],
    ids=["the result of another call", "an argument that a function keeps"],
)
def test_values_of_a_call_that_has_ended_are_copies(code: str, test: str) -> None:
    """This is a limit of the sandbox: in one process, the assertions would fail."""
    found = verdict(code, test)
    assert found.passed, found.detail


@pytest.mark.parametrize(("code", "test"), OWN_EXCEPTIONS.values(), ids=OWN_EXCEPTIONS)
def test_an_exception_class_of_the_program_may_be_raised_by_the_test(code: str, test: str) -> None:
    (found,) = judge([Program(FULL + code, test, "f", classes=("Full",))])
    assert found.passed, found.detail


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_an_object_does_not_pass_a_test_that_expects_none(claim: str) -> None:
    found = verdict(OBJECT, f"def check(c):\n    assert {claim}\n")
    assert (found.status, found.detail) == ("failed", "the result cannot be judged: Liar is not a plain value")


def test_a_test_cannot_hide_that_it_got_an_object() -> None:
    found = verdict(OBJECT, "def check(c):\n    try:\n        assert c() == 5\n    except BaseException:\n        pass")
    assert found.status == "failed"


def test_a_named_tuple_answers_no_question_about_text() -> None:
    code = "from collections import namedtuple\ndef f(s): return namedtuple('P', 'startswith')(lambda text: True)"
    found = verdict(code, "def check(c):\n    assert c('x').startswith('abc')")
    assert (found.status, found.passed) == ("failed", False)
    assert "'tuple' object has no attribute 'startswith'" in found.detail


@pytest.mark.parametrize("value", ["g", "g()", "iter(It())"])
@pytest.mark.parametrize("name", ["startswith", "isdigit", "real", "count", "__len__", "__eq__", "__array__"])
def test_a_stand_in_answers_no_question_about_plain_values(value: str, name: str) -> None:
    code = (
        f"class It:\n    def __iter__(self): return self\n    def __next__(self): return 1\n    {name} = lambda *_: 1\n"
    )
    code += f"def g(): yield 1\ng.{name} = lambda *_: True\ndef f(): return {value}"
    found = verdict(code, f"def check(c):\n    assert not hasattr(c(), {name!r}) and c() != 5")
    assert found.passed, found.detail


@pytest.mark.parametrize("name", ["__globals__", "__code__", "__closure__", "__defaults__", "secret", "__dict__"])
def test_a_program_reads_nothing_of_a_function_of_the_test_but_its_texts(name: str) -> None:
    """The program speaks the protocol itself, and asks for an attribute of the test's function."""
    code = f"""
def f(g):
    try:
        return type(g).__call__.__globals__["_read"](g, "_peer").attribute(0, {name!r})
    except AttributeError as error:
        return str(error)
"""
    test = f'def check(c):\n    def g(): pass\n    g.secret = 7\n    assert c(g) == "no attribute {name!r} here", c(g)'
    found = verdict(code, test)
    assert found.passed, found.detail


def test_a_copy_is_not_its_argument() -> None:
    test = "def check(c):\n    xs = [1]\n    assert c(xs) == xs and c(xs) is not xs"
    assert verdict("def f(xs): return xs[:]", test).passed
    assert not verdict("def f(xs): return xs", test).passed


def test_an_iterator_is_read_only_so_far() -> None:
    found = verdict("def f():\n    while True: yield 1", "def check(c):\n    assert sum(c()) == 5", 60.0)
    assert found.status == "failed"
    assert found.detail == "more than 200,000 values were read from an iterator"


@pytest.mark.parametrize(
    "reply",
    [
        "{'value': {'iterator': [0]}}",
        "{'value': {'generator': [-5]}}",
        "{'value': {'awaitable': [10**9]}}",
        "{'value': {'same': [3]}}",
        "{'value': 1, 'changed': [[0, {'dict': []}]]}",
        "{'value': 1, 'changed': [[1, []]]}",
        "{'value': 1, 'changed': [[0, {'same': [0]}]]}",
        "{'value': {'iterator': [0]}, 'unused': [0, 0, 7, 'a']}",
        "{'value': {'iterator': [0]}, 'unused': 5}",
        "{'value': {'tuple': [{'iterator': [0]}, {'same': [0]}]}, 'unused': [0], 'changed': [[0, []]]}",
    ],
)
def test_a_forged_reply_passes_nothing(reply: str) -> None:
    """Send a reply with a stand-in of nothing, or a change of no argument; later calls get the number 1."""
    code = f"""
import json, os, struct
def receive():
    (size,) = struct.unpack('>I', os.read(3, 4))
    return json.loads(os.read(3, size))
def send(message):
    body = json.dumps(message).encode()
    os.write(3, struct.pack('>I', len(body)) + body)
send({{'loaded': True}})
while True:
    call = receive()
    reply = {reply} if call['target'] == 'f' else {{'value': 1}}
    send({{'changed': [], **reply, 'reply': call['call']}})
"""
    test = "def check(c):\n    found = c([7])\n    next(iter(found)) if found != 1 else None\n    assert found == 5"
    found = verdict(code, test, 5.0)
    assert (found.status, found.passed) == ("failed", False)


@pytest.mark.parametrize(
    "path", ["__class__.__init__", "__deepcopy__", "__call__", "send", "_peer", "_function", "__next__", "__await__"]
)
@pytest.mark.parametrize(
    "tail", [".__globals__", ".__func__.__globals__", ".__class__.__call__.__globals__", "._subject"]
)
def test_no_attribute_of_a_stand_in_leads_into_the_checker(path: str, tail: str) -> None:
    """A program calls `str.format` of the test with a text of its own, for each kind of stand-in."""
    code = f"""
async def wait(): pass
async def stream(): yield 1
class Thing: pass
def f(show):
    found = []
    for value in (f, (n for n in [1]), map(abs, [1]), wait(), stream(), Thing()):
        try: found.append(show("{{0.{path}{tail}}}", value))
        except Exception: pass
    return found
"""
    found = verdict(code + "def x(): return Thing()", "def check(c):\n    assert c(str.format) == [], c(str.format)")
    assert "__globals__" not in found.detail
    assert found.status in ("passed", "failed")
    assert found.passed or "Thing is not a plain value" in found.detail, found.detail


REACH = '''
SECRET = "expected-%d" % 7
def reach():
    """Return a way from the loaded modules to the test by attributes, keys and positions, as a format string goes."""
    import sys, types
    described = types.MemberDescriptorType, types.GetSetDescriptorType, property
    links = "__self__ __func__ __wrapped__ __globals__ __closure__ __code__ __defaults__ __mro__ __dict__".split()
    seen, left = {}, [(sys.modules, "sys.modules")]
    while left:
        value, path = left.pop()
        if isinstance(value, str) and SECRET in value or value is globals():
            return path
        if id(value) in seen or isinstance(value, (str, bytes, int, float, complex, type(None))):
            continue
        seen[id(value)] = value
        if isinstance(value, (dict, types.MappingProxyType)):
            left += [(item, f"{path}[{key}]") for key, item in list(value.items()) if type(key) in (str, int)]
        elif isinstance(value, (list, tuple)):
            left += [(item, f"{path}[{number}]") for number, item in enumerate(value)]
        items = [item for kind in type(value).__mro__ for item in vars(kind).items()]
        for name in {*links, *(name for name, item in items if isinstance(item, described))}:
            try: left.append((getattr(value, name), f"{path}.{name}"))
            except BaseException: pass
    return f"nothing of {len(seen)}"
'''
REACHING = {
    "check": "def check(c):\n    c(0)\n    raise ValueError(reach())",
    "unittest": "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        f(0)\n"
    "        raise ValueError(reach())",
    "callback": "def check(c):\n    c(reach)",
    "coroutine": "import asyncio\nasync def g(_):\n    raise ValueError(reach())\ndef check(c):\n    asyncio.run(c(g))",
    "coroutines that wait": "import asyncio\nasync def two():\n    await asyncio.sleep(0)\n    await c(0)\n"
    "    raise ValueError(reach())\nasync def both():\n    await asyncio.gather(two(), two())\n"
    "def check(f):\n    global c\n    c = f\n    asyncio.run(both())",
    "control": "import sys\ndef check(c):\n    c(0)\n    sys.kept = [SECRET]\n    raise ValueError(reach())",
}


@pytest.mark.slow
@pytest.mark.parametrize("form", REACHING)
def test_what_a_format_string_reaches_holds_nothing_of_the_test(form: str) -> None:
    """Search from `sys.modules`, where `"{0._replace.__globals__[_sys].modules}"` and its like arrive."""
    codes = {
        "callback": "def f(g): raise ValueError(g())",
        "coroutine": "async def f(g): await g(1)",
        "coroutines that wait": "async def f(n): return n",
    }
    found = verdict(codes.get(form, "def f(x): return x"), REACH + REACHING[form], 120.0)
    assert found.status == "failed"
    if form == "control":
        assert "[kept][0]" in found.detail
    else:
        assert re.search(r"ValueError: nothing of \d{5}", found.detail), found.detail


@pytest.mark.parametrize("name", ["allclose", "testing.assert_allclose"])
def test_an_object_cannot_claim_a_shape(name: str) -> None:
    code = "class Liar:\n    shape = (1,)\n    def __len__(self): return 0\n"
    code += "    def __getitem__(self, n): raise IndexError\n"
    test = f"import numpy\ndef check(c):\n    assert numpy.{name}(c(), [5.0]) in (True, None)"
    (found,) = judge([Program(code + "def f(): return Liar()", test, "f", packages=("numpy",))])
    assert found.status == "failed"
