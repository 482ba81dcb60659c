"""Trials of a tuned run: adapt with other settings on a part of the budget, and judge the result on select examples.

A finished trial is one entry of the journal, and a resumed run does not repeat it. Within a trial the journal works as
in the rest of a run.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from bench.compute.ledger import Work
from bench.compute.meter import AllowanceSpent, OverBudget
from bench.errors import Refused
from bench.records.entries import Drawn, Tried, shape
from bench.records.tuning import Trial, Tuning
from bench.run.context import AdaptationContext, DeploymentContext
from bench.run.data import TaskData
from bench.run.evaluator import Evaluator, sparse
from bench.run.progress import ProgressDisplay
from bench.run.rows import checked_answers
from bench.run.tuning import Rung, configured, sample
from bench.seeds import derive
from methods.interface import Artifact, Diverged, Method


class Trials:
    """Runs the trials of a method and chooses its settings.

    Args:
        evaluator: Evaluator for the task adapted on.
        task_data: Tasks and their data.
        method: Method with its published settings.
        seed: Seed of the run.
        evaluation_flops: Measured cost of one evaluation.
        display: Progress display.

    Attributes:
        reports: The method's report of each trial, with its rung and number.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        task_data: TaskData,
        method: Method,
        seed: int,
        evaluation_flops: float,
        display: ProgressDisplay,
    ) -> None:
        self._evaluator, self._task_data, self._method = evaluator, task_data, method
        self._seed, self._evaluation_flops, self._display = seed, evaluation_flops, display
        select = task_data.splits.select
        order = np.random.default_rng(derive(seed, "tune", "select")).permutation(len(select))
        self._select = [select[i] for i in order]
        self.reports: list[dict[str, Any]] = []

    def choose(self, rungs: Sequence[Rung]) -> tuple[Method, Tuning]:
        """Run all trials. Return the method with the chosen settings, and the record of the trials.

        The best trial of a rung has the most correct answers, then the highest reward, then the smallest number. The
        settings are those of the best trial of the latest rung that has a score; the published ones if none has.

        Args:
            rungs: Rungs of successive halving.

        Raises:
            OverBudget: If trials bypassed the meter and spent more than the budget.
        """
        settings = self._settings(rungs[0].trials)
        trials: list[Trial] = []
        kept = list(range(len(settings)))
        with self._display.stage("tuning", sum(rung.trials for rung in rungs)) as stage:
            for number, rung in enumerate(rungs, start=1):
                kept = sorted(kept[: rung.trials])
                for index in kept:
                    trials.append(self._trial(number, index, rung, settings[index]))
                    stage.advance(trials[-1].score)
                    self._say(trials[-1], f"{len(trials)} of {sum(rung.trials for rung in rungs)}", stage.best)
                kept = [trial.trial for trial in sorted(trials[-rung.trials :], key=_worst_last)]
        if self._evaluator.meter.remaining < 0:
            raise OverBudget("the trials bypassed the meter")
        scored = [trial for trial in trials if trial.score is not None]
        best = min(scored, key=lambda trial: (-trial.rung, *_worst_last(trial))).trial if scored else 0
        chosen = settings[best]
        flops = sum(trial.flops for trial in trials)
        tuning = Tuning(trials=tuple(trials), trial=best, chosen=chosen, flops=flops)
        return configured(self._method, chosen), tuning

    def _settings(self, trials: int) -> list[dict[str, Any]]:
        """Return the settings of each trial. A resumed run reads them, as another scipy could draw others."""
        key = {"tune": trials}
        entry = self._evaluator.journal.recall(key, shape(Drawn, trials))
        if entry is None:
            entry = {"settings": sample(self._method.space, trials, self._seed)}
            self._evaluator.journal.append(key, entry)
        found: list[dict[str, Any]] = entry["settings"]
        return found

    def _trial(self, number: int, index: int, rung: Rung, settings: dict[str, Any]) -> Trial:
        meter, journal = self._evaluator.meter, self._evaluator.journal
        folder = journal.path.parent / "training" / f"trial-{number}-{index}"
        scope = {"trial": [number, index]}
        ended = {"ended": scope["trial"]}
        entry = journal.skip_to(ended, shape(Tried))
        if entry is None:
            before = meter.ledger["tune"]
            with journal.within(scope):
                found = self._run(index, rung, settings, folder)
            entry = found | {"work": sparse(meter.ledger["tune"] - before)}
            journal.append(ended, entry)
        else:
            meter.replay("tune", Work(**entry["work"]))
        # A resumed run knows neither the weights that a finished trial ended with nor its checkpoint.
        self._evaluator.forget_point()
        shutil.rmtree(folder, ignore_errors=True)
        self.reports.append({"rung": number, "trial": index, "report": entry["report"]})
        return Trial(
            rung=number,
            trial=index,
            settings=settings,
            evaluations=rung.evaluations,
            flops=meter.flops(Work(**entry["work"])),
            **{name: entry[name] for name in ("items", "score", "reward", "reason")},
        )

    def _run(self, index: int, rung: Rung, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Run one trial. Return its score and report as plain JSON values."""
        meter, report = self._evaluator.meter, {}
        found: dict[str, Any] = {"items": 0, "score": None, "reward": None, "reason": None}
        spent = meter.spent
        try:
            method = configured(self._method, settings)
            method.plan(rung.adapting, self._task_data.traits)
            adapting = int(rung.adapting * self._evaluation_flops)
            with meter.part(adapting, "tune"):
                seed = derive(self._seed, "trial", index) % 2**32
                context = AdaptationContext(
                    self._evaluator, self._task_data, seed, self._evaluation_flops, self._display, folder
                )
                report = context.report  # a reference: a trial that ends early records what was reported so far
                with closing(context):
                    adapted = method.adapt(context)
                if meter.tripped or meter.spent - spent > adapting:
                    raise OverBudget("the method continued after it was stopped, or bypassed the meter")
            artifact = next(iter(adapted.values())) if isinstance(adapted, Mapping) else adapted
            left = int(rung.evaluations * self._evaluation_flops) - (meter.spent - spent)
            with meter.part(left, "tune"):
                found |= self._judged(artifact, rung.items, left)
        except OverBudget as error:
            found["reason"] = f"stopped at its budget: {error}"
        except (Diverged, Refused) as error:
            found["reason"] = str(error)
        return {**found, "report": json.loads(json.dumps(report), parse_constant=lambda _: None)}

    def _judged(self, artifact: Artifact, items: int, allowance: int) -> dict[str, Any]:
        """Answer select examples with an artifact, and return the means over those that could be judged."""
        examples = self._select[:items]
        deployed = DeploymentContext(
            self._evaluator, examples, self._display, name="select", account="tune", allowance=allowance
        )
        texts = None
        with suppress(AllowanceSpent):
            texts = checked_answers(artifact, deployed, examples, self._method.name)
        if texts is None or deployed.exhausted:  # or the artifact caught the error, and gave other answers
            return {"reason": f"its answers to {items} select examples cost more than was left for them"}
        scores = self._evaluator.judge(examples, texts, "select", adapting=True)
        judged = [score for score in scores if score.status != "infrastructure"]
        if not judged:
            return {"reason": "none of its answers could be judged"}
        return {
            "items": len(judged),
            "score": sum(score.correct for score in judged) / len(judged),
            "reward": sum(score.reward for score in judged) / len(judged),
        }

    def _say(self, trial: Trial, which: str, best: float) -> None:
        settings = ", ".join(f"{name} = {value}" for name, value in trial.settings.items()) or "published setting"
        score = f"{trial.score:.3f} on {trial.items} select examples" if trial.score is not None else trial.reason
        so_far = "" if math.isinf(best) else f"; best so far {best:.3f}"
        self._display.say(f"trial {which}, rung {trial.rung}: {settings}: {score}{so_far}")


def _worst_last(trial: Trial) -> tuple[float, float, int]:
    if trial.score is None or trial.reward is None:
        return math.inf, math.inf, trial.trial
    return -trial.score, -trial.reward, trial.trial
