"""TensorBoard. Its event files are in a folder per run, in `tensorboard` or where TENSORBOARD_LOGGING_DIR says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from bench.plain import file_name
from bench.track.interface import SPENT, TRAINED, Point, Scalar, TrackedRun, setting, short


class TensorBoard:
    """Event files of a run. A resumed run adds a file to its folder."""

    def begin(self, run: TrackedRun) -> Mapping[str, float]:
        """Open the folder."""
        self._folder = Path(setting("TENSORBOARD_LOGGING_DIR", "tensorboard")) / file_name(run.name.replace(" ", "-"))
        earlier: Mapping[str, float] = {}
        if self._folder.exists():
            read = EventAccumulator(str(self._folder), {"scalars": 0}).Reload()
            tags = read.Tags()["scalars"]
            last = {key: max(each.value for each in read.Scalars(key)) for key in (SPENT, TRAINED) if key in tags}
            earlier = {key: value * (1 + 2**-23) for key, value in last.items()}  # they are rounded to 24 bits
        self._writer = EventFileWriter(str(self._folder))
        facts = {"id": run.id, **run.tags, "config": run.config}
        self._text("run", json.dumps(facts, indent=1), 0)
        return earlier

    def log(self, points: Sequence[Point]) -> None:
        """Log points."""
        for step, values in points:
            self._add((Summary.Value(tag=key, simple_value=value) for key, value in values.items()), step)

    def end(self, step: int, final: Mapping[str, Scalar], *, status: str) -> str:
        """Log the result: numbers as scalars, text as text."""
        self.log([Point(step, {key: value for key, value in final.items() if isinstance(value, float)})])
        self._text("result", json.dumps({k: v for k, v in final.items() if isinstance(v, str)}, indent=1), step)
        self._writer.close()
        return f"{short(self._folder)} (tensorboard --logdir {short(self._folder.parent)})"

    def _text(self, tag: str, text: str, step: int) -> None:
        lines = "\n".join(f"    {line}" for line in text.splitlines())  # a block of code in Markdown
        self._add(text_pb(tag, lines).value, step)

    def _add(self, values: Iterable[Summary.Value], step: int) -> None:
        self._writer.add_event(Event(summary=Summary(value=list(values)), step=step, wall_time=time.time()))
