"""The ledger: what was computed, in raw integers, by named account.

FLOPs never stand in the ledger; they are a function of it and of the model's shape, so that a better formula can be
applied to old records. Engines and training hooks book work here. A method holds no reference to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from bench.compute.flops import ModelShape, forward_flops

Account = Literal["sample", "select", "gate", "train", "tune", "inference", "evaluation", "setup"]
AdaptationAccount = Literal["sample", "select", "gate", "train", "tune"]
ACCOUNTS: tuple[Account, ...] = get_args(Account)
ADAPTATION: tuple[AdaptationAccount, ...] = get_args(AdaptationAccount)
"""The accounts that a budget covers. `inference` is what answers cost once deployed; others are recorded only."""

Phase = Literal["rollout", "logprobs", "reference", "value", "update", "recompute"]
"""What a trainer runs a model for; `bench.compute.attach` says which work is which."""
PHASES: tuple[Phase, ...] = get_args(Phase)


class Work(BaseModel):
    """An amount of computation. All fields add.

    Attributes:
        evaluations: Model-prompt evaluations, the "forward passes" of the papers: one prompt answered once.
        prefill_tokens: Prompt tokens run forward.
        decode_tokens: Generated tokens run forward (the last one of an answer never is).
        head_tokens: Those of them whose logits were computed: of a prompt the last one, of generated tokens all.
        attended: Positions attended to by all those tokens, summed over tokens and layers.
        padded_tokens: Tokens the hardware ran, padding and finished sequences included.
        padded_attended: Positions attended to by those.
        trained_tokens: Tokens run forward and backward through the whole model, at the price of `training_flops`: for
            plans. A run's training is not priced but counted, in the fields below and in the two `attended` above.
        trained_attended: Positions attended to by those.
        backward_passes: Backward passes, in sequences.
        weight_moves: Times the model's weights were rewritten.
        forward_tokens: Tokens run forward through the decoder of a model that `attach` meters; what they cost stands in
            `products` and `attended`.
        products: Multiply-adds of one weight with one token, as linear layers run them: one forward, one for the
            gradient of the layer's input and one for that of its weights, each where it was computed. Adapters are in,
            a head that was not run and a gradient that was not needed are out.
        padded_products: Those of padding and finished sequences too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    evaluations: NonNegativeInt = 0
    prefill_tokens: NonNegativeInt = 0
    decode_tokens: NonNegativeInt = 0
    head_tokens: NonNegativeInt = 0
    attended: NonNegativeInt = 0
    padded_tokens: NonNegativeInt = 0
    padded_attended: NonNegativeInt = 0
    trained_tokens: NonNegativeInt = 0
    trained_attended: NonNegativeInt = 0
    backward_passes: NonNegativeInt = 0
    weight_moves: NonNegativeInt = 0
    forward_tokens: NonNegativeInt = 0
    products: NonNegativeInt = 0
    padded_products: NonNegativeInt = 0

    def __add__(self, other: Work) -> Work:
        return Work.model_construct(**{name: getattr(self, name) + getattr(other, name) for name in Work.model_fields})

    def __sub__(self, other: Work) -> Work:
        return Work(**{name: getattr(self, name) - getattr(other, name) for name in Work.model_fields})


def model_flops(shape: ModelShape, work: Work) -> int:
    """FLOPs of the real tokens, padding left out: what budgets and leaderboards count.

    A backward pass costs twice its forward pass, or what was counted of it.
    """
    forward = forward_flops(
        shape,
        tokens=work.prefill_tokens + work.decode_tokens,
        head_tokens=work.head_tokens,
        attended=work.attended,
    )
    trained = forward_flops(
        shape, tokens=work.trained_tokens, head_tokens=work.trained_tokens, attended=work.trained_attended
    )
    return forward + 3 * trained + 2 * work.products


def hardware_flops(shape: ModelShape, work: Work) -> int:
    """FLOPs that the hardware ran, padding and finished sequences included; of training, what was counted.

    Engines compute no logits of padding.
    """
    forward = forward_flops(
        shape, tokens=work.padded_tokens, head_tokens=work.head_tokens, attended=work.padded_attended
    )
    return forward + 2 * work.padded_products


class PhaseBook:
    """Passes work on to where it is billed and keeps what was billed by phase: where training's FLOPs went.

    Args:
        reserve: Bills work, as `Meter.reserve` does. Where it raises, nothing is kept.
    """

    def __init__(self, reserve: Callable[[Work], None]) -> None:
        self._reserve = reserve
        self._phases: dict[Phase, Work] = {}

    def __call__(self, work: Work, phase: Phase) -> None:
        """Bill work of a phase."""
        self._reserve(work)
        self._phases[phase] = self._phases.get(phase, Work()) + work

    def phases(self) -> dict[Phase, Work]:
        """Return the phases that hold anything, in their canonical order."""
        return {name: self._phases[name] for name in PHASES if name in self._phases}

    def drain(self) -> dict[Phase, Work]:
        """Return the phases that hold anything, and empty them."""
        phases, self._phases = self.phases(), {}
        return phases


class Ledger:
    """Work by account."""

    def __init__(self, accounts: dict[Account, Work] | None = None) -> None:
        self._accounts: dict[Account, Work] = dict(accounts or {})

    def book(self, account: Account, work: Work) -> None:
        """Add work to an account."""
        self._accounts[account] = self[account] + work

    def __getitem__(self, account: Account) -> Work:
        return self._accounts.get(account, Work())

    def accounts(self) -> dict[Account, Work]:
        """Return the accounts that hold anything, in their canonical order."""
        return {name: self._accounts[name] for name in ACCOUNTS if name in self._accounts}

    def adaptation(self) -> Work:
        """Return everything that a budget covers, as one sum."""
        return sum((self[name] for name in ADAPTATION), Work())
