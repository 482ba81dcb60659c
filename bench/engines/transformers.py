"""The transformers engine: batched decoding on one device, with exact moves through weight space.

It promises that a candidate's answers do not depend on which candidates came before it. They do depend on the batch in
half precision, as any backend's do, so batches are cut from the prompts alone: by length, `batch_size` at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging

from bench.compute.flops import ModelShape, attended
from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.engines.decoding import StopStrings, answer_streams, next_tokens
from bench.engines.interface import Completion, Sampling, TokenIds
from bench.errors import BenchError, UsageError
from bench.models.digest import digest
from bench.weights.points import Point
from bench.weights.space import WeightSpace
from tasks.interface import Message, PromptStyle

DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL_MODEL = 20_000_000
"""Matmul parameters below which a step costs less than handing its parts to threads, and batches may be large."""


class TransformersEngine:
    """A causal language model of the transformers library, in this process.

    Args:
        model: Folder that `AutoModelForCausalLM.from_pretrained` opens.
        dtype: `auto` keeps the checkpoint's own.
        device: As torch names it.
        batch_size: Prompts decoded together; None for 64, or 256 where the model is so small that a step costs nothing.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        device: str = "cpu",
        batch_size: int | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise UsageError(f"--dtype {dtype}: expected one of {', '.join(DTYPES)}")
        logging.disable_progress_bar()  # the harness shows its own
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype=DTYPES[dtype])
        self._model = loaded.to(device).eval().requires_grad_(False)
        parameters = dict(self._model.named_parameters())
        self.shape = ModelShape.from_config(self._model.config)
        self.digest = digest(parameters)
        small = self.shape.matmul_parameters < SMALL_MODEL
        if small and device == "cpu":
            torch.set_num_threads(1)
        self._batch_size = batch_size or (256 if small else 64)
        self.settings: dict[str, str | int] = {
            "backend": "transformers",
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "device": torch.device(device).type,
            "batch_size": self._batch_size,
        }
        self._space = WeightSpace(parameters)
        self._ends = _end_ids(self._model.generation_config, self._tokenizer)
        # A masked position is never attended to, so any id can pad; a model without a pad id still decodes.
        pad = self._tokenizer.pad_token_id
        self._pad = pad if pad is not None else min(self._ends, default=0)

    @property
    def style(self) -> PromptStyle:
        """`chat` if the tokenizer has a chat template, else `completion`."""
        return "chat" if self._tokenizer.chat_template else "completion"

    @property
    def point(self) -> Point:
        """Where the weights are."""
        return self._space.point

    def encode(self, prompt: list[Message] | str) -> TokenIds:
        """Return token ids by the tokenizer's own template, or of a plain text with the ids it adds by itself."""
        if isinstance(prompt, str):
            return tuple(self._tokenizer(prompt)["input_ids"])
        encoded = self._tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        return tuple(encoded["input_ids"])

    def move_to(self, point: Point) -> None:
        """Put the weights at a point."""
        self._space.move_to(point)

    def generate(self, prompts: Sequence[TokenIds], sampling: Sampling, meter: Meter) -> list[Completion]:
        """Answer prompts in batches of like length; returns them in the order given.

        Raises:
            OverBudget: Before the first step that the meter does not cover.
            AllowanceSpent: Likewise, for the open block's allowance.
        """
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        longest = max(map(len, prompts), default=0) + sampling.max_new_tokens
        if limit is not None and longest > limit:
            raise BenchError(
                f"a prompt and {sampling.max_new_tokens} new tokens need {longest} positions; the model has {limit}"
            )
        streams = answer_streams(prompts, sampling) if sampling.temperature > 0 and prompts else None
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        answers: dict[int, Completion] = {}
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            rows = _Batch([prompts[i] for i in batch], None if streams is None else streams[batch])
            with torch.inference_mode():
                self._decode(rows, sampling, meter)
            answers.update({i: self._completion(rows, row, sampling) for row, i in enumerate(batch)})
        return [answers[i] for i in range(len(prompts))]

    def _decode(self, rows: _Batch, sampling: Sampling, meter: Meter) -> None:
        device = self._model.device
        width = max(map(len, rows.prompts))
        ids = torch.tensor([(self._pad,) * (width - len(p)) + p for p in rows.prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in rows.prompts], device=device)
        position = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self._model.config)
        stop = StopStrings(sampling.stop, self._text)
        active = list(range(len(rows.prompts)))  # rows of the tensors, as indices into the batch
        running = set(active)
        for step in range(sampling.max_new_tokens):
            meter.reserve(self._step_work(rows, active, running, width, step))
            output = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            uniforms = None if rows.uniforms is None else rows.uniforms[active, step]
            chosen = next_tokens(output.logits[:, -1, :], sampling, uniforms)
            for row, token in zip(active, chosen.tolist(), strict=True):
                if row in running:
                    rows.generated[row].append(token)
                    rows.finish[row] = self._finish(rows.generated[row], stop, sampling)
                    if rows.finish[row] is not None:
                        running.discard(row)
            if not running:
                return
            ids, position = chosen[:, None], position[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=-1)
            if 2 * len(running) <= len(active):
                keep = [i for i, row in enumerate(active) if row in running]
                index = torch.tensor(keep, device=device)
                cache.batch_select_indices(index)
                ids, mask, position = ids[index], mask[index], position[index]
                active = [active[i] for i in keep]

    def _step_work(self, rows: _Batch, active: list[int], running: set[int], width: int, step: int) -> Work:
        """The exact work of one forward pass: the prompts at step 0, one token a running row after it."""
        if step == 0:
            lengths = [len(p) for p in rows.prompts]
            return Work(
                evaluations=len(lengths),
                prefill_tokens=sum(lengths),
                attended=sum(attended(self.shape, 0, n) for n in lengths),
                padded_tokens=width * len(lengths),
                padded_attended=attended(self.shape, 0, width) * len(lengths),
            )
        return Work(
            decode_tokens=len(running),
            attended=sum(attended(self.shape, len(rows.prompts[row]) + step - 1, 1) for row in running),
            padded_tokens=len(active),
            padded_attended=attended(self.shape, width + step - 1, 1) * len(active),
        )

    def _finish(self, generated: list[int], stop: StopStrings, sampling: Sampling) -> str | None:
        if generated[-1] in self._ends:
            return "end"
        if stop.ended(generated):
            return "stop"
        return "length" if len(generated) == sampling.max_new_tokens else None

    def _completion(self, rows: _Batch, row: int, sampling: Sampling) -> Completion:
        generated, finish = rows.generated[row], rows.finish[row]
        assert finish is not None
        text = StopStrings(sampling.stop, self._text).cut(self._text(generated))
        return Completion(text, tuple(generated), len(rows.prompts[row]), finish)  # type: ignore[arg-type]

    def _text(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def save(self, folder: Path) -> None:
        """Write the weights where they are now, and the tokenizer, as an ordinary Hugging Face checkpoint."""
        try:
            self._model.save_pretrained(folder)
            self._tokenizer.save_pretrained(folder)
        except SafetensorError as error:  # how a full disk comes out of safetensors
            raise OSError(str(error)) from error


class _Batch:
    """Prompts decoded together and what has become of them."""

    def __init__(self, prompts: list[TokenIds], uniforms: np.ndarray | None) -> None:
        self.prompts = prompts
        self.uniforms = uniforms
        self.generated: list[list[int]] = [[] for _ in prompts]
        self.finish: list[str | None] = [None] * len(prompts)


def _end_ids(generation_config: object, tokenizer: object) -> frozenset[int]:
    """The ids that end an answer: what the checkpoint's generation config names, and the tokenizer's own."""
    named = getattr(generation_config, "eos_token_id", None)
    ids = set(named) if isinstance(named, (list, tuple)) else {named}
    return frozenset(i for i in ids | {getattr(tokenizer, "eos_token_id", None)} if i is not None)
