"""Losses of GRPO and several updates per batch: their formulas by hand, and what each reduces to."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from training_steps import LR, PATH, REWARDS, gradient, open_session, train, weights
from transformers import AutoModelForCausalLM

from methods.training.cat import Cat
from methods.training.config import CatConfig, GrpoConfig, PpoConfig
from methods.training.dpo import Dpo
from methods.training.dump import Dump
from methods.training.ftis import Ftis
from methods.training.group import GroupMethod
from methods.training.grpo import Grpo
from methods.training.kdrl import Kdrl
from methods.training.loop import StepCallback
from methods.training.losses import LOSSES, leave_one_out
from methods.training.pcl import Pcl
from methods.training.ppo import Ppo
from methods.training.prefix_rft import PrefixRft
from methods.training.riskpo import RiskPo
from methods.training.trainers import GroupTrainer
from methods.training.vcpo import Vcpo
from methods.training.vpo import Vpo
from tasks.interface import TaskTraits

TASK = TaskTraits({"support": 400, "select": 400, "gate": 1000}, vote_by="the number")
UNCLIPPED = 1e9


def config(**settings):
    return GrpoConfig(**{"group": 4, "temperature": 3.0, "clip": UNCLIPPED, "lr": LR} | settings)


def trainer(config, loop, folder):
    return GroupTrainer(config, loop, folder, loss=config.loss, updates=config.steps_per_batch)


def test_the_baseline_of_an_answer_is_the_mean_of_the_others():
    rewards = np.array([[[1.0, 0.0, 0.5, np.nan], [1.0, np.nan, np.nan, np.nan]]])
    found = leave_one_out(rewards, np.array([[0.5, -0.5, 0.0, 0.0], [0.0] * 4], np.float32))
    np.testing.assert_allclose(found, [[1 - 0.25, 0 - 0.75, 0.5 - 0.5, 0], [0] * 4])


def answer_gradients(rollouts, temperature=3.0):
    """Return the gradient of each answer's log-probability, [answers, weights], and the answers' lengths."""
    model, found = AutoModelForCausalLM.from_pretrained(PATH), []
    for rollout in rollouts:
        model.zero_grad()
        logits = model(torch.tensor([[*rollout.prompt, *rollout.answer]])).logits[0, len(rollout.prompt) - 1 : -1]
        scores = torch.log_softmax(logits / temperature, dim=-1)
        scores.gather(-1, torch.tensor([rollout.answer]).T).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    return torch.stack(found), torch.tensor([len(rollout.answer) for rollout in rollouts])


@pytest.mark.slow
def test_each_loss_has_the_gradient_of_its_formula(tmp_path):
    session = open_session(tmp_path)
    found = {loss: gradient(session, trainer, config(loss=loss), tmp_path) for loss in LOSSES}
    each, lengths = answer_gradients(session.rollouts)
    assert len(set(lengths.tolist())) > 1
    groups = torch.tensor(REWARDS).reshape(-1, 4)
    mean, deviation = groups.mean(dim=1, keepdim=True), groups.std(dim=1, keepdim=True)
    plain = (groups - mean).flatten()
    scaled = ((groups - mean) / (deviation + 1e-4)).flatten()
    others = (groups - (groups.sum(dim=1, keepdim=True) - groups) / 3).flatten()
    by_hand = {
        "dapo": scaled / lengths.sum(),
        "grpo": scaled / lengths / 8,
        "dr_grpo": plain / 8 / session.max_new_tokens,
        "rloo": others / 8,
        "gspo": scaled / lengths / 8,
    }
    assert by_hand.keys() == found.keys()
    for loss, factors in by_hand.items():
        expected = -(factors[:, None] * each).sum(dim=0)
        assert (found[loss] - expected).norm() < 1e-4 * expected.norm(), loss
    # What this means: a known factor, and the same gradient.
    assert (found["rloo"] - found["dr_grpo"] * 4 / 3 * session.max_new_tokens).norm() < 1e-4 * found["rloo"].norm()
    assert (found["gspo"] - found["grpo"]).norm() < 1e-4 * found["grpo"].norm()
    assert (found["dapo"] - found["grpo"]).norm() > 0.01 * found["grpo"].norm()


@pytest.mark.slow
def test_losses_that_differ_in_lengths_and_clips_alone_train_the_same_weights_on_answers_of_one_token(tmp_path):
    def trained(**settings):
        session = open_session(tmp_path)
        session.max_new_tokens = 1
        train(session, trainer, config(clip=1.0, **settings), tmp_path, steps=3)
        return weights(session)

    expected = trained()
    assert not expected.equal(weights(open_session(tmp_path)))
    assert all(trained(loss=loss).equal(expected) for loss in ("grpo", "gspo"))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dapo", "gspo"])
def test_the_parts_of_a_batch_take_a_step_each_with_the_ratio_to_the_weights_before(tmp_path, loss):
    session, parts = open_session(tmp_path), []

    def keep(made, _):
        if not parts:
            parts.extend({name: value.clone() for name, value in part.items()} for part in made._buffered_inputs)

    settings = config(loss=loss, steps_per_batch=2, clip=1.0)
    loop = train(session, trainer, settings, tmp_path, before_update=keep)
    rule, norms, losses, ratios = LOSSES[loss], [], [], []
    model = AutoModelForCausalLM.from_pretrained(PATH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    for part in parts:
        ids = torch.cat([part["prompt_ids"], part["completion_ids"]], dim=1)
        mask, kept = torch.cat([part["prompt_mask"], part["completion_mask"]], dim=1), part["completion_mask"]
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        scores = torch.log_softmax(logits[:, -kept.shape[1] - 1 : -1] / 3.0, dim=-1)
        logs = scores.gather(-1, part["completion_ids"][..., None])[..., 0] - part["old_per_token_logps"]
        if rule.level == "sequence":
            logs = (logs * kept).sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True)
        ratio, advantages = logs.exp(), part["advantages"][:, None]
        clipped = ratio.clamp(1 - rule.clip[0], 1 + rule.clip[1])
        value = -torch.minimum(ratio * advantages, clipped * advantages) * kept
        tokens = part["num_items_in_batch"] / 2 if loss == "dapo" else 4 * kept.sum(dim=1, keepdim=True)
        (value / tokens).sum().backward()
        losses.append(float((value / tokens).sum().detach()))
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        ratios.append(ratio.detach())
        optimizer.step()
        optimizer.zero_grad()
    assert len(parts) == 2
    torch.testing.assert_close(ratios[0], torch.ones_like(ratios[0]), atol=1e-5, rtol=0)
    assert (ratios[1] - 1).abs().max() > 0.01  # the ratio matters in the second update
    by_hand = torch.cat([p.detach().flatten() for p in model.parameters()])
    moved = (by_hand - weights(open_session(tmp_path))).norm()
    assert (weights(session) - by_hand).norm() < 1e-3 * moved
    (row,) = loop.rows
    assert row["loss"] == pytest.approx(sum(losses) / 2, abs=1e-5)
    assert row["norm"] == pytest.approx(sum(norms) / 2, rel=1e-3)
    # The log-probabilities before the first update are billed, and only its tokens are checked.
    assert set(session.phases) == {"rollout", "logprobs", "update"}
    assert loop.report()["ratio"]["tokens"] == int(parts[0]["completion_mask"].sum())


def test_a_row_is_the_mean_over_the_updates_of_a_step():
    rows, begun = [], []
    loop = SimpleNamespace(begin_step=lambda: begun.append(len(rows)), end_step=rows.append)
    callback = StepCallback(loop, {"loss": "loss", "share": "flat"}, updates=2)
    all_logs = [{"loss": 1.0, "share": 0.5}, {"loss": 2.0}, {"loss": 4.0, "share": None}, {"loss": 0.0}]
    for step, logs in enumerate(all_logs):
        callback.on_step_begin(None, SimpleNamespace(global_step=step), None)
        callback.on_log(None, None, None, logs=logs)
    callback.on_log(None, None, None, logs={"train_runtime": 1.0})
    assert rows == [{"loss": 1.5, "flat": 0.5}, {"loss": 2.0, "flat": pytest.approx(float("nan"), nan_ok=True)}]
    assert begun == [0, 1]


def test_the_plan_counts_the_updates_and_the_pass_before_them():
    one, four = (Grpo(GrpoConfig(lr=1e-5, steps_per_batch=steps)) for steps in (1, 4))
    assert (one.cost, four.cost) == (4, 5)
    plan = four.plan(65_536, TASK)
    assert plan.lines[0].what == "about 204 steps of 64 answers, in groups, in 4 updates"
    assert plan.reach == pytest.approx(204 * 4 * 1e-5)
    four.spread(3)
    assert four.schedule(65_536, TASK).batch == 48  # 4 answers in each of 3 processes and 4 updates
    assert Cat(CatConfig(steps_per_batch=3)).multiple == 96
    ends = {Pcl: "each prompt the best of 4, in 4 updates", Dump: "in groups, in 4 updates"}
    for method, end in (ends | {Vcpo: "in groups, in 4 updates"}).items():
        assert method(method.Config(steps_per_batch=4)).plan(65_536, TASK).lines[0].what.endswith(end)
    assert Ppo(PpoConfig()).plan(65_536, TASK).lines[0].what.endswith("128 answers, in 4 updates")


@pytest.mark.parametrize("method", [Dpo, Ftis, RiskPo, PrefixRft, Vpo, Kdrl])
@pytest.mark.parametrize("settings", [{"loss": "gspo"}, {"steps_per_batch": 2}])
def test_a_method_with_a_loss_of_its_own_has_neither_setting(method, settings):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        method.Config(**settings)
    assert issubclass(method, GroupMethod)
    assert method(method.Config()).updates == 1
    assert not any(variant.keys() & settings.keys() for variant in method.variants)


def test_settings_that_make_no_sense_together_are_refused():
    with pytest.raises(ValidationError, match=r"steps_per_batch=2: rloo has no .*or method vcpo"):
        GrpoConfig(loss="rloo", steps_per_batch=2)
    with pytest.raises(ValidationError, match=r"loss=gspo: on=sft has the cross-entropy"):
        CatConfig(on="sft", loss="gspo")
    with pytest.raises(ValidationError, match=r"steps_per_batch=2: on=sft takes one step per batch; expected 1"):
        CatConfig(on="sft", steps_per_batch=2)
    with pytest.raises(ValidationError, match=r"scaled=true: loss=dr_grpo scales no advantages; expected scaled=false"):
        CatConfig(scaled=True, loss="dr_grpo")
    assert CatConfig(loss="dr_grpo", steps_per_batch=2).loss == "dr_grpo"


def test_later_settings_are_part_of_an_id_only_where_they_are_set():
    assert not {"loss", "steps_per_batch"} & GrpoConfig().model_dump(mode="json").keys()
    assert GrpoConfig(loss="gspo").model_dump(mode="json")["loss"] == "gspo"
    assert GrpoConfig.model_validate(GrpoConfig(loss="gspo").model_dump()) == GrpoConfig(loss="gspo")
    assert "loss" not in CatConfig().model_dump()
