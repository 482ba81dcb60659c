"""Verdicts: forms of tests, transferred values, statuses, order, and refused programs."""

import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.sandbox import Program, Verdict, judge, probe

DENIED = ("PermissionError", "FileNotFoundError")  # by Landlock, and by the mount namespace
ADD = Program("def add(a, b):\n    return a + b\n", "def check(candidate):\n    assert candidate(2, 3) == 5\n", "add")


def verdict(code: str, test: str, entry_point: str = "f", prompt: str = "") -> Verdict:
    (only,) = judge([Program(code, test, entry_point, prompt=prompt)])
    return only


def passes(code: str, test: str, entry_point: str = "f", prompt: str = "") -> bool:
    return verdict(code, test, entry_point, prompt).passed


def test_a_right_program_passes_and_a_wrong_one_does_not() -> None:
    right, wrong = judge([ADD, replace(ADD, code="def add(a, b):\n    return a - b\n")])
    assert (right.status, right.passed, right.detail) == ("passed", True, "")
    assert (wrong.status, wrong.passed) == ("failed", False)
    assert wrong.detail == "AssertionError, line 2 of the test: assert candidate(2, 3) == 5"
    assert right.level == probe().level
    assert right.seconds > 0


def test_plain_assertions_call_functions_by_name() -> None:
    code = "import math\ndef double(x): return 2 * x\ndef f(x): return double(x) + 1\n"
    assert passes(code, "assert f(2) == 5\nassert double(4) == 8 and math.floor(1.5) == 1")
    assert not passes(code, "assert f(2) == 5\nassert double(4) == 9")


def test_only_the_entry_point_may_shadow_a_builtin() -> None:
    code = "def abs(x): return 0\ndef sum(a, b): return a * b\n"
    assert not passes(code, "assert abs(sum(2, 3) - 9) < 1", "sum")
    assert passes(code, "assert sum(2, 3) == 6", "sum")


def test_names_that_the_test_or_the_prompt_defines_are_not_the_program_s() -> None:
    prompt = "def poly(x): return x * x - 4\ndef root():\n    ''' a root of poly '''\n"
    test = "def check(candidate):\n    assert abs(poly(candidate())) < 1e-9\n"
    assert passes("    return 2\n", test, "root", prompt)
    assert not passes("    return 7\ndef poly(x): return 0\n", test, "root", prompt)
    assert not passes("def root(): return 7\ndef poly(x): return 0\n", prompt.split("def root")[0] + test, "root")


def test_a_prompt_may_be_an_incomplete_function() -> None:
    assert passes("    return 1\n", "assert f() == 1", prompt="def f():\n")


@pytest.mark.parametrize(
    ("end", "body"),
    [
        ("def root():\n", "    return 2\n"),
        ("def root():", "\n    return 2\n"),
        ("async def root():\n", "    return 2\n"),
        ("@staticmethod\ndef root(\n    *a,\n):\n    # or 5\n    return (\n", "        2)\n"),
    ],
)
def test_a_prompt_that_ends_within_a_function_defines_its_helpers(end: str, body: str) -> None:
    prompt = "def poly(x): return x * x - 4\n\n" + end
    test = "def check(candidate):\n    assert abs(poly(2)) < 1e-9 and poly(5) == 21\n    candidate()\n"
    assert passes(body, test, "root", prompt)
    assert passes(body + "def poly(x): return 0\n", test, "root", prompt)
    assert not passes(body, test.replace("21", "0"), "root", prompt)
    assert not passes(body + "def poly(x): return 0\n", test.replace("21", "0"), "root", prompt)


def test_a_prompt_without_a_helper_that_the_test_needs_says_why() -> None:
    prompt = "def root(): return 1\nvalue = root()[0]\nclass Helper: pass\n"
    found = verdict("", "assert Helper and root() == 1", "root", prompt)
    assert found.detail.startswith("TypeError: 'int' object is not subscriptable")
    prompt = "import sys\nif sys.argv != ['program']: raise KeyError(1)\nname = 1\n"
    found = verdict("def root(): return 1", "assert root() == name", "root", prompt)
    assert found.detail == "PromptError: the prompt does not define name, because it raises KeyError: 1"
    assert passes("def root(): return 1", "assert root() == 1", "root", prompt)


def test_the_program_may_define_check() -> None:
    code = "def check(n): return n % 2 == 0\ndef even(n): return check(n)\n"
    assert passes(code, "def check(candidate):\n    assert candidate(4) and not candidate(5)\n", "even")
    assert passes(code, "assert check(4) and not check(5)", "check")


def test_a_test_that_calls_no_function_of_the_program_fails() -> None:
    assert verdict("def f(): return 1", "assert True").detail == "the test called no function of the program"
    assert not passes("def f(): return 1", "def check(candidate): pass")


@pytest.mark.parametrize(
    ("check", "status", "output"),
    [
        ("return f'{candidate(1)} and \\n\\ud800'", "passed", "1 and \n\ud800"),
        ("return '' if candidate(1) else 'x'", "passed", ""),
        ("return 'x' * 99_999 + str(candidate(1))", "passed", "x" * 99_999 + "1"),
        ("return 'x' * 100_000 + str(candidate(1))", "failed", None),
        ("return candidate(1)", "passed", None),
        ("candidate(1)", "passed", None),
        ("return 'nothing was called'", "failed", None),
        ("candidate(1); assert False, 'text'", "failed", None),
        ("return candidate", "failed", None),
    ],
)
def test_text_that_check_returns_is_the_output_of_a_passed_test(check: str, status: str, output: str | None) -> None:
    found = verdict("def f(x): return x", f"def check(candidate):\n    {check}\n")
    assert (found.status, found.output) == (status, output)


def test_a_test_without_a_check_has_no_output() -> None:
    found = verdict("def f(): return 1\ndef check(candidate): return 'text'", "assert f() == 1")
    assert (found.status, found.output) == ("passed", None)


def test_arguments_that_the_program_changes_are_copied_back() -> None:
    code = """
def f(xs, table, seen, rows):
    xs.sort(); table['k'] = [1]; seen.add(9); rows[0][0].append(5)
def g(xs):
    xs.pop()
    raise ValueError
"""
    test = """
xs, table, seen, inner = [3, 1, 2], {'a': 1}, {7}, [4]
rows = [(inner,), [0]]
f(xs, table, seen=seen, rows=rows)
assert xs == [1, 2, 3] and table == {'a': 1, 'k': [1]} and seen == {7, 9}
assert inner == [4, 5] and rows == [([4, 5],), [0]]
try: g(xs)
except ValueError: assert xs == [1, 2]
else: assert False
"""
    assert passes(code, test)


def test_functions_can_be_passed_in_both_directions() -> None:
    code = """
def twice(f, x): return f(f(x))
def adder(n): return lambda x: x + n
def both(f): return [f, adder(1)]
"""
    test = """
assert twice(lambda x: x * 3, 2) == 18
assert adder(3)(4) == 7
assert twice(adder(3), 1) == 7
assert [g(10) for g in both(str)] == ['10', 11]
assert twice(len, 'x') == 1 if False else True
"""
    assert passes(code, test, "twice")


def test_functions_of_the_test_may_be_called_from_threads() -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
def f(g, n):
    with ThreadPoolExecutor(8) as pool: return list(pool.map(g, range(n)))
"""
    assert passes(code, "assert f(lambda x: x * x, 200) == [x * x for x in range(200)]")


def test_an_exception_arrives_as_its_builtin_class() -> None:
    code = """
class Mine(KeyError):
    def __init__(self, x): super().__init__(f'no {x}')
def f(kind):
    if kind == 'own': raise Mine('a')
    if kind == 'file': raise FileNotFoundError(2, 'gone')
    raise ValueError('bad', 3)
"""
    test = """
def raised(kind):
    try: f(kind)
    except Exception as error: return type(error), error.args
assert raised('value') == (ValueError, ('bad', 3))
assert raised('file') == (FileNotFoundError, (2, 'gone'))
assert raised('own') == (KeyError, ('no a',))
"""
    assert passes(code, test)


def test_a_generator_is_an_iterator_and_not_a_list() -> None:
    code = "def f(n): yield from range(n)"
    assert passes(code, "g = f(3)\nassert next(g) == 0 and list(g) == [1, 2]")
    assert not passes(code, "assert f(3) == [0, 1, 2]")


def test_state_is_kept_between_the_calls_of_one_test_only() -> None:
    tick = "n = 0\ndef f():\n    global n\n    n += 1\n    return n\n"
    assert all(v.passed for v in judge([Program(tick, "assert f() == 1 and f() == 2", "f")] * 5, workers=1))


def test_an_object_of_another_class_fails() -> None:
    outcome = verdict("class A: pass\ndef f(): return [A()]", "try:\n    f()\nexcept BaseException: pass")
    assert (outcome.status, outcome.detail) == (
        "failed",
        "the result cannot be judged: A is not a plain value",
    )


def test_each_status_is_distinguished() -> None:
    codes = {
        "passed": "def add(a, b): return a + b",
        "failed": "def add(a, b): return 1 / 0",
        "timeout": "while True: pass",
        "crashed": "import os\ndef add(a, b): os._exit(3)",
    }
    verdicts = judge([replace(ADD, code=code, timeout=0.5) for code in codes.values()])
    assert [v.status for v in verdicts] == list(codes)
    assert "line 1 of the program" in verdicts[1].detail
    assert verdicts[2].detail == "no verdict within 0.5 s"
    assert verdicts[3].detail == "the program ended before it answered, exit status 3"


def test_a_sleeping_or_blocked_program_times_out() -> None:
    codes = [
        "import time\ntime.sleep(60)",
        "import threading\nthreading.Lock().acquire()\nthreading.Event().wait()",
    ]
    assert {v.status for v in judge([replace(ADD, code=c, timeout=0.3) for c in codes])} == {"timeout"}


def test_output_of_the_program_is_part_of_the_detail() -> None:
    code = "import sys\nprint('x' * 5000)\ndef f():\n    print('here \\x1b[31m'); sys.stderr.buffer.write(b'there')\n"
    detail = verdict(code, "assert f() == 1").detail
    assert "\nprinted: xxx" in detail
    assert detail.endswith("x\nhere \\x1b[31m\nthere")
    assert len(detail) <= 2000
    assert "\x1b" not in detail


def test_verdicts_come_in_the_order_of_the_programs() -> None:
    seen: dict[int, Verdict] = {}
    programs = [replace(ADD, code=f"def add(a, b): return a + b if {i} % 3 else 0") for i in range(20)]
    verdicts = judge(programs, workers=2, on_verdict=lambda i, v: seen.update({i: v}))
    assert [v.passed for v in verdicts] == [i % 3 != 0 for i in range(20)]
    assert [seen[i] for i in range(20)] == verdicts
    assert judge([]) == []


def test_several_threads_may_judge_at_once() -> None:
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(lambda _: judge([ADD] * 5, workers=2), range(3)))
    assert all(v.passed for verdicts in results for v in verdicts)


def test_an_exception_of_the_callback_reaches_the_caller() -> None:
    def stop(index: int, verdict: Verdict) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge([ADD] * 50, on_verdict=stop)
    assert judge([ADD])[0].passed


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_limit_must_be_a_positive_number(seconds: float) -> None:
    with pytest.raises(UsageError, match="timeout"):
        replace(ADD, timeout=seconds)


def test_a_program_that_is_too_long_fails() -> None:
    assert judge([replace(ADD, code="#" * (17 << 20))])[0].status == "failed"


def test_a_program_has_an_empty_environment_and_no_place_to_write() -> None:
    code = """
import os, sys
def f():
    found = []
    for where in ('', '/', '/tmp', '/dev/shm', '/var/tmp', os.path.dirname(os.__file__)):
        try: open(os.path.join(where, 'sbx_written'), 'w')
        except OSError as error: found.append(type(error).__name__)
    return dict(os.environ), sys.argv, sys.stdin.read(), found
"""
    assert passes(code, "assert f() == ({}, ['program'], '', ['PermissionError'] * 6), f()")


def test_installed_packages_cannot_be_read() -> None:
    """The package of a data set contains its answers."""
    package = Path(sysconfig.get_path("purelib"))
    beneath = Path(os.__file__).parent / "site-packages"
    files = [next(folder.rglob("*.py"), None) for folder in (package, beneath) if folder.exists()]
    paths = [str(file) for file in (*files, Path(pytest.__file__)) if file]
    code = """
def f(path):
    try: open(path)
    except OSError as error: return type(error).__name__
"""
    assert passes(code, f"for path in {paths}:\n    assert f(path) in {DENIED}, path")


def test_usual_programs_run() -> None:
    """Threads, an event loop, timers, devices, time zones and dataclasses work in the sandbox."""
    code = """
import asyncio, dataclasses, datetime, os, pickle, random, signal, sqlite3, sys, threading, time, typing, zoneinfo
from concurrent.futures import ThreadPoolExecutor

@dataclasses.dataclass
class Point:
    x: "int"

async def later(x):
    await asyncio.sleep(0.001)
    return x

def f():
    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(lambda x: x, range(100))) == 4950
    async def main():
        return await asyncio.gather(*map(later, range(3)))
    assert asyncio.run(main()) == [0, 1, 2]
    rang = []
    signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    while not rang: time.sleep(0.001)
    assert pickle.loads(pickle.dumps(Point(3))) == Point(3)
    assert typing.get_type_hints(Point) == {'x': int}
    with open(os.devnull, 'w') as sink: print('x', file=sink)
    assert len(os.urandom(4)) == 4 and random.random() < 1 and os.cpu_count()
    assert sqlite3.connect(':memory:').execute('select 1 + 1').fetchone() == (2,)
    sys.stdout.flush(); sys.setrecursionlimit(10_000)
    def deep(n): return 0 if n == 0 else 1 + deep(n - 1)
    assert deep(9_000) == 9_000
    zone = zoneinfo.ZoneInfo('UTC') if os.path.exists('/usr/share/zoneinfo/UTC') else datetime.timezone.utc
    return datetime.datetime(2020, 1, 1, tzinfo=zone)
"""
    test = "import datetime\nassert f() == datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)"
    outcome = verdict(code, test)
    assert outcome.passed, outcome.detail


def test_the_whole_standard_library_can_be_imported() -> None:
    """Every module that can be imported outside the sandbox can be imported inside."""
    # These print, draw, or need a terminal when imported.
    names = sorted(set(sys.stdlib_module_names) - {"antigravity", "this", "idlelib", "turtle", "turtledemo"})
    code = """
import importlib, os
def f(names):
    missing = []
    for name in names:
        try: importlib.import_module(name)
        except BaseException as error: missing.append(f'{name}: {type(error).__name__}')
    return missing
"""
    outside = f"{code}\nprint(sorted(set({names}) - {{line.split(':')[0] for line in f({names})}}))"
    available = subprocess.run(
        [sys.executable, "-S", "-W", "ignore", "-c", outside], capture_output=True, text=True, check=True
    ).stdout.strip()
    outcome = verdict(code, f"missing = f({available})\nassert not missing, missing")
    assert outcome.passed, outcome.detail
