from types import SimpleNamespace

import pytest
import torch
from training_steps import SCHEDULE, open_session

from methods.interface import Diverged
from methods.training.config import TrainingConfig
from methods.training.loop import Loop


@pytest.mark.parametrize(
    ("finite", "expected"), [(True, {"loss": 0.5, "opposed": 0.25}), (False, {"loss": 0.5, "weights": None})]
)
def test_a_step_has_the_values_of_the_method_unless_its_weights_are_not_finite(tmp_path, finite, expected):
    session = open_session(tmp_path)
    loop = Loop(SimpleNamespace(seed=0), session, TrainingConfig(), SCHEDULE, [(session.model, 1e-3)])
    loop.values = {"opposed": 0.25}
    if finite:
        loop.end_step({"loss": 0.5})
    else:
        with torch.no_grad():
            next(session.model.parameters()).view(-1)[0] = float("inf")
        with pytest.raises(Diverged, match="training diverged: weights is nan at step 1"):
            loop.end_step({"loss": 0.5})
    assert loop.report()["curve"] == {"step": [1.0]} | {name: [value] for name, value in expected.items()}
