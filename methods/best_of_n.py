"""Best of N: sample several answers and return the one with the highest task signal.

This control suits tasks that can judge an answer without the gold answer, for example by the example calls in the
text of a programming problem. The signal never sees the gold answer; with it, the method would be the oracle pass@N.
Signal and test can still overlap: many example calls in HumanEval's prompts are also among its hidden tests, so on
HumanEval this control selects on a part of the test.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from methods.interface import Deployment
from methods.sampling import SampledAnswers, SamplingMethod
from methods.voting import ask_once
from tasks.interface import TaskTraits


class HighestSignal(SampledAnswers):
    """Chooses the sample with the highest signal; ties go to the first.

    The report has `samples`; `mean_signal` over all samples; `mean_signal_chosen` over the chosen ones; and `decided`,
    the number of examples whose samples differ in signal.
    """

    def choose(self, deployment: Deployment, examples: Sequence[str], answers: list[list[str]]) -> list[str]:
        """Return the sample with the highest signal for each example; see `SampledAnswers.choose`."""
        signals: NDArray[np.float64] = np.array(ask_once(deployment.signals, examples, answers))
        self.report["samples"] = len(answers)
        self.report["mean_signal"] = float(signals.mean())
        self.report["mean_signal_chosen"] = float(signals.max(axis=0).mean())
        self.report["decided"] = int((signals.min(axis=0) < signals.max(axis=0)).sum())
        return [answers[best][i] for i, best in enumerate(signals.argmax(axis=0))]


class BestOfN(SamplingMethod):
    """Sample the base model several times and return the answer with the highest task signal."""

    name = "best-of-n"
    version = "1"
    artifact = HighestSignal

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if the task has no signal, else None."""
        if task.signal_by is None:
            return "nothing tells good answers from bad without the gold answer: the task has no signal"
        return None

    def chosen_by(self, task: TaskTraits) -> str:
        """Return the task's description of its signal, and the rule for ties."""
        return f"highest signal: {task.signal_by}; of equals the first sample's"
