"""Weights & Biases. Its own environment variables say where runs go, such as WANDB_MODE and WANDB_PROJECT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import wandb

from bench.track.interface import SPENT, STEP, TRAINED, Point, Scalar, TrackedRun, setting, short


class Wandb:
    """Run of wandb, under the first 16 digits of the run's id.

    wandb cannot continue an offline run: each attempt has a folder of its own, and they meet when they are uploaded.
    """

    def begin(self, run: TrackedRun) -> Mapping[str, float]:
        """Open the run."""
        self._run = wandb.init(
            id=run.id[:16],
            name=run.name,
            project=setting("WANDB_PROJECT", run.project),
            config=dict(run.config),
            tags=[f"{name}: {value}"[:64] for name, value in run.tags.items()],
            resume="allow",
            settings=wandb.Settings(console="off"),
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)
        return {key: self._run.summary[key] for key in (SPENT, TRAINED) if key in self._run.summary.keys()}  # noqa: SIM118

    def log(self, points: Sequence[Point]) -> None:
        """Log points."""
        for _, values in points:
            self._run.log(dict(values))

    def end(self, step: int, final: Mapping[str, Scalar], *, status: str) -> str:
        """Log the result as the summary."""
        self._run.summary.update(dict(final))
        self._run.finish(exit_code=0 if status == "ok" else 1)
        if self._run.url:
            return str(self._run.url)
        return f"{short(self._run.settings.sync_dir)} (offline; upload it with: wandb sync)"
