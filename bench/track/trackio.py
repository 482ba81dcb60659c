"""Trackio. Its own environment variables say where runs go, such as TRACKIO_DIR and TRACKIO_SPACE_ID."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trackio

from bench.track.interface import SPENT, TRAINED, Point, Scalar, TrackedRun, setting


class Trackio:
    """Run of trackio with the run's name, which ends with the first digits of its id."""

    def begin(self, run: TrackedRun) -> Mapping[str, float]:
        """Open the run. Only a database on this machine says what it already has."""
        self._project = setting("TRACKIO_PROJECT", run.project)
        logs = trackio.SQLiteStorage.get_logs(self._project, run.name)
        self._ended = [each for each in logs if "status" in each]
        self._run = trackio.init(
            project=self._project,
            name=run.name,
            config={"bench.id": run.id, **run.config, **{f"tag.{name}": value for name, value in run.tags.items()}},
            resume="allow",
            embed=False,
            auto_log_cpu=False,  # this process does nothing of interest
            auto_log_gpu=False,
        )
        return {key: max(each[key] for each in logs if key in each) for key in (SPENT, TRAINED) if _has(logs, key)}

    def log(self, points: Sequence[Point]) -> None:
        """Log points."""
        for step, values in points:
            self._run.log(dict(values), step=step)

    def end(self, step: int, final: Mapping[str, Scalar], *, status: str) -> str:
        """Log the result at the last step, unless it is there."""
        if final and not any(final.items() <= each.items() for each in self._ended):
            self._run.log(dict(final), step=step)
        self._run.finish()
        return f"run {self._run.name!r} of project {self._project} (trackio show --project {self._project})"


def _has(logs: Sequence[Mapping[str, object]], key: str) -> bool:
    return any(key in each for each in logs)
