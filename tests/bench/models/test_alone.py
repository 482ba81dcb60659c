"""Work in a process of its own: its limits, and its end when this one ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.models import alone
from bench.models.alone import MEMORY_PER_BYTE, run_alone
from bench.plain import sentence


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that `run_alone` finds; return its name."""

    def write(text):
        (tmp_path / "work.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return "work"

    return write


def failure(name, size=0):
    with pytest.raises(BenchError) as caught:
        run_alone(name, [], "m.gguf could not be converted", size=size)
    return str(caught.value)


def test_the_module_gets_its_arguments(module, tmp_path):
    name = module("import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(' '.join(sys.argv[2:]))")
    run_alone(name, [str(tmp_path / "out"), "a", "b c"], "failed", size=0)
    assert (tmp_path / "out").read_text() == "a b c"


def test_a_module_that_does_not_end_is_ended(module, monkeypatch):
    monkeypatch.setattr(alone, "BASE_SECONDS", 1.0)
    started = time.monotonic()
    assert failure(module("while True: pass")).startswith("m.gguf could not be converted: not done after 0 minutes")
    assert time.monotonic() - started < 20


def test_the_memory_is_limited_by_the_size_of_the_files(module, monkeypatch):
    monkeypatch.setattr(alone, "BASE_MEMORY", 200 << 20)
    name = module("import sys\ntry: bytearray(400 << 20)\nexcept MemoryError: sys.exit('no memory')")
    assert failure(name) == "m.gguf could not be converted: no memory"
    run_alone(name, [], "failed", size=(400 << 20) // MEMORY_PER_BYTE)


def test_what_it_says_cannot_control_the_terminal(module):
    said = "\x1b]0;title\x07 \x1b[31mred \u202eright to left \x9b1m é"
    shown = failure(module(f"import sys; sys.exit({said!r})"))
    assert shown == (r"m.gguf could not be converted: \x1b]0;title\x07 \x1b[31mred \u202eright to left \x9b1m é")


def test_bytes_that_are_no_text_are_no_traceback(module):
    assert "�" in failure(module("import os, sys; os.write(2, b'a \\xff'); sys.exit(1)"))


@pytest.mark.parametrize("text", ["a\nb\tc", "a\u2028b", "  a \r\n b  "])
def test_a_sentence_is_one_line(text):
    assert len(sentence(text).splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_the_work_ends_when_this_process_is_killed(module, tmp_path):
    name = module(
        "import os, sys, time, pathlib\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\ntime.sleep(100)"
    )
    program = f"from bench.models.alone import run_alone; run_alone({name!r}, [{str(tmp_path / 'pid')!r}], '', size=0)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, "-c", program], env=environment)
    try:
        child = int(_waited(lambda: (tmp_path / "pid").read_text()))
    finally:
        parent.kill()
        parent.wait()
    assert _waited(lambda: "gone" if _ended(child) else "") == "gone"


def _waited(read):
    """Return the first text that a function returns; it may raise an OSError before."""
    for _ in range(600):
        try:
            if found := read():
                return found
        except OSError:
            pass
        time.sleep(0.05)
    pytest.fail("waited 30 seconds in vain")


def _ended(process):
    try:
        return " Z " in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True


def test_a_process_whose_parent_is_gone_does_not_start_its_work(tmp_path):
    program = f"from bench.models.alone import confine; confine(1 << 30, 1); open({str(tmp_path / 'a')!r}, 'w')"
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    if sys.platform == "linux":
        assert ended.returncode == -signal.SIGKILL
        assert not (tmp_path / "a").exists()
