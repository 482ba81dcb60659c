import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.models import cache
from bench.models.interface import silent


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


class Builder:
    """Build function that counts its calls and writes one file, and another one in a subfolder."""

    def __init__(self):
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "weights").write_bytes(b"w" * 1000)
        (folder / "sub").mkdir()
        (folder / "sub" / "vocabulary").write_text("ab")


def test_builds_once_and_leaves_no_temporary_files(root):
    build = Builder()
    first = cache.obtain("key", build, silent)
    assert cache.obtain("key", build, silent) == first == root / "key"
    assert build.calls == 1
    assert (first / "sub" / "vocabulary").read_text() == "ab"
    assert sorted(p.name for p in root.iterdir()) == [".key.lock", "key"]


def test_another_key_is_another_entry():
    build = Builder()
    assert cache.obtain("a", build, silent) != cache.obtain("b", build, silent)
    assert build.calls == 2


def flip(folder):
    content = bytearray((folder / "weights").read_bytes())
    content[500] ^= 1
    (folder / "weights").write_bytes(content)


DAMAGE = {
    "a flipped bit": flip,
    "a short file": lambda folder: (folder / "weights").write_bytes(b"w" * 999),
    "a missing file": lambda folder: (folder / "sub" / "vocabulary").unlink(),
    "no manifest": lambda folder: (folder / cache.MANIFEST).unlink(),
    "half a manifest": lambda folder: (folder / cache.MANIFEST).write_text('{"files": {"weigh'),
    "a manifest of another kind": lambda folder: (folder / cache.MANIFEST).write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_notices_damage_and_rebuilds(damage):
    build = Builder()
    folder = cache.obtain("key", build, silent)
    damage(folder)
    assert not cache.intact(folder, contents=True)
    assert cache.obtain("key", build, silent) == folder
    assert build.calls == 2
    assert cache.intact(folder, contents=True)


def test_a_failed_build_leaves_nothing(root):
    def build(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.obtain("key", build, silent)
    assert [p.name for p in root.iterdir()] == [".key.lock"]


def test_after_a_failed_rebuild_a_damaged_entry_is_still_detected(root):
    folder = cache.obtain("key", Builder(), silent)
    flip(folder)

    def build(_):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.obtain("key", build, silent)
    assert not cache.intact(folder, contents=True)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_folder_and_variable(root, code):
    def build(_):
        raise OSError(code, os.strerror(code))

    with pytest.raises(BenchError, match="full disk") as caught:
        cache.obtain("key", build, silent)
    assert str(root) in str(caught.value)
    assert cache.VARIABLE in str(caught.value)


def test_too_little_disk_space_is_reported_before_the_build():
    build = Builder()
    with pytest.raises(BenchError, match=r"1000000000000 MB are needed, \d+ MB are free.*BENCH_CACHE"):
        cache.obtain("key", build, silent, needs=10**18)
    assert build.calls == 0


def test_an_unwritable_cache_names_folder_and_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file"))
    with pytest.raises(BenchError, match=r"cannot be written .*BENCH_CACHE") as caught:
        cache.obtain("key", Builder(), silent)
    assert str(tmp_path / "file") in str(caught.value)


def test_an_error_of_the_build_function_is_passed_on():
    def build(_):
        raise FileNotFoundError(errno.ENOENT, "no such program")

    with pytest.raises(FileNotFoundError):
        cache.obtain("key", build, silent)


CHILD = """
import sys
from bench.models import cache

def build(folder):
    print("building", flush=True)
    (folder / "weights").write_text(sys.stdin.readline())

def progress(stage, done, total):
    print(stage, flush=True)

folder = cache.obtain("key", build, progress)
print("has", (folder / "weights").read_text().strip(), flush=True)
"""


def start():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", CHILD], env=environment, **pipes)


def test_a_second_process_waits_and_uses_the_first_one_s_result():
    with start() as first:
        assert first.stdout.readline() == "building\n"
        with start() as second:
            assert second.stdout.readline() == "waiting for another process that prepares this model\n"
            assert first.communicate("first\n")[0] == "has first\n"
            assert second.communicate("second\n")[0] == "has first\n"


def test_a_killed_process_leaves_no_lock_and_no_half_entry(root):
    with start() as first:
        assert first.stdout.readline() == "building\n"
        first.send_signal(signal.SIGKILL)
    abandoned = [p.name for p in root.iterdir() if p.name.endswith(".new")]
    assert abandoned == [f".key.{first.pid}.new"]
    build = Builder()
    assert (cache.obtain("key", build, silent) / "weights").read_bytes() == b"w" * 1000
    assert sorted(p.name for p in root.iterdir()) == [".key.lock", "key"]
