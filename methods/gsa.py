"""Generative self-aggregation (GSA; Li et al. 2025, arXiv 2503.04104): sample answers, then answer with all in view.

The model samples N answers to a question. It then reads the question with these drafts, and answers it greedily. No
vote and no judge chooses among the drafts, so the method also works where answers do not vote.

All N + 1 answers are booked as inference, and so is the long prompt of the last. With N = 0 the method is the base.

Differences from the paper, with reasons:

- The task words the question with its drafts (`Task.with_drafts`), and the question stands behind them. One wording
  then serves chats and texts to complete, and the task's instructions on the form of an answer come last.
- The drafts are shown without their thoughts. A draft whose thought never ended, or that is empty, is left out.
- Temperature and top_p are those of the other sampling controls, so that rows of one table differ in the choice alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import NonNegativeInt

from bench.amounts import counted
from bench.errors import Refused
from bench.settings import setting
from methods.interface import GREEDY, Deployment, Plan
from methods.sampling import SampledAnswers, SamplingConfig, SamplingMethod
from tasks.interface import TaskTraits


class GsaConfig(SamplingConfig):
    """Settings of GSA."""

    samples: NonNegativeInt = setting(
        4, "Number of drafts sampled per example; 0 is the base.", unit="answers", source="arXiv 2503.04104"
    )


class Aggregated(SampledAnswers):
    """One model that samples drafts and answers anew with all of them in view.

    The report has `samples`, the number of drafts per example, and `new`, the number of answers that equal no draft.
    """

    def choose(self, deployment: Deployment, examples: Sequence[str], answers: list[list[str]]) -> list[str]:
        """Return the answer to each example with its drafts in view; see `SampledAnswers.choose`.

        Raises:
            Refused: If a question with its drafts is too long for the model.
        """
        try:
            found = deployment.answer(self.model.point, examples, GREEDY, self.model.prompt, answers)
        except Refused as error:
            n = len(answers)
            raise Refused(f"gsa with {counted(n, 'draft')}: {error}; or sample fewer: --set samples={n - 1}") from error
        new = sum(all(text != draft[i] for draft in answers) for i, text in enumerate(found))
        self.report.update(samples=len(answers), new=new)
        return found


class Gsa(SamplingMethod):
    """Sample answers of the base model, and answer anew with all of them in view."""

    name = "gsa"
    version = "1"
    Config = GsaConfig
    config: GsaConfig
    artifact = Aggregated

    def __init__(self, config: GsaConfig) -> None:
        super().__init__(config)
        self.drafts = config.samples

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return an empty plan that states the cost of an answer.

        Reading a draft costs no more than writing it, so an answer is planned as 2 N + 1 passes.
        """
        n = self.config.samples
        notes = (
            f"nothing is adapted and no budget spent; an answer takes {counted(n + 1, 'pass', 'passes')}, and the last "
            f"reads {counted(n, 'draft')}",
        )
        return Plan((), notes, passes=(2 * n + 1,))

    def chosen_by(self, task: TaskTraits) -> str:
        """Return what becomes of the drafts."""
        return "one greedy answer, asked for with all samples in view"
