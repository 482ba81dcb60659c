"""Corpora of hostile programs among bait: every verdict is right, nothing is harmed, and no process is left."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from bench.sandbox import probe

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SHARED = Path(os.environ.get("BENCH_ADVERSARIAL", ROOT.parent / "shared" / "adversarial.jsonl"))
MORE = SHARED.with_name(f"{SHARED.stem}-2.jsonl")
CORPORA = [HERE / "hostile.jsonl", *(path for path in (SHARED, MORE) if path.exists())]
# They ask whether a file exists, how long it is, and when it was changed. Only the mount namespace hides that.
METADATA = {"canary_stat_size", "canary_access_probe", "opath_canary"}
# Run the arena in its own pid namespace, if this user may create one: an escaped program can kill only processes there.
DISPOSABLE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def arena(order: str, corpus: Path, *layers: str) -> tuple[list[dict[str, object]], list[str]]:
    """Judge a corpus in a separate process; return its rows and the processes that are left."""
    try:
        disposable = subprocess.run([*DISPOSABLE, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        disposable = False
    # Some bait has a fixed place on the machine, so that two arenas would each see what was done to the other. The lock
    # is per user, because one user cannot open the file of another.
    with FileLock(Path(tempfile.gettempdir(), f"bench-arena-{os.getuid()}.lock")):
        run = subprocess.run(
            [*(DISPOSABLE if disposable else []), sys.executable, str(HERE / "arena.py"), order, str(corpus), *layers],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
        )
    assert run.returncode == 0, run.stderr
    *rows, last = map(json.loads, run.stdout.splitlines())
    return rows, last["processes left"]


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_every_verdict_is_right_and_nothing_is_harmed(corpus: Path) -> None:
    rows, left = arena("together", corpus, *(probe().present - {"split"}))
    assert len(rows) == len(corpus.read_text().splitlines())
    expected = set() if "mounts" in probe().present else METADATA
    assert [row for row in rows if not row["right"] and row["name"] not in expected] == []
    assert [row for row in rows if row["harm"]] == []
    assert left == []


def test_without_confinement_the_attacks_succeed(tmp_path: Path) -> None:
    """Run our own programs, which only harm bait, without layers, to show that it is the layers that stop them."""
    lines = (HERE / "hostile.jsonl").read_text().splitlines(keepends=True)
    escapes = tmp_path / "escapes.jsonl"
    escapes.write_text("".join(line for line in lines if json.loads(line)["category"] == "escape"))
    rows, _ = arena("each", escapes)
    stopped = {row["name"] for row in rows if row["right"] and not row["harm"]}
    # The fork server itself prevents these two: it hides its environment and memory from its own user.
    # write_here depends on the user: the working folder is /, where only root may write.
    assert stopped - {"write_here"} == {"read_environment", "read_parent_memory"}
