"""Checks of the scorer, of votes and of the signal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

from bench.conformance.answers import EMPTY, absurd, cut_off, noise
from bench.conformance.session import Observation, Pair, TaskSession, named, outcome
from tasks.interface import Score, Vote

ACCIDENTS = 0.05
"""Share of cut-off answers that may be right: what is cut off need not be what made an answer right."""
_NO_GOLD: Observation = None, "the task knows no gold answers"
_ALONE = 10  # answers that are scored once more on their own
_OTHERS = 3  # gold answers of other examples, as wrong ones


def check_gold(session: TaskSession) -> Observation:
    """Every gold answer is right, with reward 1."""
    if not session.golds:
        return _NO_GOLD
    wrong = [
        f"{example.id}: {score.detail or score.answer}"
        for (example, _), score in zip(session.golds, session.gold_scores, strict=True)
        if not (score.correct and score.reward == 1.0)
    ]
    return outcome(wrong, f"{len(session.golds)} are right")


def check_determinism(session: TaskSession) -> Observation:
    """An answer has one score, whatever is scored with it and in which order."""
    pairs = [*session.golds, *zip(cycle(session.examples), noise())]
    forward = _verdicts(session.score(pairs))
    backward = _verdicts(session.score(pairs[::-1]))[::-1]
    step = -(-len(pairs) // _ALONE)
    alone = _verdicts([session.task.score(*pair) for pair in pairs[::step]])
    wrong = [named(pair) for pair, one, other in zip(pairs, forward, backward, strict=True) if one != other]
    wrong += [named(p) for p, one, other in zip(pairs[::step], forward[::step], alone, strict=True) if one != other]
    return outcome(wrong, f"{len(pairs)} answers were scored in two orders, {len(alone)} of them alone, too")


def check_empty(session: TaskSession) -> Observation:
    """An empty answer is wrong and has no reward."""
    pairs = [(example, text) for example in session.examples for text in EMPTY]
    wrong = [
        f"{named(pair)} is {'right' if score.correct else f'worth {score.reward:g}'}"
        for pair, score in _judged(session, pairs)
        if score.correct or score.reward != 0.0
    ]
    return outcome(wrong, f"{len(pairs)} are worth nothing")


def check_absurd(session: TaskSession) -> Observation:
    """Noise, floods of a megabyte and texts that break parsers are wrong, and worth less than a right answer."""
    pairs = list(zip(cycle(session.examples), absurd()))
    wrong = [
        f"{named(pair)} is {'right' if score.correct else f'worth {score.reward:g}'}"
        for pair, score in _judged(session, pairs)
        if score.correct or not 0.0 <= score.reward < 1.0
    ]
    return outcome(wrong, f"{len(pairs)} are wrong")


def check_cut_off(session: TaskSession) -> Observation:
    """A gold answer without its end is wrong, but for accidents."""
    if not session.golds:
        return _NO_GOLD
    pairs = [
        (example, text)
        for (example, gold), score in zip(session.golds, session.gold_scores, strict=True)
        for text in cut_off(gold, score.answer)
    ]
    right = [f"{pair[0].id}: ...{pair[1][-40:]!r}" for pair, score in _judged(session, pairs) if score.correct]
    seen = f"{len(right)} of {len(pairs)} are right"
    if len(right) <= ACCIDENTS * len(pairs):
        return True, seen
    return False, f"{seen}: {outcome(right, '')[1]}"


def check_votes(session: TaskSession) -> Observation:
    """Answers that share a vote are right or wrong together; right ones vote, empty ones do not."""
    if session.task.vote_by is None:
        return None, "the task does not vote"
    pairs = list(_ballots(session))
    votes = session.task.vote_keys([example for example, _ in pairs], [text for _, text in pairs])
    wrong = [named(pair) + " votes" for pair, vote in zip(pairs, votes, strict=True) if vote and not pair[1].strip()]
    verdicts: dict[tuple[str, Vote], bool] = {}
    for pair, vote, score in zip(pairs, votes, session.score(pairs), strict=True):
        if vote is None:
            wrong += [named(pair) + " is right and does not vote"] if score.correct else []
        elif (
            score.status != "infrastructure" and verdicts.setdefault((pair[0].id, vote), score.correct) != score.correct
        ):
            wrong.append(f"{named(pair)} shares the vote {vote.key[:40]!r} of an answer with another verdict")
    step = -(-len(pairs) // _ALONE)
    alone = [session.task.vote_key(*pair) for pair in pairs[::step]]
    wrong += [
        named(pair) + " has another vote alone"
        for pair, one, other in zip(pairs[::step], votes[::step], alone, strict=True)
        if one != other
    ]
    return outcome(wrong, f"{len(pairs)} answers, by {session.task.vote_by}")


def _ballots(session: TaskSession) -> Iterator[Pair]:
    """Right answers in two dresses, right answers to other examples, noise and nothing."""
    yield from zip(session.examples, cycle(EMPTY))
    yield from zip(session.examples, cycle(noise()))
    golds = [gold for _, gold in session.golds]
    for number, (example, gold) in enumerate(session.golds):
        others = islice(cycle(golds), number + 1, number + 1 + _OTHERS)
        for text in (gold, f"\n{gold} \n", *others):
            yield example, text


def check_signal(session: TaskSession) -> Observation:
    """The signal lies in [0, 1], and right answers have at least that of absurd ones, some of them more."""
    if session.task.signal_by is None:
        return None, "nothing tells good answers from bad without the gold answer"
    if not session.golds:
        return _NO_GOLD
    pairs = [*session.golds, *((example, text) for (example, _), text in zip(session.golds, cycle(noise())))]
    signals = session.task.signals([example for example, _ in pairs], [text for _, text in pairs])
    count = len(session.golds)
    above = [good - bad for good, bad in zip(signals[:count], signals[count:], strict=True)]
    wrong = [f"{named(pair)} has {signal}" for pair, signal in zip(pairs, signals, strict=True) if not 0 <= signal <= 1]
    wrong += [named(pair) + " has less than noise" for pair, more in zip(session.golds, above, strict=True) if more < 0]
    wrong += [] if max(above) > 0 else ["no right answer has more than noise"]
    return outcome(wrong, f"{count} right answers against noise, by {session.task.signal_by}")


def _judged(session: TaskSession, pairs: Sequence[Pair]) -> list[tuple[Pair, Score]]:
    """Answers with their scores, without those that could not be judged."""
    scored = zip(pairs, session.score(pairs), strict=True)
    return [(pair, score) for pair, score in scored if score.status != "infrastructure"]


def _verdicts(scores: Sequence[Score]) -> list[tuple[float, bool, str | None, str]]:
    # The detail may say how long it took.
    return [(score.reward, score.correct, score.answer, score.status) for score in scores]
