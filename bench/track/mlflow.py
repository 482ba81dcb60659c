"""MLflow. Its own environment variables say where runs go, such as MLFLOW_TRACKING_URI."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from bench.track.interface import SPENT, TRAINED, Point, Scalar, TrackedRun, setting

ID = "bench.id"
"""Tag with the run's id, by which a resumed run is found."""
METRICS, PARAMS, LENGTH = 1000, 100, 6000
"""Maximum number of metrics and of parameters of one request, and of characters of a parameter."""
STATUSES = {"ok": "FINISHED", "interrupted": "KILLED"}


class Mlflow:
    """Run of MLflow with the run's id as a tag."""

    def begin(self, run: TrackedRun) -> Mapping[str, float]:
        """Find the run by its tag, or create it."""
        self._client = MlflowClient()
        experiment = setting("MLFLOW_EXPERIMENT_NAME", run.project)
        found = self._client.get_experiment_by_name(experiment)
        self._experiment = found.experiment_id if found else self._client.create_experiment(experiment)
        earlier = self._client.search_runs([self._experiment], f"tags.`{ID}` = '{run.id}'", max_results=1)
        if earlier:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, "RUNNING")
            return {key: value for key, value in earlier[0].data.metrics.items() if key in (SPENT, TRAINED)}
        self._id = self._client.create_run(
            self._experiment, tags={ID: run.id, **run.tags}, run_name=run.name
        ).info.run_id
        params = [Param(name, str(value)[:LENGTH]) for name, value in run.config.items()]
        for start in range(0, len(params), PARAMS):
            self._client.log_batch(self._id, params=params[start : start + PARAMS])
        return {}

    def log(self, points: Sequence[Point]) -> None:
        """Log points."""
        now = round(1000 * time.time())
        metrics = [Metric(_key(key), value, now, step) for step, values in points for key, value in values.items()]
        for start in range(0, len(metrics), METRICS):
            self._client.log_batch(self._id, metrics=metrics[start : start + METRICS])

    def end(self, step: int, final: Mapping[str, Scalar], *, status: str) -> str:
        """Log the result: numbers as metrics, text as tags."""
        texts = [RunTag(_key(key), str(value)[:LENGTH]) for key, value in final.items() if isinstance(value, str)]
        if texts:
            self._client.log_batch(self._id, tags=texts)
        self.log([Point(step, {key: value for key, value in final.items() if isinstance(value, float)})])
        self._client.set_terminated(self._id, STATUSES.get(status, "FAILED"))
        where = self._client.tracking_uri.replace(f"{Path.cwd()}/", "")
        return f"run {self._id} of experiment {self._experiment} in {where}"


def _key(key: str) -> str:
    """Return a key in the characters that MLflow takes, such as `final/k:5/accuracy` for `final/k=5/accuracy`."""
    return re.sub(r"[^\w\-./: ]", "_", key.replace("=", ":"))
