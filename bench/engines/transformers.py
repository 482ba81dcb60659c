"""The transformers engine: continuous batching on one device, with exact moves through weight space.

A candidate's answers do not depend on earlier candidates. In half precision they do depend on the batch, as on any
backend. The composition of the batch is therefore a function of the call alone: the longest prompts enter first, and
the next ones enter as answers end. Where a model's cache takes no prompts in, those of one length run together: see
`bench.engines.batches`.

On a CPU, while a pass has room, rows of a `RaggedBatch` propose their next tokens by looking up how their last ones
went on before. The pass computes them all, and a proposal stays if it is the token that decoding chooses. So answers
are what they would be without, in fewer passes; what is thrown away counts as hardware FLOPs, not as model FLOPs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import islice, zip_longest
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from transformers.utils import logging

from bench.compute.measured import measure
from bench.compute.meter import Meter
from bench.engines.added import added_products
from bench.engines.batches import Batch, Pass, choose_batch, new_batch, serves_ragged
from bench.engines.booking import Booking
from bench.engines.decoding import StopStrings, answer_streams, next_tokens, share_out
from bench.engines.groups import TERMS
from bench.engines.interface import Arrived, Job, Sampling, TokenIds, shared_directions
from bench.engines.local import BatchRow, LocalEngine, max_positions
from bench.engines.packed import PackedLinears, kernels_for
from bench.engines.ragged import Pass as RaggedPass
from bench.engines.shared import SharedBatches
from bench.errors import BenchError, UsageError
from bench.models.digest import digest
from bench.models.opening import open_model, save_model
from bench.models.tensors import held, movable
from bench.models.thinking import Think
from bench.records.rows import Move
from bench.weights.checkpoint import Checkpoint, Place
from bench.weights.layers import layout_of
from bench.weights.points import Point
from bench.weights.space import WeightSpace
from tasks.interface import PromptStyle

DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DECODING = "continuous-4"
"""Version of decoding. Raised when its order, its arithmetic or the ends of answers change, and so texts may."""
REFILL = 4
"""New prompts enter when 1 / REFILL of the batch is free."""
PREFILL_TOKENS = 2048
"""Prompt tokens of one prefill pass: enough for full speed per token, and few enough to limit memory."""
PASS_TOKENS = 24
"""Tokens of a pass up to which rows propose more. A pass over 24 tokens takes 2.5 times as long as one over a single
token, and over 48 tokens 4 to 5 times (SmolLM2, one core; `python -m measurements.decoding --lookup`)."""
SMALL_MODEL = 20_000_000
"""Multiply-adds of a token below which a CPU decodes faster with one thread, and with larger batches."""


_Row = BatchRow[np.ndarray]


class TransformersEngine(LocalEngine[np.ndarray]):
    """A causal language model of the transformers library, in this process.

    Args:
        model: Checkpoint folder.
        dtype: Dtype of the weights; `auto` keeps the checkpoint's own.
        device: Torch device, such as `cuda:0`.
        batch_size: Maximum number of prompts decoded together; None for 64, or 256 for a model below `SMALL_MODEL`.
        neighbours: Number of engines that share this machine's memory, including this one.
        think: Whether chat prompts ask for a thought.
        prompt: Prompt style of the run. Texts to complete open no thought, whatever the chat template does.

    Raises:
        UsageError: If the dtype is unknown, or the chat template takes no argument that says whether to think.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        device: str = "cpu",
        batch_size: int | None = None,
        neighbours: int = 1,
        think: Think = "auto",
        prompt: PromptStyle | Literal["auto"] = "auto",
    ) -> None:
        if dtype not in DTYPES:
            raise UsageError(f"--dtype {dtype}: expected one of {', '.join(DTYPES)}")
        logging.disable_progress_bar()  # the harness shows its own
        super().__init__(model, device, think, prompt)
        loaded = open_model(Path(model), DTYPES[dtype])
        self._model = loaded.to(device).eval()
        parameters, tensors = movable(self._model), held(self._model)
        self.layout = layout_of(self._model)
        self._model.requires_grad_(False)
        measured = measure(self._model.config, type(self._model))
        self.profile = measured.profile
        self.positions = max_positions(self._model.config)
        self.digest = digest(tensors)
        self.vocabulary = self._model.get_input_embeddings().num_embeddings
        small = self.profile.products < SMALL_MODEL
        if small and device == "cpu":
            torch.set_num_threads(1)
        self._batch_kind = choose_batch(self._model, ragged=serves_ragged(measured))
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
        if self._batch_kind != "ragged":
            self.settings["batch"] = self._batch_kind
        self._space = WeightSpace(parameters, neighbours=neighbours, tensors=tensors, layout=self.layout)
        self._linears = PackedLinears(self._model) if kernels == "onednn-packed" else None
        ragged = self._batch_kind == "ragged"
        self._added = added_products(self._model, self.layout, self._linears) if ragged else None
        self.most_terms = 0 if self._added is None else TERMS
        self._shared = SharedBatches(self.profile, self.settings, self._answer)

    @property
    def point(self) -> Place:
        """Current point or checkpoint of the weights."""
        return self._space.point

    def prepare(self, jobs: Sequence[Job], arrived: Arrived) -> None:
        """Precompute the directions of the announced points, and note which jobs share a batch."""
        self._space.prepare(shared_directions([job for job in jobs if job.added is None]))
        self._shared.announce(jobs)

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

    def _adding(self, displacements: Sequence[Point]) -> AbstractContextManager[None]:
        assert self._added is not None
        return self._added.of(displacements)

    def _draws(self, prompts: Sequence[TokenIds], sampling: Sampling) -> Sequence[np.ndarray]:
        return list(answer_streams(prompts, sampling))

    def _decode(
        self, rows: Sequence[_Row], sampling: Sampling, meters: Sequence[Meter], products: Sequence[int]
    ) -> None:
        """Generate in batches, with prompts of similar length together.

        If memory runs out, the batch size is halved, also in `settings`, and unfinished answers start again. Their
        first attempt stays in the ledger, because it was computed. See `LocalEngine._decode`.

        Raises:
            BenchError: If memory does not suffice for a single prompt.
        """
        order = sorted(rows, key=lambda row: -len(row.prompt))
        while waiting := [row for row in order if row.finish is None]:
            for row in waiting:
                row.restart()
            try:
                self._decode_together(waiting, sampling, meters, products)
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
    def _decode_together(
        self, waiting: list[_Row], sampling: Sampling, meters: Sequence[Meter], products: Sequence[int]
    ) -> None:
        """Decode with continuous batching until all rows are finished.

        Args:
            waiting: Rows by descending prompt length; emptied.
            sampling: Decoding parameters.
            meters: Meters, which record each step: its certain tokens before it runs, and the proposed ones that stay
                after it.
            products: Multiply-adds that each meter's displacement adds to a token.
        """
        limit = min(self._batch_size, len(waiting))
        batch = new_batch(self._batch_kind, self._model, limit)
        computed = self._added.computed if self._added is not None else 0
        booking = Booking(self.profile, batch, meters, products, computed)
        stop = self._stop_strings(sampling)
        rows: list[_Row] = []
        filling = True
        while rows or waiting:
            # A few free rows do not justify a separate prefill pass.
            free = limit - len(rows) if batch.joins or not rows else 0
            filling = bool(waiting) and free >= (1 if filling else min(len(waiting), max(1, limit // REFILL)))
            if filling:
                entering = _one_pass(waiting[:free], equal=not batch.joins)
                del waiting[: len(entering)]
                self._prefill(batch, rows, entering, stop, sampling, booking)
                rows += entering
            else:
                self._step(batch, rows, stop, sampling, booking)
            for i in reversed([i for i, row in enumerate(rows) if row.finish is not None]):
                batch.move(len(rows) - 1, i)
                rows[i] = rows[-1]
                rows.pop()

    def _prefill(
        self,
        batch: Batch,
        rows: list[_Row],
        entering: list[_Row],
        stop: StopStrings,
        sampling: Sampling,
        booking: Booking,
    ) -> None:
        running = batch.enter([row.prompt for row in entering], [row.position for row in rows])
        booking.enter(entering, running)
        self._append(entering, self._run(batch, running, entering), [[] for _ in entering], stop, sampling)

    def _step(self, batch: Batch, rows: list[_Row], stop: StopStrings, sampling: Sampling, booking: Booking) -> None:
        """Compute the next token of every row, and check what the rows propose after it."""
        contexts = [row.position for row in rows]
        proposed = self._proposals(batch, rows, sampling)
        tokens = [[row.generated[-1], *more] for row, more in zip(rows, proposed, strict=True)]
        running = batch.step(tokens, contexts)
        booking.step(rows, contexts, running)
        kept = self._append(rows, self._run(batch, running, rows), proposed, stop, sampling)
        if any(proposed):
            booking.keep(rows, contexts, proposed, kept)

    def _run(self, batch: Batch, running: Pass, rows: list[_Row]) -> torch.Tensor:
        if self._added is not None and self._added.active:
            assert isinstance(running, RaggedPass)
            self._added.choose(torch.tensor([row.owner for row in rows], device=self._model.device)[running.row])
        return batch.run(running)

    def _proposals(self, batch: Batch, rows: list[_Row], sampling: Sampling) -> list[list[int]]:
        room = PASS_TOKENS - len(rows)
        if room <= 0 or not batch.compiled:
            return [[] for _ in rows]
        left = [sampling.max_new_tokens - len(row.generated) - 1 for row in rows]
        return share_out([row.propose(min(n, room)) for row, n in zip(rows, left, strict=True)], room)

    def _append(
        self,
        rows: list[_Row],
        logits: torch.Tensor,
        proposed: list[list[int]],
        stop: StopStrings,
        sampling: Sampling,
    ) -> list[int]:
        """Append the chosen tokens to every row, up to the first that differs from its proposal or ends the answer.

        Forced tokens replace chosen ones. They take their random numbers as well, so that later ones do not move.

        Args:
            rows: Rows of the pass.
            logits: Logits after each row's newest token and after each token that it proposed [tokens, vocabulary].
            proposed: Tokens that each row proposed.
            stop: Detector of stop strings.
            sampling: Decoding parameters.

        Returns:
            Number of proposed tokens that each row keeps and that were run forward.
        """
        drawn = [
            row.draws[len(row.generated) + i]
            for row, more in zip(rows, proposed, strict=True)
            if row.draws is not None
            for i in range(len(more) + 1)
        ]
        chosen = iter(next_tokens(logits, sampling, np.array(drawn) if drawn else None).tolist())
        kept = []
        for row, more in zip(rows, proposed, strict=True):
            tokens = list(islice(chosen, len(more) + 1))
            before = len(row.generated)
            for token, expected in zip_longest(tokens, more):
                row.generated.append(row.forced.pop(0) if row.forced else token)
                if self._ended(row, stop, sampling) or row.generated[-1] != expected:
                    break
            kept.append(len(row.generated) - before - 1)
        return kept

    def _save_model(self, folder: Path) -> None:
        save_model(self._model, folder)

    def _move(self) -> Move | None:
        return self._space.measure(self._space.point)


def _out_of_memory(error: RuntimeError) -> bool:
    # On a CPU torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _one_pass(rows: list[_Row], *, equal: bool) -> list[_Row]:
    """Return the first rows, at most `PREFILL_TOKENS` tokens with padding.

    Args:
        rows: Rows by descending prompt length.
        equal: Whether their prompts must have one length.
    """
    longest = len(rows[0].prompt)
    count = max(1, PREFILL_TOKENS // longest)
    return [row for row in rows[:count] if len(row.prompt) == longest or not equal]
