from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bench.errors import BenchError
from methods.interface import Rollout
from methods.training.ratio import Ratio, RatioCheck

PROMPT, ANSWER = (3, 1), (2, 4)


class Model(nn.Module):
    """Language model over five tokens whose next token depends on the present one only."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 5)

    def forward(self, input_ids, attention_mask, last=None):
        logits = self.table(input_ids)
        return SimpleNamespace(logits=logits if last is None else logits[:, -last:])


def measured(temperature=1.0, sampled_at=1.0, answer=ANSWER, prefix=0, **given):
    """Return the ratio in the update pass of a row with padding, for an answer sampled at a temperature."""
    torch.manual_seed(0)
    model = Model()
    ids = torch.tensor([[0, *PROMPT, *answer, 0]])
    mask = torch.tensor([[0, 1, 1, *[1] * len(answer), 0]])
    logprobs = torch.log_softmax(model.table(torch.tensor([PROMPT[-1], *ANSWER[:-1]])) / sampled_at, -1).detach()
    sampled = logprobs.gather(-1, torch.tensor([ANSWER]).T)[prefix:, 0]
    rollout = Rollout(PROMPT, ANSWER, sampled, None, truncated=False, prefix=prefix)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    check = RatioCheck(SimpleNamespace(model=model, rollouts=[rollout]), optimizer, temperature)
    with torch.no_grad():
        model(input_ids=ids, attention_mask=mask, **given)  # no update pass
    assert check.ratio == Ratio()
    for _ in range(2):  # only the first pass comes before an update
        model(input_ids=ids, attention_mask=mask, **given).logits.sum().backward()
        optimizer.step()
    return check.ratio


@pytest.mark.parametrize(("scale", "tokens"), [(0.0, 2), (1.0, 0)])
def test_an_update_ends_the_measurement_and_a_step_that_moves_nothing_does_not(scale, tokens):
    model, ids = Model(), torch.tensor([[*PROMPT, *ANSWER]])
    rollout = Rollout(PROMPT, ANSWER, torch.zeros(2), None, truncated=False)
    training = SimpleNamespace(model=model, rollouts=[])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    check = RatioCheck(training, optimizer, 1.0)
    optimizer.step()  # without any gradient
    for rollouts, factor in (([], scale), ([rollout], 1.0), ([rollout], 1.0)):
        training.rollouts = rollouts
        (model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum() * factor).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert check.ratio.tokens == tokens


def test_a_measurement_can_be_repeated_at_every_step():
    model, ids = Model(), torch.tensor([[*PROMPT, *ANSWER]])
    rollout = Rollout(PROMPT, ANSWER, torch.zeros(2), None, truncated=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    check = RatioCheck(SimpleNamespace(model=model, rollouts=[rollout]), optimizer, 1.0)
    found = []
    for _ in range(2):
        for _ in range(2):  # two updates, of which the first counts
            model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[..., ANSWER].sum().backward()
            optimizer.step()
        found.append(check.ratio)
        check.restart()
    assert [ratio.tokens for ratio in found] == [2, 2]
    assert found[0].distance != found[1].distance
    assert check.ratio == Ratio()


@pytest.mark.parametrize("given", [{}, {"last": 4}])
def test_the_ratio_is_1_where_sampling_and_training_agree(given):
    ratio = measured(temperature=2.0, sampled_at=2.0, **given)
    assert ratio.tokens == 2
    assert ratio.report() == {"mean": 1.0, "distance": pytest.approx(0, abs=1e-6), "tokens": 2}
    ratio.check(mixed=False)


def test_a_row_that_was_not_sampled_is_left_out():
    assert measured(answer=(2, 3)) == Ratio()


def test_another_distribution_is_refused():
    ratio = measured(sampled_at=1.5)
    with pytest.raises(BenchError, match=r"ratio of sampled tokens has a mean of .*expected at most 0\.0001\. Answers"):
        ratio.check(mixed=False)


def test_an_engine_in_half_precision_may_differ_more():
    ratio = Ratio(tokens=10, total=10.0, distance=1.0)
    ratio.check(mixed=False, rollout_dtype="bfloat16")
    for dtype in (None, "float32"):
        with pytest.raises(BenchError, match=r"mean distance from 1 of 0\.1; expected at most 0\.0001"):
            ratio.check(mixed=False, rollout_dtype=dtype)
    with pytest.raises(BenchError, match=r"at most 0\.05\. "):
        ratio.check(mixed=True, rollout_dtype="float32")
    with pytest.raises(BenchError, match=r"at most 0\.2\. .* The engine samples in bfloat16: take --dtype float32"):
        Ratio(tokens=10, total=10.0, distance=3.0).check(mixed=False, rollout_dtype="bfloat16")


def test_distances_do_not_cancel():
    with pytest.raises(BenchError, match=r"a mean of 1 and a mean distance from 1 of 0\.2"):
        Ratio(tokens=2, total=2.0, distance=0.4).check(mixed=True)


def test_a_ratio_that_is_no_number_is_refused_and_no_ratio_is_not():
    with pytest.raises(BenchError, match="mean of nan"):
        Ratio(1, float("nan"), float("nan")).check(mixed=True)
    Ratio().check(mixed=False)
    assert Ratio().report() is None


def test_tokens_that_were_given_are_left_out():
    assert measured(prefix=1, temperature=2.0, sampled_at=2.0).report()["tokens"] == 1
