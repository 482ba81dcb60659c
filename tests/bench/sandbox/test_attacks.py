"""Attacks that know the sandbox's internals: none passes, and none gets the status `infrastructure`."""

import os
import resource

import pytest

from bench.sandbox import Program, Verdict, judge

ANSWER = 982451653  # appears only in the test
TEST = f"""
def check(candidate):
    assert candidate(2, 3) == {ANSWER}
    assert candidate(3, 4) == {ANSWER} + 1
"""
# Helpers of every attack: the wire format, and access to the sandbox's objects in the program's process.
KNOWS = r"""
import gc, json, os, re, struct, sys, threading, time
def frame(message):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack('>I', len(body)) + body
def push(message): os.write(3, frame(message))
def here(name):
    f = sys._getframe(1)
    while name not in f.f_locals: f = f.f_back
    return f.f_locals[name]
def wanted(text):
    found = re.search('candidat' + r'e\(2, 3\) == (\d+)', text)
    return found and int(found[1])
def add(a, b): return 0
"""
SEARCHES = {
    "searches the heap for the test": """
def add(a, b):
    for o in gc.get_objects():
        for v in list(o.values()) if type(o) is dict else o if type(o) in (list, tuple) else []:
            if type(v) is str and wanted(v): return wanted(v) + a - 2
    return 0""",
    "searches its memory for the test": """
import ctypes
def add(a, b):
    # Read pages through the kernel, for which an unmapped page is an error instead of a crash.
    libc, (read, write) = ctypes.CDLL(None), os.pipe()
    base = id([]) & ~0xfff
    for page in range(base - (16 << 20), base + (16 << 20), 4096):
        if libc.write(write, ctypes.c_void_p(page), 4096) == 4096:
            value = wanted(os.read(read, 4096).decode('latin-1'))
            if value: return value + a - 2
    return 0""",
}
ATTACKS = SEARCHES | {
    "replies before it is called": "push({'reply': '0' * 16, 'value': 1, 'changed': []})",
    "says it is loaded, then replies at once": """
push({'loaded': True})
for n in range(100): push({'reply': n, 'value': True, 'changed': []})""",
    "sends the verdict instead of a reply": """
for message in ({'status': 'passed', 'detail': ''}, {'passed': True}): push(message)""",
    "sends the verdict to every descriptor": """
for fd in range(1024):
    try: os.write(fd, frame({'status': 'passed', 'detail': ''}))
    except OSError: pass""",
    "sends the ending of the job to every descriptor": """
for fd in range(1024):
    try: os.write(fd, struct.pack('=?ii', False, 0, 0))
    except OSError: pass""",
    "reads every descriptor for the test": """
def add(a, b):
    for fd in range(1024):
        try:
            os.set_blocking(fd, False)
            return wanted(os.read(fd, 1 << 20).decode('latin-1')) + a - 2
        except (OSError, TypeError): pass""",
    "replies twice": """
def add(a, b):
    push({'reply': here('number'), 'value': 1, 'changed': []})
    return 1""",
    "replies with the class object, to be equal by isinstance": """
def add(a, b): return object""",
    "answers with a function of its own": "def add(a, b): return lambda *args: True",
    "calls functions it was not given": """
def add(a, b):
    for target in (0, -1, 1 << 40, True): push({'call': 'x', 'target': target, 'args': [], 'kwargs': {}})
    return 0""",
    "calls the checker's builtins by name": """
def add(a, b):
    push({'call': 'x', 'target': 'exit', 'args': [0], 'kwargs': {}})
    os.read(3, 1 << 16)
    return 0""",
    "calls the test by name": """
def add(a, b):
    push({'call': 'x', 'target': 'check', 'args': [{'function': [0]}], 'kwargs': {}})
    return 0""",
    "sends deep JSON": "push(b'[' * 5_000_000)",
    "sends deep tags": "push(b'{\\\"tuple\\\":[' * 100_000 + b']}' * 100_000)",
    "replies with deep values": """
def add(a, b):
    push({'reply': here('number'), 'value': json.loads('[' * 500 + ']' * 500), 'changed': []})""",
    "announces 4 GiB": "os.write(3, b'\\xff' * 4)",
    "announces 16 MiB and leaves": "os.write(3, struct.pack('>I', 16 << 20)); os._exit(0)",
    "fills 16 MiB with tiny objects": "push(b'[' + b'[],' * 5_000_000 + b'0]')",
    "sends no JSON": "push(b'\\xff\\xfe not json')",
    "sends messages of other shapes": "for m in (None, 1, 'passed', [], {}, {'reply': None}): push(m)",
    "lies in the changes": """
def add(a, b):
    push({'reply': here('number'), 'value': 1, 'changed': [[-1, 5], [10**9, 5], [True, 5], ['0', 5], 5]})""",
    "returns tags that do not exist": """
def add(a, b):
    push({'reply': here('number'), 'value': {'eval': ['True']}, 'changed': []})""",
    "returns a huge number in hex": """
def add(a, b):
    push({'reply': here('number'), 'value': {'int': ['0x' + 'f' * (15 << 20)]}, 'changed': []})""",
    "walks the frames for the test": """
import inspect
def add(a, b):
    for info in inspect.stack():
        for value in (*info.frame.f_locals.values(), *info.frame.f_globals.values()):
            if wanted(repr(value)): return wanted(repr(value)) + a - 2
    return 0""",
    "raises and reads the traceback's frames": """
def add(a, b):
    try: raise ValueError
    except ValueError as error: trace = error.__traceback__
    f = trace.tb_frame
    while f.f_back: f = f.f_back
    f.f_globals['status'] = f.f_locals['status'] = 'passed'
    return 0""",
    "patches the wire": """
wire = sys.modules['inside.wire']
wire.encode = lambda *args: {'type': ['object']}
wire.dumps = lambda tree: frame({'status': 'passed', 'loaded': True, 'reply': '', 'value': True, 'changed': []})""",
    "patches the peer to send nothing but trues": """
peer = sys.modules['inside.peer']
peer.Peer.answer = lambda self, message: push({'reply': message['call'], 'value': True, 'changed': []})""",
    "patches the judge in its own process": """
for name in ('judge', 'run', '_describe'): setattr(sys.modules['inside.checker'], name, lambda *a: ('passed', ''))
sys.modules['inside.peer'].Peer.calls = 5""",
    "patches builtins": """
import builtins
builtins.AssertionError = type('Never', (Exception,), {})
builtins.isinstance = lambda *a: True
builtins.int = type('int', (int,), {'__eq__': lambda *a: True, '__hash__': int.__hash__})
def add(a, b): return builtins.int(1)""",
    "returns an object equal to everything": """
class Yes(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = int.__hash__
    __class__ = property(lambda self: int)
def add(a, b): return Yes(1)""",
    "hides such an object in a list subclass": """
class Yes(list):
    def __eq__(self, other): return True
    def __iter__(self): return iter([self])
def add(a, b): return Yes()""",
    "returns an endless generator": """
def add(a, b):
    while True: yield 1""",
    "returns a generator that never yields": """
def add(a, b):
    while True: time.sleep(1)
    yield""",
    "raises an exception whose text is a verdict": """
class Lie(AssertionError):
    def __str__(self): return json.dumps({'status': 'passed', 'detail': ''})
def add(a, b): raise Lie""",
    "raises an exception that cannot be described": """
class Lie(Exception):
    @property
    def args(self): raise self
    def __str__(self): raise self
    __repr__ = __str__
def add(a, b): raise Lie""",
    "raises each way to end a program": """
def add(a, b): raise (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, MemoryError)[a](0)""",
    "claims an exception that does not exist": """
def add(a, b):
    push({'reply': here('number'), 'raise': 'Broken', 'args': ['passed', ''], 'where': ''})""",
    "closes the socket": "def add(a, b): os.close(3); return 1",
    "shuts the socket and stays": """
import socket
def add(a, b):
    socket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_RDWR)
    time.sleep(60)""",
    "never answers": "def add(a, b): time.sleep(60)",
    "drips a byte at a time": """
def add(a, b):
    os.write(3, struct.pack('>I', 1000))
    while True: os.write(3, b' '); time.sleep(0.01)""",
    "floods the socket": "while True: push({'reply': '', 'value': 'x' * 100_000, 'changed': []})",
    "lets a thread answer": """
def answer():
    while True:
        message = json.loads(os.read(3, 1 << 16)[4:] or b'{}')
        push({'reply': message.get('call', ''), 'value': True, 'changed': []})
threading.Thread(target=answer, daemon=True).start()""",
    "leaves threads and exit handlers behind": """
import atexit
def bye(): push({'status': 'passed', 'detail': ''}); os._exit(0)
atexit.register(bye)
class Late:
    def __del__(self): bye()
late = Late()
threading.Thread(target=lambda: (time.sleep(0.2), bye())).start()""",
    "stops itself": "import signal\nsignal.raise_signal(signal.SIGSTOP) or os.kill(os.getpid(), signal.SIGSTOP)",
    "has the kernel kill its parent by file ownership": """
import fcntl, signal
for pid in (os.getppid(), os.getpid() + 1):
    try:
        fcntl.fcntl(3, fcntl.F_SETOWN, pid); fcntl.fcntl(3, 10, signal.SIGKILL)
        fcntl.fcntl(3, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    except OSError: pass""",
}


def attempt(attack: str) -> Verdict:
    (verdict,) = judge([Program(KNOWS + attack, TEST, "add", timeout=1.0)])
    return verdict


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_attack_passes(attack: str) -> None:
    verdict = attempt(attack)
    assert not verdict.passed
    # A program with an infrastructure verdict is judged again and then not scored, so no program may cause one.
    assert verdict.status != "infrastructure", verdict.detail


def test_a_right_program_passes_the_test_of_the_attacks() -> None:
    assert attempt(f"def add(a, b): return {ANSWER} + a - 2").passed


@pytest.mark.parametrize("attack", SEARCHES.values(), ids=SEARCHES)
def test_a_search_finds_a_test_in_its_own_memory(attack: str) -> None:
    assert attempt(f"held = {TEST!r}\n{attack}").passed


@pytest.mark.parametrize(
    "test",
    [
        "assert all(map(f, [1, 2]))",
        "assert list(map(f, [1, 2])) or True",
        "for a, b in zip(map(f, [1, 2]), [3, 4]):\n    assert a == b",
    ],
)
def test_stop_iteration_does_not_end_the_test_early(test: str) -> None:
    (verdict,) = judge([Program("def f(x): raise StopIteration", test, "f")])
    assert verdict.status == "failed"


@pytest.mark.parametrize(
    "attack",
    [
        "import os\ndef f(): os._exit(0)",
        "import os\ndef f(): os.write(3, b'\\xff' * 4)",
        "def f(): return object()",
    ],
)
def test_a_broken_protocol_does_not_count_as_an_expected_exception(attack: str) -> None:
    test = "try:\n    f()\nexcept:\n    pass\nelse:\n    assert False"
    (verdict,) = judge([Program(attack, test, "f")])
    assert verdict.status in ("failed", "crashed")


def test_the_candidate_holds_one_socket_and_nothing_else() -> None:
    """Holds even if the caller has descriptors with high numbers open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    read, write = os.pipe()
    high = [os.dup2(read, n, inheritable=True) for n in (100, 300, min(soft, 1024) - 1)]
    try:
        code = """
import os, stat
def f():
    found = {}
    for fd in range(70_000):
        try: found[fd] = stat.S_IFMT(os.fstat(fd).st_mode) == stat.S_IFSOCK
        except OSError: pass
    return found
"""
        test = "found = f()\nassert found == {0: False, 1: False, 2: False, 3: True}, found"
        (verdict,) = judge([Program(code, test, "f")])
        assert verdict.passed, verdict.detail
    finally:
        for descriptor in (read, write, *high):
            os.close(descriptor)


def test_nothing_of_one_program_is_left_for_the_next() -> None:
    """Run a program that leaves marks in several ways, then one on the same worker that searches for them."""
    leave = """
import builtins, os, sys, threading
MARK = 'mark-8d1f'
builtins.MARK = sys.MARK = MARK
os.environ['MARK'] = MARK
threading.Thread(target=__import__('time').sleep, args=(30,)).start()
def f(): return 1
"""
    look = """
import builtins, gc, os, sys, threading
def f():
    heap = [o for o in gc.get_objects() if type(o) is dict and any(v == 'mark-8d1' + 'f' for v in o.values())]
    return hasattr(builtins, 'MARK'), hasattr(sys, 'MARK'), 'MARK' in os.environ, threading.active_count(), len(heap)
"""
    programs = [
        Program(leave, "assert f() == 1", "f"),
        Program(look, "assert f() == (False, False, False, 1, 0), f()", "f"),
    ]
    first, second = judge(programs, workers=1)
    assert first.passed
    assert second.passed, second.detail


# Attacks that run into the time limit have no verdict, and therefore no output.
QUICK = {what: attack for what, attack in ATTACKS.items() if "time.sleep" not in attack and "while True" not in attack}


@pytest.mark.parametrize("attack", QUICK.values(), ids=QUICK)
def test_no_attack_changes_the_output(attack: str) -> None:
    """A check that accepts every program returns its own text as output, or the program does not pass."""
    check = """
def check(candidate):
    try: candidate(2, 3)
    except BaseException: pass
    return "the test's own"
"""
    (verdict,) = judge([Program(KNOWS + attack, check, "add", timeout=1.0)])
    assert verdict.output == ("the test's own" if verdict.passed else None)
