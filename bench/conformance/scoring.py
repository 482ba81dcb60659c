"""Conformance checks of a task's scorer, votes and signal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

from bench.conformance.answers import EMPTY, absurd, cut_off, noise
from bench.conformance.session import Observation, Pair, TaskSession, describe, outcome
from bench.run.golds import wrong_gold
from bench.run.returned import gold_problem
from tasks.interface import Score, Vote

MAX_CUT_OFF_RIGHT = 0.05
"""Maximum share of truncated answers that may score as right. A few can stay right, as in `1.0` cut to `1`."""
_NO_GOLD: Observation = None, "the task has no gold answers"
_ALONE = 10  # number of answers that are also scored one by one
_OTHERS = 3  # number of other examples' gold answers used as wrong answers


def check_gold(session: TaskSession) -> Observation:
    """Check that every gold answer is correct and has reward 1: of all rows of a file, else of the examples."""
    if wrong := [problem for example in session.all_examples if (problem := gold_problem(session.task, example))]:
        return outcome(wrong, "")
    golds, scores = session.golds, session.gold_scores
    if session.data is not None:
        golds = session.golds_of(session.all_examples)
        scores = session.score(golds)
    if not golds:
        return _NO_GOLD
    wrong = [
        wrong_gold(session.task, example, score)
        for (example, _), score in zip(golds, scores, strict=True)
        if not (score.correct and score.reward == 1.0)
    ]
    return outcome(wrong, f"all {len(golds)} are right")


def check_determinism(session: TaskSession) -> Observation:
    """Check that the score of an answer does not depend on the batch or the order of scoring."""
    pairs = [*session.golds, *zip(cycle(session.examples), noise())]
    forward = _verdicts(session.score(pairs))
    backward = _verdicts(session.score(pairs[::-1]))[::-1]
    step = -(-len(pairs) // _ALONE)
    alone = _verdicts([session.task.score(*pair) for pair in pairs[::step]])
    wrong = [describe(pair) for pair, one, other in zip(pairs, forward, backward, strict=True) if one != other]
    wrong += [describe(p) for p, one, other in zip(pairs[::step], forward[::step], alone, strict=True) if one != other]
    return outcome(wrong, f"scored {len(pairs)} answers in two orders, and {len(alone)} of them one by one")


def check_empty(session: TaskSession) -> Observation:
    """Check that empty answers are wrong and have reward 0."""
    pairs = [(example, text) for example in session.examples for text in EMPTY]
    wrong = [
        f"{describe(pair)} is right" if score.correct else f"{describe(pair)} has reward {score.reward:g}"
        for pair, score in _judged(session, pairs)
        if score.correct or score.reward != 0.0
    ]
    return outcome(wrong, f"all {len(pairs)} have reward 0")


def check_absurd(session: TaskSession) -> Observation:
    """Check that random, very long and hostile texts are wrong, with a reward in [0, 1)."""
    pairs = list(zip(cycle(session.examples), absurd()))
    wrong = [
        f"{describe(pair)} is right" if score.correct else f"{describe(pair)} has reward {score.reward:g}"
        for pair, score in _judged(session, pairs)
        if score.correct or not 0.0 <= score.reward < 1.0
    ]
    return outcome(wrong, f"all {len(pairs)} are wrong")


def check_cut_off(session: TaskSession) -> Observation:
    """Check that truncated gold answers are wrong, with few exceptions."""
    if not session.golds:
        return _NO_GOLD
    pairs = [
        (example, text)
        for (example, gold), score in zip(session.golds, session.gold_scores, strict=True)
        for text in cut_off(gold, score.answer)
    ]
    right = [f"{pair[0].id}: ...{pair[1][-40:]!r}" for pair, score in _judged(session, pairs) if score.correct]
    seen = f"{len(right)} of {len(pairs)} are right"
    if len(right) <= MAX_CUT_OFF_RIGHT * len(pairs):
        return True, seen
    return False, f"{seen}: {outcome(right, '')[1]}"


def check_votes(session: TaskSession) -> Observation:
    """Check that answers with the same vote have the same verdict, right answers vote, and empty answers abstain."""
    if session.task.vote_by is None:
        return None, "the task has no votes"
    pairs = list(_ballots(session))
    votes = session.task.vote_keys([example for example, _ in pairs], [text for _, text in pairs])
    wrong = [describe(pair) + " votes" for pair, vote in zip(pairs, votes, strict=True) if vote and not pair[1].strip()]
    verdicts: dict[tuple[str, Vote], bool] = {}
    for pair, vote, score in zip(pairs, votes, session.score(pairs), strict=True):
        if vote is None:
            wrong += [describe(pair) + " is right and does not vote"] if score.correct else []
        elif (
            score.status != "infrastructure" and verdicts.setdefault((pair[0].id, vote), score.correct) != score.correct
        ):
            wrong.append(f"{describe(pair)} has the same vote {vote.key[:40]!r} as an answer with the other verdict")
    step = -(-len(pairs) // _ALONE)
    alone = [session.task.vote_key(*pair) for pair in pairs[::step]]
    wrong += [
        describe(pair) + " has another vote when processed alone"
        for pair, one, other in zip(pairs[::step], votes[::step], alone, strict=True)
        if one != other
    ]
    return outcome(wrong, f"{len(pairs)} answers, by {session.task.vote_by}")


def _ballots(session: TaskSession) -> Iterator[Pair]:
    """Yield empty answers, noise, gold answers with and without extra white space, and other examples' gold answers."""
    yield from zip(session.examples, cycle(EMPTY))
    yield from zip(session.examples, cycle(noise()))
    golds = [gold for _, gold in session.golds]
    for number, (example, gold) in enumerate(session.golds):
        others = islice(cycle(golds), number + 1, number + 1 + _OTHERS)
        for text in (gold, f"\n{gold} \n", *others):
            yield example, text


def check_signal(session: TaskSession) -> Observation:
    """Check that the signal is in [0, 1], no gold answer has less than noise, and some gold answer has more."""
    if session.task.signal_by is None:
        return None, "the task has no signal"
    if not session.golds:
        return _NO_GOLD
    pairs = [*session.golds, *((example, text) for (example, _), text in zip(session.golds, cycle(noise())))]
    signals = session.task.signals([example for example, _ in pairs], [text for _, text in pairs])
    count = len(session.golds)
    above = [good - bad for good, bad in zip(signals[:count], signals[count:], strict=True)]
    wrong = [
        f"{describe(p)} has signal {signal}" for p, signal in zip(pairs, signals, strict=True) if not 0 <= signal <= 1
    ]
    wrong += [
        describe(pair) + " has a lower signal than noise"
        for pair, difference in zip(session.golds, above, strict=True)
        if difference < 0
    ]
    wrong += [] if max(above) > 0 else ["no gold answer has a higher signal than noise"]
    return outcome(wrong, f"compared {count} gold answers with noise, by {session.task.signal_by}")


def _judged(session: TaskSession, pairs: Sequence[Pair]) -> list[tuple[Pair, Score]]:
    """Return answers with their scores. Answers that could not be judged are left out."""
    scored = zip(pairs, session.score(pairs), strict=True)
    return [(pair, score) for pair, score in scored if score.status != "infrastructure"]


def _verdicts(scores: Sequence[Score]) -> list[tuple[float, bool, str | None, str]]:
    # Without the detail, which may contain a run time.
    return [(score.reward, score.correct, score.answer, score.status) for score in scores]
