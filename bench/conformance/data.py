"""Conformance checks of a task's data and prompts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.conformance.overlap import RUN, contains_answer, overlap, plain
from bench.conformance.session import Observation, TaskSession, outcome
from bench.errors import BenchError
from bench.imports import child_environment
from bench.run.returned import category_problem, prompt_problems
from tasks.duplicates import near_duplicates
from tasks.interface import DEFAULT_PROMPT, SPLITS, Example, Task

MAX_ECHO = 0.1
"""Maximum excess of prompts that score as right for their own example over prompts right for another example."""
MAX_CONTAINED = 0.5
"""Maximum excess of prompts that contain their own gold answer over prompts that contain another example's."""
_HASH = "\n".join(
    [
        "import json, sys; from pathlib import Path; from bench.registry import load_task",
        "task = load_task(sys.argv[1]); task.field_names = json.loads(sys.argv[3])",
        "print(task.load(Path(sys.argv[2]) if sys.argv[2] else None).content_hash)",
    ]
)


def check_splits(session: TaskSession) -> Observation:
    """Check that splits are disjoint and non-empty, and that another process gets the same splits."""
    sizes = session.splits.sizes
    listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
    ids = [example.id for name in SPLITS for example in getattr(session.splits, name)]
    if len(set(ids)) != len(ids):
        return False, f"{listed}; {len(ids) - len(set(ids))} examples occur in two splits"
    if not all(sizes.values()):
        return False, f"{listed}; a split is empty"
    if session.task.load(session.data).content_hash != session.splits.content_hash:
        return False, "the splits differ when loaded again"
    other = _hash_in_other_process(session)
    if other != session.splits.content_hash:
        return False, f"the splits differ in another process: {other[-200:]}"
    return True, listed


def _hash_in_other_process(session: TaskSession) -> str:
    environment = child_environment()
    # Another hash seed changes the order of sets.
    environment["PYTHONHASHSEED"] = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    names = json.dumps(dict(session.task.field_names))
    command = [sys.executable, "-c", _HASH, session.name, str(session.data or ""), names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return (done.stdout if done.returncode == 0 else done.stderr).strip()


def check_bad_data(session: TaskSession) -> Observation:
    """Check that a missing file and a broken file raise an error that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder, "broken.jsonl")
        broken.write_text('{"id": 1\n')
        for path in (broken, Path(folder, "missing.jsonl")):
            try:
                session.task.load(path)
            except BenchError as error:
                if str(path) not in str(error):
                    return False, f"the message does not name the file: {error}"
            else:
                return False, f"{path.name} was accepted"
    return True, "errors for a missing and a broken file name the file"


def check_prompts(session: TaskSession) -> Observation:
    """Check that every prompt formats every example, deterministically, and ends with a user turn.

    Categories are checked as well: each is a text or None.
    """
    names = session.task.prompts
    if names[:1] != (DEFAULT_PROMPT,) or len(set(names)) != len(names):
        return False, f"prompts are {', '.join(names)}; expected {DEFAULT_PROMPT!r} first, and each name once"
    if wrong := [problem for e in session.examples for problem in prompt_problems(session.task, e)]:
        return outcome(wrong, "")
    if wrong := [problem for e in session.examples if (problem := category_problem(session.task, e))]:
        return outcome(wrong, "")
    wrong = [
        f"example {e.id}, prompt {name}"
        for e in session.examples
        for name in names
        if not _valid(session.task, e, name)
    ]
    return outcome(wrong, ", ".join(names))


def _valid(task: Task, example: Example, prompt: str) -> bool:
    messages, completion = task.messages(example, prompt), task.completion(example, prompt)
    again = task.messages(example, prompt), task.completion(example, prompt)
    texts = [completion, *(turn["content"] for turn in messages)]
    return (
        len(messages) > 0
        and messages[-1]["role"] == "user"
        and {turn["role"] for turn in messages} <= {"system", "user", "assistant"}
        and all(isinstance(text, str) and text.strip() for text in texts)
        and again == (messages, completion)
    )


def check_leaks(session: TaskSession) -> Observation:
    """Check that prompts do not leak their own gold answer.

    Two tests are made. Each prompt is scored as if it were an answer, and each prompt is searched for the gold answer.
    Both rates are compared with those for another example's gold answer. A task whose answer is a span of the prompt,
    such as reading comprehension, fails this check.
    """
    golds = [(example, score.answer) for (example, _), score in zip(session.golds, session.gold_scores, strict=True)]
    pairs = [(own, other) for own, other in zip(golds, [*golds[1:], *golds[:1]], strict=True) if own[1] != other[1]]
    if not pairs:
        return None, "no two different gold answers are known"
    own = session.score([(example, session.default_prompt(example)) for (example, _), _ in pairs])
    other = session.score([(example, session.default_prompt(asked)) for (asked, _), (example, _) in pairs])
    echo, echo_other = _share([score.correct for score in own]), _share([score.correct for score in other])
    prompts = [session.all_prompts(example) for (example, _), _ in pairs]
    contained = _share([contains_answer(text, gold) for ((_, gold), _), text in zip(pairs, prompts, strict=True)])
    contained_other = _share([contains_answer(text, gold) for (_, (_, gold)), text in zip(pairs, prompts, strict=True)])
    return echo - echo_other <= MAX_ECHO and contained - contained_other <= MAX_CONTAINED, (
        f"scored as answers, {echo:.0%} of prompts are right for their own example, {echo_other:.0%} for another; "
        f"{contained:.0%} of prompts contain their own answer, {contained_other:.0%} another's"
    )


def check_contamination(session: TaskSession) -> Observation:
    """Check that no question occurs in two splits. All pairs of splits are compared.

    Near duplicates (`tasks.duplicates`) and shared n-grams are reported but do not fail: generated puzzles of a small
    kind have near duplicates with other answers.
    """
    content = session.task.content
    placed = [(name, example, content(example)) for name in SPLITS for example in getattr(session.splits, name)]
    pairs = [(placed[one], placed[two]) for one, two in near_duplicates([text for _, _, text in placed])]
    across = [(one, two) for one, two in pairs if one[0] != two[0]]
    same = [(one, two) for one, two in across if plain(one[2]) == plain(two[2])]
    near = [(one, two) for one, two in across if plain(one[2]) != plain(two[2])]
    test = [session.default_prompt(e) for e in session.splits.test]
    others = [session.default_prompt(e) for name in SPLITS[:3] for e in getattr(session.splits, name)]
    return not same, (
        f"{len(same)} pairs of equal questions are in two splits{_listed(same)}; {len(near)} pairs of near duplicates "
        f"are{_listed(near)}; {overlap(test, others)} of {len(test)} test questions share {RUN} consecutive words with "
        "the other splits"
    )


def _listed(pairs: Sequence[tuple[tuple[str, Example, str], tuple[str, Example, str]]]) -> str:
    """Return the first pair and the counts by splits: ` (support and test 2, such as 17 and 142)`; empty for none."""
    if not pairs:
        return ""
    counts = Counter(f"{one[0]} and {two[0]}" for one, two in pairs)
    listed = ", ".join(f"{names} {count}" for names, count in counts.items())
    return f" ({listed}, such as {pairs[0][0][1].id} and {pairs[0][1][1].id})"


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)
