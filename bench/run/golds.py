"""Reference answers of a file's rows: each must pass its own row's scorer, or no reply to the row could."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bench import cache
from bench.errors import BenchError, UsageError, shown
from bench.records.files import write_atomically
from tasks.interface import Example, Score, Splits, Task


def require_golds(task: Task, examples: Sequence[Example]) -> None:
    """Check that the reference answers of examples are right, once for each content and version of the task.

    The cache remembers which contents have passed.

    Args:
        task: Task of the examples. Its `allow_unsandboxed` is set.
        examples: All examples of a file.

    Raises:
        UsageError: If an answer is wrong; names file, line, field and value of the first such row.
        BenchError: If an answer could not be judged.
        Refused: If answers are programs and the sandbox is too weak to run them.
    """
    content = Splits((), (), (), tuple(examples)).content_hash
    judge = "\0".join([type(task).__module__, type(task).__qualname__, task.name, task.version, content])
    passed = cache.folder("golds") / hashlib.sha256(judge.encode()).hexdigest()
    if passed.exists():
        return
    golds = [(example, gold) for example in examples if (gold := task.gold(example)) is not None]
    scores = task.score_many([example for example, _ in golds], [gold for _, gold in golds]) if golds else []
    for number, score in enumerate(scores):
        if score.status == "timeout":  # once more and alone, because this machine may have had other work
            scores[number] = task.score(*golds[number])
    wrong = [(e, score) for (e, _), score in zip(golds, scores, strict=True) if not score.correct]
    if wrong:
        raise _error(task, wrong)
    write_atomically(passed, f"{task.name} {task.version}: {len(golds)} reference answers are right\n")


def wrong_gold(task: Task, example: Example, score: Score) -> str:
    """Return a text that names place, field and value of a reference answer that is not right, and the reason."""
    value = example.fields.get(task.gold_field, task.gold(example))
    what = f"field {task.gold_field!r} is {shown(value)}" if example.where else f"the reference answer {shown(value)}"
    reason = (score.detail or f"read as {shown(score.answer)}").partition("\n")[0]
    return f"{example.where or example.id}: {what}, which is not right as a reply ({reason})"


def _error(task: Task, wrong: Sequence[tuple[Example, Score]]) -> BenchError:
    example, score = wrong[0]
    if score.status == "infrastructure":
        return BenchError(f"{example.where}: the reference answer could not be judged ({score.detail}); try again")
    more = f"; {len(wrong) - 1} more rows are like it" if len(wrong) > 1 else ""
    return UsageError(f"{wrong_gold(task, example, score)}; no reply could pass: correct the row, or remove it{more}")
