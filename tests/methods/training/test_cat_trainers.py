from types import SimpleNamespace

import numpy as np
import pytest
import torch

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
        return [NAN if np.isnan(correct) else 7.0 if correct else 3.0 + i % 2 for i, correct in enumerate(group)]

    scored = weights([1, 0, 1, 0], [0, 0, 0, 0])
    np.testing.assert_allclose(weights([1, 0, NAN, 1, 0, NAN], [0, 0, 0, 0, NAN, NAN]), scored)
    assert scored[0] != scored[1]


def test_a_batch_without_scored_answers_has_weights_of_1():
    unscored = np.full((3, 2, 4), NAN)
    for objective in ("pass@8", "maj@8", "bon@8"):
        np.testing.assert_array_equal(group_weights(parse_strategy(objective), unscored), 1.0)


def test_wrong_answers_without_a_vote_are_no_rivals():
    correct = [1.0, 0.0, 0.0, 0.0]
    votes = [[7.0, NO_VOTE, NO_VOTE, NO_VOTE], [7.0, 3.0, 3.0, 3.0]]
    first, second = group_weights(parse_strategy("maj@8"), np.array([[correct] * 2] * 2 + [votes])).reshape(2, 4)[:, 0]
    assert first != second


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
