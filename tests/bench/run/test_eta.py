from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.run.eta import Left, Part, rates, time_left

AMOUNTS = st.floats(1e-3, 1e15)
RATES = st.floats(1e-12, 1e3)


@st.composite
def runs(draw):
    """Parts of a run in the middle of it, with measured speeds of some."""
    parts = []
    for kind in draw(st.lists(st.sampled_from(["training", "answers", "trials"]), min_size=1, max_size=5)):
        planned, share = draw(AMOUNTS), draw(st.sampled_from([0, 0.125, 0.5, 0.75, 1, 1.5]))
        measured = planned * share * draw(st.sampled_from([0.0, 0.5, 1.0]))
        parts.append(Part(kind, planned, planned * share, measured, measured * draw(RATES), draw(st.booleans())))
    return parts


priors = st.dictionaries(st.sampled_from(["training", "answers"]), RATES)


def seconds(parts, prior=None):
    left = time_left(parts, prior)
    return None if left is None else left.now + left.later


@given(runs(), priors, AMOUNTS)
def test_the_time_left_is_never_negative_and_falls_with_the_clock(parts, prior, elapsed):
    left = time_left(parts, prior)
    if left is not None:
        assert 0 <= left.later <= left.after(elapsed) <= left.after(0) == left.now + left.later


@given(runs(), priors)
def test_it_is_0_when_all_is_done(parts, prior):
    assert seconds([replace(part, done=part.planned) for part in parts], prior) == 0
    assert seconds([replace(part, ended=True) for part in parts], prior) == 0


@given(runs(), RATES, st.booleans())
def test_at_a_constant_speed_it_is_exact(parts, rate, known):
    parts = [replace(part, seconds=part.measured * rate) for part in parts]
    found = seconds(parts, dict.fromkeys(("training", "answers", "trials"), rate) if known else None)
    if known or any(part.measured for part in parts):
        assert found == pytest.approx(rate * sum(part.left for part in parts))
    elif any(part.left for part in parts):
        assert found is None


@given(runs(), priors, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_it_does_not_depend_on_the_unit_of_work_and_is_in_the_unit_of_time(parts, prior, unit, time):
    scaled = [
        replace(
            part,
            planned=part.planned * unit,
            done=part.done * unit,
            measured=part.measured * unit,
            seconds=part.seconds * time,
        )
        for part in parts
    ]
    found, other = seconds(parts, prior), seconds(scaled, {kind: rate * time / unit for kind, rate in prior.items()})
    assert (found is None) == (other is None)
    if found is not None:
        assert other == pytest.approx(found * time)


@given(runs(), priors, st.randoms())
def test_it_does_not_depend_on_the_order_of_the_parts(parts, prior, random):
    shuffled = random.sample(parts, len(parts))
    assert seconds(shuffled, prior) == pytest.approx(seconds(parts, prior))


@given(runs(), priors)
def test_an_expected_speed_lies_between_what_was_measured_and_known(parts, prior):
    given = [part.seconds / part.measured for part in parts if part.measured] + list(prior.values())
    for rate in rates(parts, prior):
        if rate == rate:
            assert min(given) * (1 - 1e-9) <= rate <= max(given) * (1 + 1e-9)


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.integers(5, 200))
def test_the_end_moves_little_while_a_speed_differs_from_what_was_known(known, true, steps):
    """The expected end moves in one direction, from the known speed towards the measured one."""
    ends = []
    for step in range(steps + 1):
        part = Part("answers", steps, step, step, step * true)
        ends.append(step * true + seconds([part], {"answers": known}))
    assert ends[0] == pytest.approx(steps * known)
    assert ends[-1] == pytest.approx(steps * true)
    falling = true < known
    assert all((after <= before + 1e-6) if falling else (after >= before - 1e-6) for before, after in pairwise(ends))


def test_a_part_that_is_late_does_not_shorten_the_parts_after_it():
    assert Left(10, 5).after(30) == 5


def test_a_kind_that_was_not_measured_is_as_fast_as_all_that_was():
    training, answers = Part("training", 100, 50, 50, 25), Part("answers", 10)
    assert time_left([training, answers]) == Left(25, 5)
    assert time_left([training, answers], {"answers": 2}).later == pytest.approx(20)
    assert time_left([Part("training", 100), answers]) is None
