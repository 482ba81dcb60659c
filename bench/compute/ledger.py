"""Ledger of the work of a run: integer counts by named account.

The ledger contains no FLOPs. They are a function of the counts and the model's compute profile, so that a better
formula can be applied to old records. Engines and training hooks record work here. A method has no access to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from bench.compute.flops import forward_flops
from bench.compute.profile import ComputeProfile

Account = Literal["sample", "select", "gate", "train", "tune", "inference", "evaluation", "setup", "analysis"]
BilledAccount = Literal["sample", "select", "gate", "train", "tune"]
AdaptationAccount = Literal["sample", "select", "train", "tune"]
"""Accounts that a method may book to."""
ACCOUNTS: tuple[Account, ...] = get_args(Account)
ADAPTATION: tuple[BilledAccount, ...] = get_args(BilledAccount)
"""Accounts that count towards the budget; `gate` is the harness's. `inference` is the cost of deployment; the other
accounts are only recorded. `analysis` is work on finished runs, which no run's ledger has."""

Phase = Literal["rollout", "logprobs", "reference", "value", "update", "recompute"]
"""Purpose of a pass in training. See `bench.compute.attach.attach`."""
PHASES: tuple[Phase, ...] = get_args(Phase)


class Work(BaseModel):
    """Amount of computation. All fields are additive.

    Example: an answer of 3 tokens to a prompt of 7 tokens is
    `Work(evaluations=1, prefill_tokens=7, decode_tokens=2, head_tokens=3, ...)`.

    Attributes:
        evaluations: Model-prompt evaluations, the "forward passes" of the papers: one per answered prompt.
        prefill_tokens: Prompt tokens run forward.
        decode_tokens: Generated tokens run forward. The last token of an answer is never run.
        head_tokens: Positions where the LM head ran: the last prompt token and every decoded token.
        attended: Positions attended to by all these tokens, summed over tokens and layers. Where layers differ in
            their cost, positions are counted in units: see `bench.compute.profile`.
        padded_tokens: Tokens run by the hardware, including padding, finished sequences and proposed tokens that were
            thrown away.
        padded_attended: Positions attended to by the padded tokens.
        discarded_head_tokens: Positions where the LM head ran for proposed tokens that were thrown away.
        backward_passes: Backward passes, counted in sequences.
        weight_moves: Number of times that the model's weights were rewritten.
        noise_values: Normals that these moves add, or displacements without a move: one per weight of a matrix and
            seed, or per row and column of a matrix and rank. See `noise_seeds` in `bench.weights.points`. They are no
            model FLOPs. An engine that prepares several points draws the seeds that they share only once.
        forward_tokens: Tokens run through the decoder of a model that `attach` meters. Their cost is in `products` and
            `attended`.
        products: Multiply-adds of linear layers, experts, convolutions and recurrences in metered passes: those of the
            forward pass, and as many for each of the gradients of input and weights that was computed. Adapters are
            included, and so is the attention of a second model: see `in_products`.
        padded_products: The same count including padding and finished sequences.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    evaluations: NonNegativeInt = 0
    prefill_tokens: NonNegativeInt = 0
    decode_tokens: NonNegativeInt = 0
    head_tokens: NonNegativeInt = 0
    attended: NonNegativeInt = 0
    padded_tokens: NonNegativeInt = 0
    discarded_head_tokens: NonNegativeInt = 0
    padded_attended: NonNegativeInt = 0
    backward_passes: NonNegativeInt = 0
    weight_moves: NonNegativeInt = 0
    noise_values: NonNegativeInt = 0
    forward_tokens: NonNegativeInt = 0
    products: NonNegativeInt = 0
    padded_products: NonNegativeInt = 0

    @property
    def tokens(self) -> int:
        """Tokens run forward: of prompts and answers, and of passes in training. Backward passes are not included."""
        return self.prefill_tokens + self.decode_tokens + self.forward_tokens

    def __add__(self, other: Work) -> Work:
        return Work.model_construct(**{name: getattr(self, name) + getattr(other, name) for name in Work.model_fields})

    def __sub__(self, other: Work) -> Work:
        return Work(**{name: getattr(self, name) - getattr(other, name) for name in Work.model_fields})


def model_flops(profile: ComputeProfile, work: Work) -> int:
    """Return the FLOPs of the real tokens, without padding. Budgets and leaderboards use this number."""
    forward = forward_flops(
        profile,
        tokens=work.prefill_tokens + work.decode_tokens,
        head_tokens=work.head_tokens,
        attended=work.attended,
    )
    return forward + 2 * work.products


def hardware_flops(profile: ComputeProfile, work: Work) -> int:
    """Return the FLOPs that the hardware ran, including padding, finished sequences and tokens thrown away.

    Engines compute no logits for padding. Training counts only if it was metered.
    """
    heads = work.head_tokens + work.discarded_head_tokens
    forward = forward_flops(profile, tokens=work.padded_tokens, head_tokens=heads, attended=work.padded_attended)
    return forward + 2 * work.padded_products


def in_products(profile: ComputeProfile, work: Work) -> Work:
    """Return metered work of a second model for the ledger of a run, with its attended positions as multiply-adds.

    The ledger prices attended positions by the run's own model. Multiply-adds cost the same on every model.

    Args:
        profile: Compute profile of the second model.
        work: Work that `attach` has metered.
    """
    each = profile.unit // 2  # a unit consists of multiply-adds, which are two FLOPs each
    return work.model_copy(
        update={
            "attended": 0,
            "padded_attended": 0,
            "products": work.products + each * work.attended,
            "padded_products": work.padded_products + each * work.padded_attended,
        }
    )


class PhaseBook:
    """Bills work, and keeps its totals by training phase.

    Args:
        reserve: Function that bills work, such as `Meter.reserve`. Work is not kept if it raises.
    """

    def __init__(self, reserve: Callable[[Work], None]) -> None:
        self._reserve = reserve
        self._phases: dict[Phase, Work] = {}

    def __call__(self, work: Work, phase: Phase) -> None:
        """Bill work of a phase."""
        self._reserve(work)
        self._phases[phase] = self._phases.get(phase, Work()) + work

    def phases(self) -> dict[Phase, Work]:
        """Return the work of each phase that has any, in canonical order."""
        return {name: self._phases[name] for name in PHASES if name in self._phases}

    def drain(self) -> dict[Phase, Work]:
        """Return the work of each phase that has any, and reset all phases."""
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
        """Return the work of each account that has any, in canonical order."""
        return {name: self._accounts[name] for name in ACCOUNTS if name in self._accounts}

    def adaptation(self) -> Work:
        """Return the total work of the accounts that count towards the budget."""
        return sum((self[name] for name in ADAPTATION), Work())
