from itertools import cycle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import binom

from bench.distributed import ProcessGroup
from bench.strategy import parse_strategy
from methods.training.cat_trainers import NO_VOTE, gold_weights, group_weights
from methods.training.tuner import gold_loss

NAN = float("nan")


@pytest.mark.parametrize("objective", ["pass@8", "maj@5"])
def test_an_unscored_answer_does_not_count_in_its_group(objective):
    strategy = parse_strategy(objective)

    def weights(*groups):
        columns = np.array([[[*(float(correct) for correct in g)] for g in groups]] * 2 + [[*map(votes, groups)]])
        return group_weights(strategy, columns).reshape(len(groups), -1)[:, 0]

    def votes(group):
        rivals = cycle([3.0, 4.0])
        return [NAN if np.isnan(correct) else 7.0 if correct else next(rivals) for correct in group]

    scored = weights([1, 0, 1, 0], [0, 0, 0, 0])
    np.testing.assert_allclose(weights([1, 0, NAN, 1, 0, NAN], [0, 0, 0, 0, NAN, NAN]), scored)
    assert scored[0] != scored[1]


def test_a_batch_without_scored_answers_has_finite_weights():
    unscored = np.full((3, 2, 4), NAN)
    for objective in ("pass@8", "maj@8", "bon@8"):
        assert np.isfinite(group_weights(parse_strategy(objective), unscored)).all()


@pytest.mark.parametrize(("objective", "most"), [("pass@8", 61.2), ("pass@4", 5.83), ("pass@1", 1.0)])
def test_prompts_weigh_in_the_expected_gradient_as_in_the_formula(objective, most):
    strategy, size = parse_strategy(objective), 8
    outcomes = np.array([[1.0] * right + [0.0] * (size - right) for right in range(size + 1)])
    weights = group_weights(strategy, np.array([outcomes] * 2)).reshape(outcomes.shape)

    def gradient(p):
        """Return the expected gradient of a Bernoulli policy, in units of the gradient of p."""
        advantages = outcomes - outcomes.mean(axis=1, keepdims=True)
        score = (outcomes - p) / (p * (1 - p))  # d log P(answer) / dp
        chances = binom.pmf(np.arange(size + 1), size, p)
        return chances @ (weights * advantages * score).mean(axis=1)

    n = strategy.k
    expected = (0.9 / 0.5) ** (n - 1)
    assert gradient(0.1) / gradient(0.5) == pytest.approx(expected)
    assert expected == pytest.approx(most, rel=0.01)


def test_weights_have_mean_1_over_the_groups_whose_rewards_differ():
    flat, mixed, known = [0.0] * 4, [1.0, 0.0, 0.0, 0.0], [1.0] * 4
    for objective in ("pass@4", "pass@2", "maj@3", "bon@4"):
        columns = np.array([[flat, flat, mixed, mixed, known]] * 2 + [[[7.0, 1.0, 2.0, 3.0]] * 5])
        weights = group_weights(parse_strategy(objective), columns).reshape(5, 4)
        assert weights[2:4].mean() == pytest.approx(1.0)


def test_groups_that_add_nothing_to_the_objective_get_no_weight():
    columns = np.array([[[1.0, 1.0, 1.0, 0.0]] * 3] * 2)  # three of four are correct, so the best of four is correct
    np.testing.assert_array_equal(group_weights(parse_strategy("pass@4"), columns), 0.0)


def test_the_weight_of_an_answer_does_not_depend_on_the_answer_itself():
    for objective in ("pass@3", "maj@3", "pass@9"):
        for others in ([1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]):
            groups = [[own, *others] for own in (1.0, 0.0)]
            votes = [[7.0 if correct else 3.0 for correct in group] for group in groups]
            right, wrong = raw_weights(objective, groups, votes)[:, 0]
            assert right == wrong


def raw_weights(objective, groups, votes):
    """Return weights that are not scaled: those of a batch in which no group has a signal."""
    columns = np.array([np.zeros_like(groups), groups, votes])
    return group_weights(parse_strategy(objective), columns).reshape(len(groups), -1)


def test_wrong_answers_without_a_vote_are_no_rivals():
    correct = [[1.0, 1.0, 0.0, 0.0, 0.0]] * 2
    votes = [[7.0, 7.0, NO_VOTE, NO_VOTE, NO_VOTE], [7.0, 7.0, 3.0, 3.0, 3.0]]
    alone, beaten = raw_weights("maj@3", correct, votes)[:, 0]
    # Of the four others of the first answer one is correct. Without rivals one vote of three wins: both other voters
    # must be wrong, as in 3 of 6 pairs. Against three of four votes two are needed: one of both must be correct.
    assert alone == pytest.approx(3 * 3 / 6)
    assert beaten == pytest.approx(3 * 3 / 6)
    # A wrong answer has two equal rivals among its others, and two correct ones: 1 of 6 pairs is wrong, 4 are mixed.
    alone, beaten = raw_weights("maj@3", correct, votes)[:, 4]
    assert alone == pytest.approx(3 * 1 / 6)
    assert beaten == pytest.approx(3 * 4 / 6)


class Second(ProcessGroup):
    """Second of two processes. The first one always has larger weights."""

    def gather(self, mine):
        return [mine * 0 + 8.0, mine]


def test_the_weights_of_gold_answers_are_relative_to_the_whole_batch_over_all_processes():
    logits = torch.zeros(2, 3, 4, requires_grad=True)
    with torch.no_grad():
        logits[0, :, 1] = 9.0  # the model knows the first answer and not the second
    labels = torch.tensor([[-100, 1, 1], [-100, 1, 1]])

    def gradients(ranks):
        logits.grad = None
        loss = gold_loss(gold_weights(parse_strategy("pass@4"), ranks))
        loss(SimpleNamespace(logits=logits), labels, 4).backward()
        return logits.grad.abs().sum(dim=(1, 2))

    alone, shared = gradients(ProcessGroup()), gradients(Second(1, 2))
    # The ratio of the weights is unchanged. All are smaller, because the other process has larger weights.
    torch.testing.assert_close(alone / alone[1], shared / shared[1])
    assert shared[1] < alone[1] / 5
