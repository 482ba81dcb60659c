"""Process that logs a run to one tracker: `python -m bench.track NAME`.

A process of its own, so that nothing in a tracker's library can change, slow down or stop the run: random streams,
threads, signals, exit hooks, a crash. It reads the run's journal, and messages of `bench.track.live` on standard input,
one JSON value a line. At its end it prints one JSON object: `{"where": "..."}`, or `{"error": "..."}`.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

from pydantic import TypeAdapter

from bench.errors import BenchError
from bench.failures import located
from bench.plain import sentence
from bench.records.schema import read_result
from bench.track.follow import Budget, Follower, follow_finished
from bench.track.interface import load

GRACE = 60.0
"""Seconds for which the process may go on once the process that started it is gone."""
INTERVAL = 0.5
"""Seconds between two looks at the journal."""


def main(name: str) -> None:
    """Follow a run until it has ended, and print the outcome."""
    # Libraries print; standard output is for the outcome alone.
    outcome = os.fdopen(os.dup(1), "w")
    Thread(target=_end_after, args=(os.getppid(), GRACE), daemon=True).start()
    os.dup2(2, 1)
    try:
        print(json.dumps({"where": follow(name)}), file=outcome, flush=True)
    except BaseException as error:
        reason = str(error) if isinstance(error, BenchError) else located(error)
        print(json.dumps({"error": sentence(reason)}), file=outcome, flush=True)
        os._exit(1)  # exit hooks of a library that has failed may hang


def follow(name: str) -> str:
    """Follow the run of the first message until the run has ended. Return where the user finds it."""
    messages = _messages()
    run = next(filter(None, messages))
    if "finished" in run:
        return follow_finished(load(name), Path(run["finished"]))
    budget = run["budget"] and TypeAdapter(Budget).validate_python(run["budget"])
    follower = Follower(load(name), Path(run["folder"]), run["id"], budget)
    for message in messages:
        follower.follow()
        if message is None:
            continue
        if "ended" in message:
            return follower.end(read_result(Path(run["folder"])) if message["ended"] else None)
        follower.row(message["spent"], message["row"])
    follower.follow()
    return follower.end(None)  # the run's process was killed


def _end_after(parent: int, grace: float) -> None:
    """End this process some time after its parent, whatever a library is doing: nobody else would."""
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    time.sleep(grace)
    os._exit(1)


def _messages() -> Iterator[dict[str, Any] | None]:
    """Yield the messages on standard input, and None whenever there was none for a while."""
    rest = b""
    while True:
        if not select.select([0], [], [], INTERVAL)[0]:
            yield None
            continue
        data = os.read(0, 65536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from map(json.loads, lines)


if __name__ == "__main__":
    main(sys.argv[1])
