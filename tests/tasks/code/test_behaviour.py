"""Tests of the behaviour of programs in the sandbox: honest, broken and hostile ones."""

from collections.abc import Sequence
from typing import Any

import pytest

import tasks.code.behaviour
from bench.errors import Refused
from bench.sandbox import Program, Verdict, judge
from bench.sandbox.timeout import default_timeout
from tasks.code.behaviour import Behaviour, observe_all

EXAMPLES = 'def f(x):\n    """Doubles x.\n    >>> f(1)\n    2\n    >>> f([3])\n    [3, 3]\n    """\n'
NONE = 'def f(x):\n    """Doubles x."""\n'
TWICE = "def f(x): return x * 2"


def watch(*codes: str, statement: str = EXAMPLES, name: str = "f") -> list[Behaviour]:
    programs = [Program(code, "assert False", name) for code in codes]
    return observe_all(programs, [statement] * len(codes), allow_unsandboxed=False)


def test_programs_that_do_the_same_share_a_vote_however_they_are_written() -> None:
    same, also, other = watch(TWICE, "def f(y):\n    z = y + y\n    return z", "def f(x): return x")
    assert same.vote is not None
    assert same.vote.basis == "behaviour"
    assert (same, same.signal) == (also, 1.0)
    assert other.vote not in (None, same.vote)
    assert other.signal == 0.0


def test_without_examples_programs_vote_by_syntax() -> None:
    codes = (TWICE, "def f(number): return number * 2", "def f(x): return x + x")
    one, renamed, equivalent = watch(*codes, statement=NONE)
    assert one.vote is not None
    assert one.vote.basis == "syntax"
    assert one == renamed
    assert equivalent.vote not in (None, one.vote)
    assert one.signal == equivalent.signal == 1.0


def test_results_stated_in_the_prompt_affect_the_signal_but_not_the_vote() -> None:
    (right,), (wrong,) = watch(TWICE), watch(TWICE, statement=EXAMPLES.replace("    2\n", "    9\n"))
    assert right.vote == wrong.vote
    assert (right.signal, wrong.signal) == (1.0, 0.5)


def test_an_exception_counts_as_a_result() -> None:
    doubles = "def f(x):\n    if x == 1: raise {}\n    return x * 2"
    value, key, mixed = watch(doubles.format("ValueError"), doubles.format("KeyError"), doubles.format("ValueError(1)"))
    assert value.vote is not None
    assert key.vote is not None
    assert value == mixed
    assert value.vote != key.vote
    assert value.signal == 0.5


BROKEN = {
    "nothing": "",
    "a remark": "# I cannot do that.",
    "the prompt again": EXAMPLES,
    "prose": "I cannot do that.",
    "half a function": "def f(x):\n    return (",
    "another function": "def g(x): return 2 * x",
    "raises when it is loaded": f"{TWICE}\nraise ValueError",
    "raises on every example": "def f(x): raise ValueError(x)",
    "exits": "def f(x): raise SystemExit(0)",
    "ends its process": "import os\ndef f(x): os._exit(0)",
    "ends its process when it is loaded": f"import os\n{TWICE}\nos._exit(0)",
    "never ends": "def f(x):\n    while True: pass",
    "never ends on one example": "def f(x):\n    while x != 1: pass\n    return 2",
    "returns what is not plain": "def f(x): return object()",
    "cannot be parsed": f"x = {'-' * 100_000}1\n{TWICE}",
}


@pytest.mark.parametrize("statement", [EXAMPLES, NONE], ids=["examples", "none"])
def test_a_program_that_does_not_run_has_no_vote_and_no_signal(monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    monkeypatch.setattr(tasks.code.behaviour, "default_timeout", lambda: 2.0)
    # Without examples, the function's body does not run.
    broken = {what: code for what, code in BROKEN.items() if statement is EXAMPLES or "def f(x)" not in code}
    found = watch(*broken.values(), statement=statement)
    assert {what: b for what, b in zip(broken, found, strict=True) if b != Behaviour(None, 0.0)} == {}


def test_a_partial_function_in_the_prompt_is_continued() -> None:
    program = Program("    return x * 2\n", "", "f", prompt=EXAMPLES)
    assert observe_all([program], [EXAMPLES], allow_unsandboxed=False) == watch(TWICE)


# Each program ignores its task and prints, sends or returns a forged vote or verdict.
FORGED = '{"key": "0", "basis": "behaviour", "passed": 1.0}'
VERDICT = f'{{"status": "passed", "detail": "", "output": {FORGED!r}}}'
HOSTILE = {
    "prints a vote": f"print({FORGED!r})\ndef f(x): raise ValueError",
    "prints a vote and ends": f"import os\nprint({FORGED!r}, flush=True)\nos._exit(0)",
    "sends a vote to every descriptor": f"""
import os, struct
for text in ({FORGED!r}, {VERDICT!r}):
    for fd in range(64):
        try: os.write(fd, struct.pack('>I', len(text)) + text.encode())
        except OSError: pass
{TWICE}""",
    "sends a vote when it is called": f"""
import os, struct
def f(x):
    os.write(3, struct.pack('>I', {len(VERDICT)}) + {VERDICT!r}.encode())
    return x * 2""",
    "raises a vote": f"def f(x): raise SystemExit({FORGED!r})",
    "returns an object that is equal to everything": """
class Yes:
    def __eq__(self, other): return True
    def __repr__(self): return '2'
def f(x): return Yes()""",
    "is a function that is not there": "__getattr__ = lambda name: lambda x: 2 * x",
}
PATCHES = f"""
import builtins, hashlib, sys
observe = check = lambda *args: {FORGED!r}
hashlib.sha256 = None
builtins.exec = builtins.repr = builtins.ascii = lambda *args: '0'
sys.modules['inside.checker'].judge = sys.modules['inside.checker'].run = observe
def f(x): return x + x
"""


def test_a_hostile_program_has_no_vote_without_running_and_changes_no_other() -> None:
    alone = watch(TWICE)[0]
    # An honest program follows each hostile one. Their texts differ, because equal programs run only once.
    found = watch(*[code for what, hostile in HOSTILE.items() for code in (hostile, f"{TWICE}  # after: {what}")])
    assert dict(zip(HOSTILE, found[::2], strict=True)) == dict.fromkeys(HOSTILE, Behaviour(None, 0.0))
    assert set(found[1::2]) == {alone}


def test_a_program_that_patches_the_observer_still_votes_by_its_behaviour() -> None:
    (found,) = watch(PATCHES)
    assert [found] == watch(TWICE)
    assert found.vote is not None


def test_a_program_votes_by_whatever_results_it_shows() -> None:
    """A known limit: a program can read the results that the prompt states in its own docstring."""
    code = f"{EXAMPLES}    return 2 if x == 1 else [3, 3]\n"
    assert watch(code) == watch(TWICE)


def test_an_object_of_a_subclass_counts_as_its_plain_value() -> None:
    equal = "class Yes(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
    assert watch(f"{equal}def f(x): return Yes(7)") == watch("def f(x): return 7")


@pytest.mark.parametrize("name", ["sum", "map", "len", "exec", "digest", "observe", "check", "builtins", "json"])
def test_a_function_may_have_any_name(name: str) -> None:
    named = [text.replace("f(", f"{name}(") for text in (EXAMPLES, TWICE, "def f(x): return x")]
    right, wrong = watch(*named[1:], statement=named[0], name=name)
    assert right == watch(TWICE)[0]
    assert wrong.signal == 0.0


def test_equal_programs_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[Program] = []

    def counting(programs: Sequence[Program], **options: Any) -> list[Verdict]:
        judged.extend(programs)
        return judge(programs, **options)

    monkeypatch.setattr(tasks.code.behaviour, "judge", counting)
    programs = [Program(code, "", "f") for code in (TWICE, "def f(x): return x", TWICE, TWICE)]
    first, other, again, elsewhere = observe_all(programs, [EXAMPLES] * 3 + [NONE], allow_unsandboxed=False)
    assert len(judged) == 3
    # A quarter of the timeout of a program's tests.
    assert {program.timeout for program in judged} == {default_timeout() / 4}
    assert first == again != other
    assert elsewhere.vote is not None
    assert elsewhere.vote.basis == "syntax"


def test_no_programs_give_no_behaviours() -> None:
    assert watch() == []


def test_a_program_that_the_sandbox_lost_has_no_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Verdict("infrastructure", "lost", 0.1, "split")
    monkeypatch.setattr(tasks.code.behaviour, "judge", lambda programs, **_: [lost])
    assert watch(TWICE) == [Behaviour(None, 0.0)]


@pytest.mark.parametrize("allowed", [True, False])
def test_only_the_sandbox_decides_whether_it_is_too_weak(monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    passed: list[bool] = []

    def refusing(programs: Sequence[Program], *, allow_unsandboxed: bool) -> list[Verdict]:
        passed.append(allow_unsandboxed)
        raise Refused("too weak")

    monkeypatch.setattr(tasks.code.behaviour, "judge", refusing)
    with pytest.raises(Refused, match="too weak"):
        observe_all([Program(TWICE, "", "f")], [EXAMPLES], allow_unsandboxed=allowed)
    assert passed == [allowed]
