"""The transformers engine: batched decoding on one device, with exact moves through weight space.

It promises that a candidate's answers do not depend on which candidates came before it. They do depend on the batch in
half precision, as any backend's do, so what stands in the batch follows from the call alone: the longest prompts enter
first, and as answers end the next ones do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from bench.compute.flops import ModelShape, attended
from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.engines.decoding import StopStrings, answer_streams, next_tokens
from bench.engines.interface import Arrived, Completion, Finish, Job, Sampling, TokenIds, shared_directions
from bench.engines.packed import PackedLinears
from bench.engines.slots import Slots, tune_for_decoding
from bench.engines.text import CheckpointText
from bench.errors import BenchError, UsageError
from bench.models.digest import digest
from bench.weights.checkpoint import Checkpoint, Place
from bench.weights.space import WeightSpace

DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DECODING = "continuous-1"
"""Rises with any change of the order or the arithmetic of decoding, since half-precision text may change with it."""
REFILL = 4
"""New prompts enter when this part of the batch is free."""
PREFILL_TOKENS = 2048
"""Prompt tokens run forward at once: enough to be as fast per token as any, and few rows padded to the longest."""
SMALL_MODEL = 20_000_000
"""Matmul parameters below which a step costs less than handing its parts to threads, and batches may be large."""


class TransformersEngine(CheckpointText):
    """A causal language model of the transformers library, in this process.

    Args:
        model: Folder that `AutoModelForCausalLM.from_pretrained` opens.
        dtype: `auto` keeps the checkpoint's own.
        device: As torch names it.
        batch_size: Prompts decoded together; None for 64, or 256 where the model is so small that a step costs nothing.
        neighbours: Engines that may share this machine's memory, itself included.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        device: str = "cpu",
        batch_size: int | None = None,
        neighbours: int = 1,
    ) -> None:
        if dtype not in DTYPES:
            raise UsageError(f"--dtype {dtype}: expected one of {', '.join(DTYPES)}")
        logging.disable_progress_bar()  # the harness shows its own
        if torch.device(device).type == "cuda":
            _make_deterministic()
        super().__init__(model, device)
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype=DTYPES[dtype])
        self._model = loaded.to(device).eval().requires_grad_(False)
        tune_for_decoding(self._model)
        parameters = dict(self._model.named_parameters())
        self.shape = ModelShape.from_config(self._model.config)
        self.digest = digest(parameters)
        small = self.shape.matmul_parameters < SMALL_MODEL
        if small and device == "cpu":
            torch.set_num_threads(1)
        self._batch_size = batch_size or (256 if small else 64)
        self.settings = {
            "backend": "transformers",
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "device": torch.device(device).type,
            "batch_size": self._batch_size,
            "decoding": DECODING,
        }
        self._space = WeightSpace(parameters, neighbours=neighbours)
        self._linears = PackedLinears(self._model)
        # A masked position is never attended to, so any id can pad; a model without a pad id still decodes.
        pad = self._tokenizer.pad_token_id
        self._pad = pad if pad is not None else min(self._ends, default=0)

    @property
    def point(self) -> Place:
        """Where the weights are."""
        return self._space.point

    def prepare(self, jobs: Sequence[Job], arrived: Arrived) -> None:
        """Make the directions of points that will be visited next, in as few passes as memory allows."""
        self._space.prepare(shared_directions(jobs))

    def move_to(self, point: Place) -> None:
        """Put the weights at a point, or at trained ones."""
        if self._space.is_at(point):
            return
        self._linears.drop()
        if isinstance(point, Checkpoint):
            self._space.load(point)
        else:
            self._space.move_to(point)

    def generate(self, prompts: Sequence[TokenIds], sampling: Sampling, meter: Meter) -> list[Completion]:
        """Answer prompts in batches of like length; returns them in the order given.

        Where memory runs out the batch is halved, in `settings` too, and unfinished answers begin anew. What they had
        taken stays booked: it was computed.

        Raises:
            BenchError: If there is no memory for one prompt at a time.
            OverBudget: Before the first step that the meter does not cover.
            AllowanceSpent: Likewise, for the open block's allowance.
        """
        if not all(prompts):
            raise BenchError("a prompt has no tokens; there is nothing to answer")
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        longest = max(map(len, prompts), default=0) + sampling.max_new_tokens
        if limit is not None and longest > limit:
            raise BenchError(
                f"a prompt and {sampling.max_new_tokens} new tokens need {longest} positions; the model has {limit}"
            )
        streams = answer_streams(prompts, sampling) if sampling.temperature > 0 and prompts else None
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
        answers: dict[int, Completion] = {}
        while len(answers) < len(prompts):
            unanswered = (i for i in order if i not in answers)
            waiting = [_Row(i, prompts[i], None if streams is None else streams[i]) for i in unanswered]
            try:
                with torch.inference_mode():
                    for row in self._decode(waiting, sampling, meter):
                        answers[row.index] = self._completion(row, sampling)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                self._halve_batch(error)
        return [answers[i] for i in range(len(prompts))]

    def _halve_batch(self, error: RuntimeError) -> None:
        if self._batch_size == 1:
            raise BenchError("there is no memory for one prompt at a time; take a smaller model or --dtype") from error
        self._batch_size //= 2
        self.settings["batch_size"] = self._batch_size
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _decode(self, waiting: list[_Row], sampling: Sampling, meter: Meter) -> Iterator[_Row]:
        """Yield rows as they end. Consumes `waiting`, whose longest prompts come first."""
        if not waiting:
            return
        limit = min(self._batch_size, len(waiting))
        slots = Slots(self._model.config.get_text_config().num_hidden_layers, limit)
        stop = StopStrings(sampling.stop, self._text)
        rows: list[_Row] = []
        filling = True
        while rows or waiting:
            # A few free places are not worth a forward pass of their own.
            free = limit - len(rows)
            filling = bool(waiting) and free >= (1 if filling else min(len(waiting), max(1, limit // REFILL)))
            if filling:
                entering = _one_pass(waiting[:free])
                del waiting[: len(entering)]
                self._prefill(slots, entering, sampling, meter)
                first, rows = len(rows), rows + entering
            else:
                self._step(slots, rows, sampling, meter)
                first = 0
            ended = [i for i in range(first, len(rows)) if self._ended(rows[i], stop, sampling)]
            for i in reversed(ended):  # from behind, so that what takes a place has been looked at
                yield rows[i]
                rows[i] = rows[slots.leave(i)]
                rows.pop()

    def _prefill(self, slots: Slots, entering: list[_Row], sampling: Sampling, meter: Meter) -> None:
        lengths = [len(row.prompt) for row in entering]
        width = max(lengths)
        meter.reserve(
            Work(
                evaluations=len(lengths),
                prefill_tokens=sum(lengths),
                head_tokens=len(lengths),
                attended=sum(attended(self.shape, 0, n) for n in lengths),
                padded_tokens=width * len(lengths),
                padded_attended=attended(self.shape, 0, width) * len(lengths),
            )
        )
        slots.enter(lengths)
        padding = [width - n for n in lengths]
        ids = torch.tensor([(self._pad,) * n + row.prompt for n, row in zip(padding, entering, strict=True)])
        mask = (torch.arange(width) >= torch.tensor(padding)[:, None]).long()
        self._forward(slots, entering, ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), sampling)

    def _step(self, slots: Slots, rows: list[_Row], sampling: Sampling, meter: Meter) -> None:
        # The newest token of a row, not run forward yet, stands at the position that all others come before.
        lengths = [len(row.prompt) + len(row.generated) - 1 for row in rows]
        mask = slots.step(self._model.device)
        meter.reserve(
            Work(
                decode_tokens=len(rows),
                head_tokens=len(rows),
                attended=sum(attended(self.shape, n, 1) for n in lengths),
                padded_tokens=len(rows),
                padded_attended=attended(self.shape, slots.columns - 1, 1) * len(rows),
            )
        )
        ids = torch.tensor([[row.generated[-1]] for row in rows])
        self._forward(slots, rows, ids, mask, torch.tensor(lengths)[:, None], sampling)

    def _forward(
        self,
        slots: Slots,
        rows: list[_Row],
        ids: torch.Tensor,
        mask: torch.Tensor,
        position: torch.Tensor,
        sampling: Sampling,
    ) -> None:
        device = self._model.device
        output = self._model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=position.to(device),
            past_key_values=slots,
            use_cache=True,
            logits_to_keep=1,
        )
        drawn = [row.uniforms[len(row.generated)] for row in rows if row.uniforms is not None]
        chosen = next_tokens(output.logits[:, -1, :], sampling, np.array(drawn) if drawn else None)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            row.generated.append(token)

    def _ended(self, row: _Row, stop: StopStrings, sampling: Sampling) -> bool:
        row.finish = self._finish(row.generated, stop, sampling)
        return row.finish is not None

    def _completion(self, row: _Row, sampling: Sampling) -> Completion:
        assert row.finish is not None
        return Completion(self.text(row.generated, sampling), tuple(row.generated), len(row.prompt), row.finish)

    def save(self, folder: Path) -> None:
        """Write the weights where they are now, and the tokenizer, as an ordinary Hugging Face checkpoint."""
        try:
            self._model.save_pretrained(folder)
            self._tokenizer.save_pretrained(folder)
        except SafetensorError as error:  # how a full disk comes out of safetensors
            raise OSError(str(error)) from error


@dataclass
class _Row:
    """A prompt and what has become of it; `index` is its place in the call."""

    index: int
    prompt: TokenIds
    uniforms: np.ndarray | None
    generated: list[int] = field(default_factory=list)
    finish: Finish | None = None


def _make_deterministic() -> None:
    """Let products on a GPU come out alike each time, and float32 ones in float32."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def _out_of_memory(error: RuntimeError) -> bool:
    # On a CPU it has no class of its own.
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _one_pass(rows: list[_Row]) -> list[_Row]:
    """As many rows, given by descending length, as make one forward pass."""
    count = max(1, PREFILL_TOKENS // len(rows[0].prompt))
    return rows[:count]
