from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.distributed import ProcessGroup
from bench.strategy import parse_strategy
from methods.training.aligned import NO_VOTE, aligned_loss, group_weights

NAN = float("nan")


@pytest.mark.parametrize("objective", ["pass@8", "maj@5"])
def test_what_could_not_be_judged_is_no_part_of_its_group(objective):
    strategy = parse_strategy(objective)

    def weights(*groups):
        columns = np.array([[[*(float(right) for right in g)] for g in groups]] * 2 + [[*map(votes, groups)]])
        return group_weights(strategy, columns).reshape(len(groups), -1)[:, 0]

    def votes(group):
        return [NAN if np.isnan(right) else 7.0 if right else 3.0 + place % 2 for place, right in enumerate(group)]

    judged = weights([1, 0, 1, 0], [0, 0, 0, 0])
    np.testing.assert_allclose(weights([1, 0, NAN, 1, 0, NAN], [0, 0, 0, 0, NAN, NAN]), judged)
    assert judged[0] != judged[1]


def test_a_batch_without_judged_answers_has_weights():
    nothing = np.full((3, 2, 4), NAN)
    for objective in ("pass@8", "maj@8", "bon@8"):
        np.testing.assert_array_equal(group_weights(parse_strategy(objective), nothing), 1.0)


def test_those_who_do_not_vote_are_wrong_and_rival_nobody():
    right = [1.0, 0.0, 0.0, 0.0]
    silent = [[7.0, NO_VOTE, NO_VOTE, NO_VOTE], [7.0, 3.0, 3.0, 3.0]]
    first, second = group_weights(parse_strategy("maj@8"), np.array([[right] * 2] * 2 + [silent])).reshape(2, 4)[:, 0]
    assert first != second


class Second(ProcessGroup):
    """The second of two processes; the first has other examples."""

    def gather(self, mine):
        return [mine * 0 + 8.0, mine]


def test_a_gold_answers_weight_is_relative_to_the_whole_batch_in_every_process():
    logits = torch.zeros(2, 3, 4, requires_grad=True)
    with torch.no_grad():
        logits[0, :, 1] = 9.0  # the first answer is known, the second is not
    labels = torch.tensor([[-100, 1, 1], [-100, 1, 1]])

    def gradients(ranks):
        logits.grad = None
        aligned_loss(parse_strategy("pass@4"), ranks)(SimpleNamespace(logits=logits), labels, 4).backward()
        return logits.grad.abs().sum(dim=(1, 2))

    alone, shared = gradients(ProcessGroup()), gradients(Second(1, 2))
    # What a known answer weighs against an unknown one is the same; all weigh less beside heavier ones elsewhere.
    torch.testing.assert_close(alone / alone[1], shared / shared[1])
    assert shared[1] < alone[1] / 5
