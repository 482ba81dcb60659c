"""The transformers engine: continuous batching on one device, with exact moves through weight space.

A candidate's answers do not depend on earlier candidates. In half precision they do depend on the batch, as on any
backend. The composition of the batch is therefore a function of the call alone: the longest prompts enter first, and
the next ones enter as answers end.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from bench.compute.flops import ModelShape, attended
from bench.compute.ledger import Work
from bench.compute.meter import Meter
from bench.engines.decoding import StopStrings, answer_streams, next_tokens
from bench.engines.interface import Arrived, Job, Sampling, TokenIds, shared_directions
from bench.engines.kv_cache import BatchCache, tune_for_decoding
from bench.engines.local import BatchRow, LocalEngine, max_positions
from bench.engines.packed import PackedLinears, kernels_for
from bench.errors import BenchError, UsageError
from bench.models.digest import digest
from bench.weights.checkpoint import Checkpoint, Place
from bench.weights.space import WeightSpace

DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DECODING = "continuous-2"
"""Version of decoding. Raised when its order or arithmetic changes, because half-precision text may then change."""
REFILL = 4
"""New prompts enter when 1 / REFILL of the batch is free."""
PREFILL_TOKENS = 2048
"""Prompt tokens of one prefill pass: enough for full speed per token, and few enough to limit padding."""
SMALL_MODEL = 20_000_000
"""Number of matmul parameters below which a CPU decodes faster with one thread, and with larger batches."""

_Row = BatchRow[np.ndarray]


class TransformersEngine(LocalEngine[np.ndarray]):
    """A causal language model of the transformers library, in this process.

    Args:
        model: Folder that `AutoModelForCausalLM.from_pretrained` opens.
        dtype: Dtype of the weights; `auto` keeps the checkpoint's own.
        device: Torch device, such as `cuda:0`.
        batch_size: Maximum number of prompts decoded together; None for 64, or 256 for a model below `SMALL_MODEL`.
        neighbours: Number of engines that share this machine's memory, including this one.

    Raises:
        UsageError: If the dtype is unknown.
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
        super().__init__(model, device)
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype=DTYPES[dtype])
        self._model = loaded.to(device).eval().requires_grad_(False)
        tune_for_decoding(self._model)
        parameters = dict(self._model.named_parameters())
        self.shape = ModelShape.from_config(self._model.config)
        self.positions = max_positions(self._model.config)
        self.digest = digest(parameters)
        small = self.shape.matmul_parameters < SMALL_MODEL
        if small and device == "cpu":
            torch.set_num_threads(1)
        self._batch_size = batch_size or (256 if small else 64)
        kernels = kernels_for(device, self._model.dtype, small=small)
        self.settings = {
            "backend": "transformers",
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "device": torch.device(device).type,
            "batch_size": self._batch_size,
            "kernels": kernels,
            "decoding": DECODING,
        }
        self._space = WeightSpace(parameters, neighbours=neighbours)
        self._linears = PackedLinears(self._model) if kernels == "onednn-packed" else None
        # A masked position is never attended to, so any id can pad if the tokenizer has no pad id.
        pad = self._tokenizer.pad_token_id
        self._pad = pad if pad is not None else min(self._ends, default=0)

    @property
    def point(self) -> Place:
        """Current point or checkpoint of the weights."""
        return self._space.point

    def prepare(self, jobs: Sequence[Job], arrived: Arrived) -> None:
        """Precompute the directions of the announced points, in as few passes as memory allows."""
        self._space.prepare(shared_directions(jobs))

    def move_to(self, point: Place) -> None:
        """Set the weights to a point or a checkpoint."""
        if self._space.is_at(point):
            return
        if self._linears is not None:
            self._linears.drop()
        if isinstance(point, Checkpoint):
            self._space.load(point)
        else:
            self._space.move_to(point)

    def _draws(self, prompts: Sequence[TokenIds], sampling: Sampling) -> Sequence[np.ndarray]:
        return list(answer_streams(prompts, sampling))

    def _decode(self, rows: Sequence[_Row], sampling: Sampling, meter: Meter) -> None:
        """Generate in batches, with prompts of similar length together.

        If memory runs out, the batch size is halved, also in `settings`, and unfinished answers start again. Their
        first attempt stays in the ledger, because it was computed.

        Raises:
            BenchError: If memory does not suffice for a single prompt.
        """
        order = sorted(rows, key=lambda row: -len(row.prompt))
        while waiting := [row for row in order if row.finish is None]:
            for row in waiting:
                row.generated.clear()
            try:
                self._decode_together(waiting, sampling, meter)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                if self._batch_size == 1:
                    raise BenchError(
                        "there is no memory for one prompt at a time; take a smaller model or --dtype"
                    ) from error
            else:
                return
            self._halve_batch()  # after the except block: until then the traceback keeps the cache alive

    def _halve_batch(self) -> None:
        self._batch_size //= 2
        self.settings["batch_size"] = self._batch_size
        torch.cuda.empty_cache()  # a no-op if no GPU is in use

    @torch.inference_mode()
    def _decode_together(self, waiting: list[_Row], sampling: Sampling, meter: Meter) -> None:
        """Decode with continuous batching until all rows are finished.

        Args:
            waiting: Rows by descending prompt length; emptied.
            sampling: Decoding parameters.
            meter: Records each step before it runs.
        """
        limit = min(self._batch_size, len(waiting))
        cache = BatchCache(self._model.config.get_text_config().num_hidden_layers, limit)
        stop = StopStrings(sampling.stop, self._text)
        rows: list[_Row] = []
        filling = True
        while rows or waiting:
            # A few free rows do not justify a separate prefill pass.
            free = limit - len(rows)
            filling = bool(waiting) and free >= (1 if filling else min(len(waiting), max(1, limit // REFILL)))
            if filling:
                entering = _one_pass(waiting[:free])
                del waiting[: len(entering)]
                self._prefill(cache, entering, sampling, meter)
                first, rows = len(rows), rows + entering
            else:
                self._step(cache, rows, sampling, meter)
                first = 0
            ended = [i for i in range(first, len(rows)) if self._ended(rows[i], stop, sampling)]
            for i in reversed(ended):  # in descending order, so that the row that moves is not itself an ended one
                rows[i] = rows[cache.leave(i)]
                rows.pop()

    def _prefill(self, cache: BatchCache, entering: list[_Row], sampling: Sampling, meter: Meter) -> None:
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
        cache.enter(lengths)
        padding = [width - n for n in lengths]
        ids = torch.tensor([(self._pad,) * n + row.prompt for n, row in zip(padding, entering, strict=True)])
        mask = (torch.arange(width) >= torch.tensor(padding)[:, None]).long()
        self._forward(cache, entering, ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), sampling)

    def _step(self, cache: BatchCache, rows: list[_Row], sampling: Sampling, meter: Meter) -> None:
        lengths = [row.position for row in rows]
        mask = cache.step(self._model.device)
        meter.reserve(
            Work(
                decode_tokens=len(rows),
                head_tokens=len(rows),
                attended=sum(attended(self.shape, n, 1) for n in lengths),
                padded_tokens=len(rows),
                padded_attended=attended(self.shape, cache.columns - 1, 1) * len(rows),
            )
        )
        ids = torch.tensor([[row.generated[-1]] for row in rows])
        self._forward(cache, rows, ids, mask, torch.tensor(lengths)[:, None], sampling)

    def _forward(
        self,
        cache: BatchCache,
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
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        drawn = [row.draws[len(row.generated)] for row in rows if row.draws is not None]
        chosen = next_tokens(output.logits[:, -1, :], sampling, np.array(drawn) if drawn else None)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            row.generated.append(token)

    def _save_model(self, folder: Path) -> None:
        self._model.save_pretrained(folder)


def _out_of_memory(error: RuntimeError) -> bool:
    # On a CPU torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _one_pass(rows: list[_Row]) -> list[_Row]:
    """Return the first rows, at most `PREFILL_TOKENS` tokens with padding, for one prefill pass.

    Args:
        rows: Rows by descending prompt length.
    """
    count = max(1, PREFILL_TOKENS // len(rows[0].prompt))
    return rows[:count]
