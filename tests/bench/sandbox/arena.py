"""Judge a corpus of hostile programs among bait, and report verdicts and harm. Run it on a disposable machine.

    python arena.py each|together CORPUS.jsonl [LAYER ...]

A row of the corpus has name, category, prompt, entry_point, code, test and must_pass. In code and test, @CANARY@ is
replaced by a folder of bait, and @PORT@ by the port of a TCP and UDP listener. The output is one JSON line per row, and
a last line with the processes that are left:

    {"name": "write_tmp", "category": "escape", "right": true, "harm": [], "status": "failed", "detail": ..., ...}
    {"processes left": []}
"""

import ctypes
import json
import os
import select
import socket
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path

import psutil

from bench.sandbox.host import WorkerPool
from bench.sandbox.program import Program

TIMEOUT = 3.0
PR_SET_CHILD_SUBREAPER = 36
OUTSIDE = [Path(p) for p in ("/tmp/sbx_pwned", "/dev/shm/sbx_pwned", "/escaped.txt", "/big.bin")]


class Bait:
    """Files, environment variables and listeners as targets for attacks, and a report of what was done to them."""

    def __init__(self, root: Path) -> None:
        self.canary = root / "canary"
        (self.canary / "home").mkdir(parents=True)
        (root / "cwd").mkdir()
        os.chdir(root / "cwd")
        os.environ["SBX_SECRET"] = "s3cr3t-canary"
        self._reached: list[str] = []
        self._lock = threading.Lock()
        self.port = self._listen()
        self._restore()
        self._before = self._state()

    def fill(self, text: str) -> str:
        """Replace the placeholders for bait in a program or test."""
        return text.replace("@CANARY@", str(self.canary)).replace("@PORT@", str(self.port))

    def harm(self) -> list[str]:
        """Return the harm done since the last call, and restore the bait."""
        after = self._state()
        done = [f"{name}: {self._before.get(name)} -> {after.get(name)}" for name in self._before | after]
        done = [
            line
            for line, name in zip(done, self._before | after, strict=True)
            if self._before.get(name) != after.get(name)
        ]
        self._take()
        done += [f"reached {what}" for what in self._reached]
        self._reached.clear()
        if done:
            self._restore()
            self._before = self._state()
        return done

    def _restore(self) -> None:
        for path in OUTSIDE:
            path.unlink(missing_ok=True)
        home = self.canary / "home"
        home.mkdir(exist_ok=True)
        for path, text, mode in (
            (self.canary / "keep.txt", "keep", 0o644),
            (self.canary / "perm.txt", "perm", 0o600),
            (home / "secret.txt", "secret", 0o600),
            (self.canary / "answers.json", json.dumps({"2,3": 5, "10,20": 30, "-1,1": 0}), 0o644),
            (Path("parent_cwd.txt"), "parent", 0o644),
        ):
            path.write_text(text)
            path.chmod(mode)

    def _state(self) -> dict[str, str]:
        roots = [*self.canary.rglob("*"), *Path.cwd().rglob("*"), *(p for p in OUTSIDE if p.exists())]
        return {str(p): f"{p.stat().st_mode:o} {p.read_bytes()!r}" if p.is_file() else "folder" for p in roots}

    def _listen(self) -> int:
        tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp.bind(("127.0.0.1", 0))
        port: int = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        local = socket.socket(socket.AF_UNIX)
        local.bind("\0sbx_canary_abstract")
        letters = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        letters.bind("\0sbx_canary_datagrams")
        for listener in (tcp, local):
            listener.listen()
        self._sockets = [tcp, udp, local, letters]
        threading.Thread(target=self._serve, daemon=True).start()
        return port

    def _serve(self) -> None:
        while True:
            select.select(self._sockets, [], [])
            self._take()

    def _take(self) -> None:
        """Take what has arrived, in the thread or at a report, whichever comes first."""
        with self._lock:
            while ready := select.select(self._sockets, [], [], 0)[0]:
                for listener in ready:
                    if listener.type == socket.SOCK_STREAM:
                        listener.accept()[0].close()
                    else:
                        listener.recv(100)
                    self._reached.append(f"the socket at {listener.getsockname()!r}")


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends, so that none escapes `processes`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def processes() -> dict[int, str]:
    """Return the command lines of the running descendants of this process, by pid. Other processes do not count."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = " ".join(process.cmdline())[:100]
        except psutil.NoSuchProcess:
            continue
    return found


def main() -> None:
    """Judge the corpus: program by program, which attributes harm to its cause, or all together, which is faster."""
    order, corpus, *layers = sys.argv[1:]
    adopt_orphans()
    rows = [json.loads(line) for line in Path(corpus).read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        bait = Bait(Path(folder))
        before = processes()
        pool = WorkerPool(["split", *layers])
        programs = [
            Program(bait.fill(row["code"]), bait.fill(row["test"]), row["entry_point"], TIMEOUT, prompt=row["prompt"])
            for row in rows
        ]
        judged = pool.judge(programs, workers=2) if order == "together" else map(pool.judge_one, programs)
        for row, verdict in zip(rows, judged, strict=True):
            right = verdict.passed == row["must_pass"]
            result = {"name": row["name"], "category": row["category"], "right": right, "harm": bait.harm()}
            print(json.dumps(result | asdict(verdict)), flush=True)
        pool.close()
        left = [name for pid, name in processes().items() if pid not in before]
        print(json.dumps({"processes left": left}))


if __name__ == "__main__":
    main()
