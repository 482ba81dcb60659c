"""Test statistics of a record, computed from scored answers, and the file of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from bench.compute.ledger import Work
from bench.errors import BenchError, problems
from bench.records.config import RunConfig
from bench.records.derived import accuracy_of, comparison_of
from bench.records.digests import SAMPLES
from bench.records.files import write_atomically
from bench.records.lines import encode
from bench.records.rows import Accuracy, AnswerCost, GateRecord, Move, PairedComparison, Row, Thoughts
from bench.records.samples import Sample
from bench.run.chunks import Answer
from bench.run.evaluator import Evaluator
from bench.stats import PairedCounts, paired_counts
from methods.interface import Artifact, Deployment
from tasks.examples import clusters
from tasks.interface import Example, Score
from tasks.thoughts import answer_of


@dataclass(frozen=True)
class Answered:
    """Answers of the base or of one artifact to all test examples.

    Attributes:
        label: Label of the artifact; empty for the base.
        texts: Answers.
        scores: Their scores.
        generated: The generated answer behind each text; None for a text that no model generated on its own.
        work: Work of all answers.
        cost: Cost of one answer.
        weights: Digest of the weights that answered; None if several models answered, or it is not known.
        move: Move of these weights from the base; None as for `weights`, and for the base.
        measures: The task's additional measures by name.
        changed: Whether the artifact differs from the base.
        report: The artifact's own report.
    """

    label: str
    texts: Sequence[str]
    scores: Sequence[Score]
    generated: Sequence[Answer | None]
    work: Work
    cost: AnswerCost
    weights: str | None
    measures: dict[str, float]
    changed: bool = False
    report: dict[str, Any] = field(default_factory=dict)
    move: Move | None = None

    @property
    def truncated(self) -> float | None:
        """Fraction of the answers that ended at the length limit; None if it is not known for all of them."""
        found = self._all_generated
        return sum(answer.finish == "length" for answer in found) / len(found) if found else None

    @property
    def thoughts(self) -> Thoughts | None:
        """Thoughts of the answers; None if they are not known for all of them."""
        found = self._all_generated
        tokens = [answer.thought_tokens for answer in found if answer.thought_tokens is not None]
        if not found or len(tokens) < len(found):
            return None
        return Thoughts(
            tokens=sum(tokens) / len(found),
            cut=sum(bool(answer.thought_cut) for answer in found),
            unended=sum(answer_of(answer.text) is None for answer in found),
        )

    @property
    def _all_generated(self) -> list[Answer]:
        """The generated answers behind all texts; empty if there is a text that no model generated on its own."""
        found = [answer for answer in self.generated if answer is not None]
        return found if len(found) == len(self.texts) else []


def accuracy(judged: Sequence[Score], excluded: int = 0) -> Accuracy:
    """Return the accuracy of scored answers with its 95 % Wilson interval.

    Args:
        judged: Scores of all answers that could be judged; at least one.
        excluded: Number of answers that could not be judged.
    """
    rewards = [score.reward for score in judged]
    return accuracy_of(sum(s.correct for s in judged), len(judged), excluded, sum(rewards) / len(rewards))


def compare(before: Sequence[Score], now: Sequence[Score]) -> PairedComparison:
    """Compare scored answers to the same examples, item by item."""
    return comparison_of(paired_counts([s.correct for s in before], [s.correct for s in now]))


def make_rows(base: Answered, others: Sequence[Answered]) -> tuple[Row, ...]:
    """Return the rows of a result: the base's, and each artifact's with its comparison with the base.

    An artifact's row covers the examples that could be judged for both the base and the artifact.

    Raises:
        BenchError: If there are no such examples.
    """
    rows = [_row("base", base, _judged(base), None)]
    for now in others:
        judged = _judged(base, now)
        before, after = [base.scores[i] for i in judged], [now.scores[i] for i in judged]
        rows.append(_row("method", now, judged, compare(before, after)))
    return tuple(rows)


def add_gated(rows: Sequence[Row], decisions: Mapping[str, GateRecord]) -> tuple[Row, ...]:
    """Return the rows of a result with the gated row after each artifact's row.

    Args:
        rows: Rows of the base and of the artifacts.
        decisions: Decisions of the gate by label.
    """
    base, *others = rows
    found = [base]
    for row in others:
        found.append(row)
        if decision := decisions.get(row.label):
            answers_of = len(found) - 1 if decision.accepted else 0
            kept = row if decision.accepted else _unchanged(base, row.label)
            found.append(kept.model_copy(update={"kind": "gated", "gate": decision, "answers_of": answers_of}))
    return tuple(found)


def _unchanged(base: Row, label: str) -> Row:
    """Return the row of an artifact that is the base."""
    correct, wrong = base.accuracy.correct, base.accuracy.items - base.accuracy.correct
    comparison = comparison_of(PairedCounts(correct, 0, 0, wrong))
    return base.model_copy(update={"label": label, "comparison": comparison})


def answered_rows(labels: Sequence[str], decisions: Mapping[str, GateRecord]) -> list[int]:
    """Return the indices in a result of the rows that have answers of their own: the base, and each artifact."""
    found = [0]
    following = 1
    for label in labels:
        found.append(following)
        following += 2 if label in decisions else 1
    return found


def checked_answers(artifact: Artifact, deployment: Deployment, examples: Sequence[Example], method: str) -> list[str]:
    """Return an artifact's answers.

    Raises:
        BenchError: If it does not return one text per example.
    """
    texts = artifact.answer(deployment, [example.id for example in examples])
    if len(texts) != len(examples) or not all(isinstance(text, str) for text in texts):
        raise BenchError(
            f"method {method}: its artifact gave {len(texts)} answers to {len(examples)} examples; "
            "return one text per example"
        )
    return texts


def _judged(*answered: Answered) -> list[int]:
    """Return the indices of the examples that could be judged for all of these."""
    pairs = enumerate(zip(*(row.scores for row in answered), strict=True))
    judged = [i for i, scores in pairs if all(score.status != "infrastructure" for score in scores)]
    if not judged:
        raise BenchError("no test answer could be judged; see `bench doctor`")
    return judged


def _row(
    kind: Literal["base", "method"], answered: Answered, judged: Sequence[int], comparison: PairedComparison | None
) -> Row:
    return Row(
        kind=kind,
        label=answered.label,
        accuracy=accuracy([answered.scores[i] for i in judged], len(answered.scores) - len(judged)),
        cost=answered.cost,
        work=answered.work,
        comparison=comparison,
        changed=answered.changed,
        weights=answered.weights,
        move=answered.move,
        truncated=answered.truncated,
        thoughts=answered.thoughts,
        measures=answered.measures,
        report=answered.report,
    )


def write_samples(
    path: Path,
    examples: Sequence[Example],
    evaluator: Evaluator,
    config: RunConfig,
    rows: Mapping[int, Answered],
) -> None:
    """Write samples.jsonl: one line per row and test example, the base first. See `bench.records.samples.Sample`.

    Args:
        path: File to write.
        examples: Test examples.
        evaluator: Evaluator that answered, which has the task and its prompts.
        config: Configuration of the run.
        rows: Answers by index of the row in the result.

    Raises:
        WriteFailed: If the file cannot be written.
        BenchError: If a task returned what no sample holds.
    """
    lines = []
    labels = clusters(examples) or [None] * len(examples)
    for number, row in rows.items():
        for example, label, text, score, generated in zip(
            examples, labels, row.texts, row.scores, row.generated, strict=True
        ):
            judged = score.status != "infrastructure"
            sample = _sample(
                evaluator.task.name,
                row=number,
                task=config.task,
                model=config.model,
                method=config.method if number else "base",
                label=row.label,
                seed=config.seed,
                id=example.id,
                prompt_id=evaluator.prompting.named(generated.prompt) if generated else None,
                prompt=evaluator.format_prompt(example, generated.prompt, generated.drafts) if generated else None,
                prompt_sha256=evaluator.prompt_sha256(example),
                gold=evaluator.task.gold(example),
                text=text,
                answer=score.answer,
                correct=score.correct if judged else None,
                reward=score.reward if judged else None,
                status=score.status,
                detail=score.detail,
                finish=generated.finish if generated else None,
                prompt_tokens=generated.prompt_tokens if generated else None,
                new_tokens=generated.new_tokens if generated else None,
                thought_tokens=generated.thought_tokens if generated else None,
                thought_cut=generated.thought_cut if generated else None,
                cluster=label,
            )
            lines.append(encode(sample.model_dump()).decode() + "\n")
    write_atomically(path, "".join(lines))


def _sample(name: str, /, **fields: Any) -> Sample:
    """Return a sample.

    Args:
        name: Name of the task that returned prompt, reference answer and score.
        fields: Fields of the sample.

    Raises:
        BenchError: If a value does not fit its field.
    """
    try:
        return Sample.model_validate(fields)
    except ValidationError as error:
        what = "; ".join(text for _, text in problems(error))
        raise BenchError(f"task {name}, example {fields['id']}: {SAMPLES} cannot hold its {what}") from error
