"""Checks of the scorer, of votes and of the signal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

from bench.exam.answers import EMPTY, absurd, cut_off, noise
from bench.exam.sitting import Observation, Pair, Sitting, named, outcome
from tasks.interface import Score, Vote

ACCIDENTS = 0.05
"""Share of cut-off answers that may be right: what is cut off need not be what made an answer right."""
_NO_GOLD: Observation = None, "the task knows no gold answers"
_ALONE = 10  # answers that are scored once more on their own
_OTHERS = 3  # gold answers of other examples, as wrong ones


def check_gold(sitting: Sitting) -> Observation:
    """Every gold answer is right, with reward 1."""
    if not sitting.golds:
        return _NO_GOLD
    wrong = [
        f"{example.id}: {score.detail or score.answer}"
        for (example, _), score in zip(sitting.golds, sitting.gold_scores, strict=True)
        if not (score.correct and score.reward == 1.0)
    ]
    return outcome(wrong, f"{len(sitting.golds)} are right")


def check_determinism(sitting: Sitting) -> Observation:
    """An answer has one score, whatever is scored with it and in which order."""
    pairs = [*sitting.golds, *zip(cycle(sitting.examples), noise())]
    forward = _verdicts(sitting.score(pairs))
    backward = _verdicts(sitting.score(pairs[::-1]))[::-1]
    step = -(-len(pairs) // _ALONE)
    alone = _verdicts([sitting.task.score(*pair) for pair in pairs[::step]])
    wrong = [named(pair) for pair, one, other in zip(pairs, forward, backward, strict=True) if one != other]
    wrong += [named(p) for p, one, other in zip(pairs[::step], forward[::step], alone, strict=True) if one != other]
    return outcome(wrong, f"{len(pairs)} answers were scored in two orders, {len(alone)} of them alone, too")


def check_empty(sitting: Sitting) -> Observation:
    """An empty answer is wrong and has no reward."""
    pairs = [(example, text) for example in sitting.examples for text in EMPTY]
    wrong = [
        f"{named(pair)} is {'right' if score.correct else f'worth {score.reward:g}'}"
        for pair, score in _judged(sitting, pairs)
        if score.correct or score.reward != 0.0
    ]
    return outcome(wrong, f"{len(pairs)} are worth nothing")


def check_absurd(sitting: Sitting) -> Observation:
    """Noise, floods of a megabyte and texts that break parsers are wrong, and worth less than a right answer."""
    pairs = list(zip(cycle(sitting.examples), absurd()))
    wrong = [
        f"{named(pair)} is {'right' if score.correct else f'worth {score.reward:g}'}"
        for pair, score in _judged(sitting, pairs)
        if score.correct or not 0.0 <= score.reward < 1.0
    ]
    return outcome(wrong, f"{len(pairs)} are wrong")


def check_cut_off(sitting: Sitting) -> Observation:
    """A gold answer without its end is wrong, but for accidents."""
    if not sitting.golds:
        return _NO_GOLD
    pairs = [
        (example, text)
        for (example, gold), score in zip(sitting.golds, sitting.gold_scores, strict=True)
        for text in cut_off(gold, score.answer)
    ]
    right = [f"{pair[0].id}: ...{pair[1][-40:]!r}" for pair, score in _judged(sitting, pairs) if score.correct]
    seen = f"{len(right)} of {len(pairs)} are right"
    if len(right) <= ACCIDENTS * len(pairs):
        return True, seen
    return False, f"{seen}: {outcome(right, '')[1]}"


def check_votes(sitting: Sitting) -> Observation:
    """Answers that share a vote are right or wrong together; right ones vote, empty ones do not."""
    if sitting.task.vote_by is None:
        return None, "the task does not vote"
    pairs = list(_ballots(sitting))
    votes = sitting.task.vote_keys([example for example, _ in pairs], [text for _, text in pairs])
    wrong = [named(pair) + " votes" for pair, vote in zip(pairs, votes, strict=True) if vote and not pair[1].strip()]
    verdicts: dict[tuple[str, Vote], bool] = {}
    for pair, vote, score in zip(pairs, votes, sitting.score(pairs), strict=True):
        if vote is None:
            wrong += [named(pair) + " is right and does not vote"] if score.correct else []
        elif (
            score.status != "infrastructure" and verdicts.setdefault((pair[0].id, vote), score.correct) != score.correct
        ):
            wrong.append(f"{named(pair)} shares the vote {vote.key[:40]!r} of an answer with another verdict")
    step = -(-len(pairs) // _ALONE)
    alone = [sitting.task.vote_key(*pair) for pair in pairs[::step]]
    wrong += [
        named(pair) + " has another vote alone"
        for pair, one, other in zip(pairs[::step], votes[::step], alone, strict=True)
        if one != other
    ]
    return outcome(wrong, f"{len(pairs)} answers, by {sitting.task.vote_by}")


def _ballots(sitting: Sitting) -> Iterator[Pair]:
    """Right answers in two dresses, right answers to other examples, noise and nothing."""
    yield from zip(sitting.examples, cycle(EMPTY))
    yield from zip(sitting.examples, cycle(noise()))
    golds = [gold for _, gold in sitting.golds]
    for number, (example, gold) in enumerate(sitting.golds):
        others = islice(cycle(golds), number + 1, number + 1 + _OTHERS)
        for text in (gold, f"\n{gold} \n", *others):
            yield example, text


def check_signal(sitting: Sitting) -> Observation:
    """The signal lies in [0, 1], and right answers have at least that of absurd ones, some of them more."""
    if sitting.task.signal_by is None:
        return None, "nothing tells good answers from bad without the gold answer"
    if not sitting.golds:
        return _NO_GOLD
    pairs = [*sitting.golds, *((example, text) for (example, _), text in zip(sitting.golds, cycle(noise())))]
    signals = sitting.task.signals([example for example, _ in pairs], [text for _, text in pairs])
    count = len(sitting.golds)
    above = [good - bad for good, bad in zip(signals[:count], signals[count:], strict=True)]
    wrong = [f"{named(pair)} has {signal}" for pair, signal in zip(pairs, signals, strict=True) if not 0 <= signal <= 1]
    wrong += [named(pair) + " has less than noise" for pair, more in zip(sitting.golds, above, strict=True) if more < 0]
    wrong += [] if max(above) > 0 else ["no right answer has more than noise"]
    return outcome(wrong, f"{count} right answers against noise, by {sitting.task.signal_by}")


def _judged(sitting: Sitting, pairs: Sequence[Pair]) -> list[tuple[Pair, Score]]:
    """Answers with their scores, without those that could not be judged."""
    scored = zip(pairs, sitting.score(pairs), strict=True)
    return [(pair, score) for pair, score in scored if score.status != "infrastructure"]


def _verdicts(scores: Sequence[Score]) -> list[tuple[float, bool, str | None, str]]:
    # The detail may say how long it took.
    return [(score.reward, score.correct, score.answer, score.status) for score in scores]
