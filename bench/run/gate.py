"""The harness's gate: base and artifacts answer held-out items in looks, until the test decides about each artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.amounts import counted
from bench.compute.meter import AllowanceSpent
from bench.errors import BenchError
from bench.records.rows import GateLook, GateRecord
from bench.run.context import DeploymentContext
from bench.run.evaluator import Evaluator
from bench.run.progress import ProgressDisplay, StageDisplay
from bench.run.rows import checked_answers
from bench.seeds import derive
from bench.stats.gate import GateDecision, GateDesign, Look, decide, detectable_gain
from methods.interface import Artifact
from tasks.interface import Example, Score


def draw_items(examples: Sequence[Example], items: int, seed: int) -> tuple[Example, ...]:
    """Return the gate's items of a run, drawn from the gate split anew for each seed of a run."""
    order = np.random.default_rng(derive(seed, "gate")).permutation(len(examples))
    return tuple(examples[i] for i in order[:items].tolist())


@dataclass(frozen=True)
class _Judged:
    """Answers to the items of one look, with their scores."""

    texts: list[str]
    scores: list[Score]


class Gate:
    """Decides about the artifacts of a run. The base's answers are shared by all of them.

    Args:
        evaluator: Evaluator for the task that the run adapted on.
        examples: Items, in the order in which they are answered.
        allowance: FLOPs that all answers may cost.
        method: Name of the method, for messages.
        display: Progress display.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        examples: Sequence[Example],
        allowance: int,
        method: str,
        display: ProgressDisplay,
    ) -> None:
        self._evaluator, self._examples, self._method, self._display = evaluator, examples, method, display
        self._design = GateDesign(len(examples))
        quiet = ProgressDisplay(quiet=True)  # a look is shown as a whole, and not each of its answers
        self._view = DeploymentContext(evaluator, examples, quiet, name="gate", account="gate", allowance=allowance)
        self._base: list[_Judged] = []

    def decide(self, base: Artifact, artifacts: Mapping[str, Artifact | None]) -> dict[str, GateRecord]:
        """Return the decision about each artifact, by label.

        Args:
            base: Base model, with the same strategy as the artifacts.
            artifacts: Artifacts as they are deployed, by label; None for the unchanged base.

        Raises:
            BenchError: If no answer to the items could be judged.
        """
        self._evaluator.announce([])  # drop the points prefetched for the search
        found = {}
        for label, artifact in artifacts.items():
            if artifact is None:
                found[label] = self._rejected("the method returned the unchanged base")
                continue
            report = dict(artifact.report)
            with self._display.stage(f"gate: {label}" if label else "gate", len(self._design.looks)) as stage:
                found[label] = self._decide(label, base, artifact, stage)
            artifact.report.clear()  # it is about the test answers, which come next
            artifact.report.update(report)
        return found

    def _decide(self, label: str, base: Artifact, artifact: Artifact, stage: StageDisplay) -> GateRecord:
        counts: list[tuple[int, int]] = []
        fixes = regressions = excluded = seen = 0
        decision: GateDecision | None = None
        for number, end in enumerate(self._design.looks):
            examples, seen = self._examples[seen:end], end
            before = self._answer_base(base, number, examples)
            now = before and self._answer(artifact, examples, f"gate {label}", before)
            if before is None or now is None:
                reason = "its answers cost more than what was reserved"
                items = seen - len(examples)
                return self._rejected(reason, items=items, excluded=excluded, fixes=fixes, regressions=regressions)
            for old, new in zip(before.scores, now.scores, strict=True):
                if "infrastructure" in (old.status, new.status):
                    excluded += 1
                else:
                    fixes += new.correct and not old.correct
                    regressions += old.correct and not new.correct
            stage.advance()
            counts.append((fixes, regressions))
            decision = decide(self._design, counts)
            if decision is not None:
                break
        assert decision is not None  # there is one at the last look
        if excluded == decision.items:
            raise BenchError("no gate answer could be judged; see `bench doctor`")
        return self._record(decision, excluded)

    def _answer_base(self, base: Artifact, number: int, examples: Sequence[Example]) -> _Judged | None:
        """Return the base's answers at a look, which it gives once. None if the allowance runs out."""
        if number == len(self._base):
            found = self._answer(base, examples, "gate base", None)
            if found is None:
                return None
            self._base.append(found)
        return self._base[number]

    def _answer(
        self, artifact: Artifact, examples: Sequence[Example], label: str, base: _Judged | None
    ) -> _Judged | None:
        """Answer and score items. None if the allowance runs out."""
        try:
            texts = checked_answers(artifact, self._view, examples, self._method)
        except AllowanceSpent:
            return None
        if self._view.exhausted:  # and the artifact caught the error
            return None
        if base is not None and texts == base.texts:
            return base
        return _Judged(texts, self._evaluator.judge(examples, texts, label))

    def _rejected(
        self, reason: str, *, items: int = 0, excluded: int = 0, fixes: int = 0, regressions: int = 0
    ) -> GateRecord:
        """Return the record of a rejection without a test."""
        return GateRecord(
            accepted=False,
            items=items,
            excluded=excluded,
            max_items=self._design.items,
            fixes=fixes,
            regressions=regressions,
            gain=(fixes - regressions) / items if items else 0.0,
            level=self._design.level,
            reason=f"rejected: {reason}",
        )

    def _record(self, decision: GateDecision, excluded: int) -> GateRecord:
        judged = decision.items - excluded
        design = GateDesign(max(1, round(self._design.items * judged / decision.items)))
        missing = f"; {excluded} of {counted(decision.items, 'item')} could not be judged" if excluded else ""
        return GateRecord(
            accepted=decision.accepted,
            items=decision.items,
            excluded=excluded,
            max_items=self._design.items,
            fixes=decision.fixes,
            regressions=decision.regressions,
            gain=decision.gain,
            level=decision.level,
            looks=tuple(map(_look, decision.looks)),
            reason=f"{decision.reason}{missing}",
            detectable=detectable_gain(design, regressions=min(0.5, decision.regressions / judged)),
        )


def _look(look: Look) -> GateLook:
    return GateLook(items=look.items, fixes=look.fixes, regressions=look.regressions, needed=look.needed)
