"""Rollouts by an engine: it samples answers from the present weights of a model in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedModel

from bench.compute.ledger import Phase, Work
from bench.engines.interface import RolloutEngine, Sampling, TokenIds
from bench.errors import BenchError
from bench.run.adapters import merged
from methods.interface import Rollout
from tasks.interface import EndRule

PLAIN: Mapping[str, tuple[Any, ...]] = {
    "do_sample": (True,),
    "top_p": (None, 1.0),
    "top_k": (None, 0),
    "min_p": (None,),
    "repetition_penalty": (None, 1.0),
}
"""Arguments of `generate` that change the distribution, with the values that leave it as the model has it."""


class EngineSampler:
    """Replaces a model's `generate` by an engine, to which it hands the present weights over before each call.

    Every trainer samples through `generate`, so this serves all of them; TRL's `rollout_func` would serve GRPOTrainer
    alone. Adapters are merged for the engine, and the weights are rounded to its dtype, as in what is deployed.

    Args:
        model: The model. Adapters may be added later.
        engine: The engine.
        end_rules: Rule that ends the answers to each prompt.
        stop: Strings that end an answer.
        book: Called with the work of each step of the engine before it runs, and its phase.

    Attributes:
        rollouts: Answers of the last call, one per row. Their entropies are None, because an engine returns none.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        engine: RolloutEngine,
        end_rules: Callable[[], Mapping[TokenIds, EndRule | None]],
        stop: tuple[str, ...],
        book: Callable[[Work, Phase], None],
    ) -> None:
        self._model, self._engine, self._end_rules, self._stop, self._book = model, engine, end_rules, stop, book
        self.rollouts: list[Rollout] = []
        model.generate = self._sample

    def _sample(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        generation_config: GenerationConfig | None = None,
        prefix_lengths: torch.Tensor | None = None,
        **given: Any,
    ) -> torch.Tensor:
        if prefix_lengths is not None:
            raise BenchError("an engine's rollouts cannot begin with given tokens; use --engine transformers")
        prompts = [tuple(ids[mask.bool()].tolist()) for ids, mask in zip(input_ids, attention_mask, strict=True)]
        rules = self._end_rules()
        found = self._engine.sample_at(
            merged(self._model),
            prompts,
            self._sampling(generation_config, given),
            lambda work: self._book(work, "rollout"),
            [rules.get(prompt) for prompt in prompts],
        )
        self.rollouts = [
            Rollout(
                prompt,
                each.completion.token_ids,
                torch.tensor(each.logprobs, device=input_ids.device),
                None,
                truncated=each.completion.finish == "length",
            )
            for prompt, each in zip(prompts, found, strict=True)
        ]
        answers = [torch.tensor(rollout.answer, device=input_ids.device) for rollout in self.rollouts]
        pad_id = self._model.generation_config.pad_token_id
        return torch.cat([input_ids, pad_sequence(answers, batch_first=True, padding_value=pad_id)], dim=1)

    def _sampling(self, config: GenerationConfig | None, given: Mapping[str, Any]) -> Sampling:
        """Return what a call of `generate` asks for.

        The seed is drawn from the trainer's generator, which is seeded at each step, so it follows from the run's seed
        and the step. The engine derives a stream for each answer from it.

        Raises:
            BenchError: If the call would change the distribution in another way than by its temperature.
        """
        asked = {name: given.get(name, getattr(config, name, None)) for name in (*PLAIN, "temperature")}
        for name, plain in PLAIN.items():
            if asked[name] not in plain:
                raise BenchError(f"generate({name}={asked[name]}): an engine's rollouts take {name}={plain[-1]} only")
        return Sampling(
            max_new_tokens=given.get("max_new_tokens", getattr(config, "max_new_tokens", None)),
            temperature=asked["temperature"],
            seed=int(torch.randint(2**62, ())),
            stop=self._stop,
        )
