"""Checks of data and prompts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.conformance.overlap import RUN, overlap, stands_in
from bench.conformance.session import Observation, TaskSession, outcome
from bench.errors import BenchError
from tasks.interface import DEFAULT_PROMPT, SPLITS, Example, Task

ECHOED = 0.1
"""By how much the share of prompts that answer their own question may exceed that of prompts that answer another's."""
STANDING = 0.5
"""By how much the share of prompts in which their own answer stands may exceed that of another's."""
_HASH = "\n".join(
    [
        "import sys; from pathlib import Path; from bench.registry import load_task",
        "print(load_task(sys.argv[1]).load(Path(sys.argv[2]) if sys.argv[2] else None).content_hash)",
    ]
)


def check_splits(session: TaskSession) -> Observation:
    """Splits are disjoint, none is empty, and another process cuts the same ones."""
    sizes = session.splits.sizes
    listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
    ids = [example.id for name in SPLITS for example in getattr(session.splits, name)]
    if len(set(ids)) != len(ids):
        return False, f"{listed}; {len(ids) - len(set(ids))} examples stand in two"
    if not all(sizes.values()):
        return False, f"{listed}; one is empty"
    if session.task.load(session.data).content_hash != session.splits.content_hash:
        return False, "loaded again, they are others"
    elsewhere = _hash_elsewhere(session)
    if elsewhere != session.splits.content_hash:
        return False, f"another process gets others: {elsewhere[-200:]}"
    return True, listed


def _hash_elsewhere(session: TaskSession) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # Sets must come in another order than here.
    environment["PYTHONHASHSEED"] = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    command = [sys.executable, "-c", _HASH, session.name, str(session.data or "")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return (done.stdout if done.returncode == 0 else done.stderr).strip()


def check_bad_data(session: TaskSession) -> Observation:
    """A file that is not there, and one that holds no rows, are refused by name."""
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
    return True, "a missing and a broken file are refused by name"


def check_prompts(session: TaskSession) -> Observation:
    """Every prompt poses every example, the same way each time, and ends with the user's turn."""
    names = session.task.prompts
    if names[:1] != (DEFAULT_PROMPT,) or len(set(names)) != len(names):
        return False, f"prompts are {', '.join(names)}; expected {DEFAULT_PROMPT!r} first, and each once"
    wrong = [f"{e.id} in {prompt}" for e in session.examples for prompt in names if not _poses(session.task, e, prompt)]
    return outcome(wrong, ", ".join(names))


def _poses(task: Task, example: Example, prompt: str) -> bool:
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
    """A prompt says no more of its own example's answer than of another's.

    It is given as an answer, and the answer is looked for in it. An answer that is to be found in a text, as in reading
    comprehension, stands in its prompt and fails this.
    """
    golds = [(example, score.answer) for (example, _), score in zip(session.golds, session.gold_scores, strict=True)]
    pairs = [(own, other) for own, other in zip(golds, [*golds[1:], *golds[:1]], strict=True) if own[1] != other[1]]
    if not pairs:
        return None, "no two different gold answers are known"
    own = session.score([(example, session.posed(example)) for (example, _), _ in pairs])
    other = session.score([(example, session.posed(posed)) for (posed, _), (example, _) in pairs])
    echo, echo_other = _share([score.correct for score in own]), _share([score.correct for score in other])
    told = [session.posed_in_all_ways(example) for (example, _), _ in pairs]
    stands = _share([stands_in(answer, text) for ((_, answer), _), text in zip(pairs, told, strict=True)])
    stands_other = _share([stands_in(answer, text) for (_, (_, answer)), text in zip(pairs, told, strict=True)])
    return echo - echo_other <= ECHOED and stands - stands_other <= STANDING, (
        f"given as answers, {echo:.0%} of prompts are right for their own question, {echo_other:.0%} for another; "
        f"the answer stands in {stands:.0%} of its own prompts, {stands_other:.0%} of others"
    )


def check_contamination(session: TaskSession) -> Observation:
    """No question of the test split stands in the support split; runs of words in common are told, not judged."""
    test, support = ([session.posed(e) for e in part] for part in (session.splits.test, session.splits.support))
    found = overlap(test, support)
    return found.same == 0, (
        f"of {found.texts} test questions, {found.same} stand in the support split, and {found.runs} have {RUN} words "
        "in a row in common with it"
    )


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)
