"""Gradient training of a copy of the base model, metered and resumable. A run with trials trains several times.

Each save first writes the trainer's state to disk. Then it appends a journal entry with the work since the last save.
A resumed run continues from the last entry and books the journalled work. Work that a killed attempt did after its last
entry is repeated, and was never booked.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, set_seed

from bench.compute.attach import attach
from bench.compute.ledger import Phase, PhaseBook, Work, in_products
from bench.compute.meter import AllowanceSpent
from bench.compute.profile import ComputeProfile
from bench.distributed import ProcessGroup
from bench.engines.interface import Finish, RolloutEngine, TokenIds
from bench.engines.local import max_positions
from bench.errors import BenchError, Refused
from bench.models.digest import digest
from bench.models.tensors import deployed_dtypes, held, movable
from bench.records.entries import Trained, shape
from bench.records.files import folder_atomically
from bench.run.adapters import adapter_products, with_adapters
from bench.run.engine_rollouts import EngineSampler
from bench.run.evaluator import Evaluator, sparse
from bench.run.rollouts import Sampler, Samples, SamplingModel, with_positions, without_own_settings
from bench.run.sharding import SHARDS, gathered, load_shards, save_shards, shard, whole
from bench.run.teacher import check_reads_alike
from bench.run.value_model import ValueModel
from bench.seeds import derive
from bench.weights.checkpoint import FINISHED, Checkpoint, read_checkpoint, read_trained, write_checkpoint
from bench.weights.points import Point
from bench.weights.space import WeightSpace
from methods.interface import FormattedPrompt, Lora, Rollout
from tasks.interface import EndRule, Example, Message, Score, Vote

STATE = "state.pt"


class TrainingSession:
    """Gradient training of a run, or of one of its trials. Implements `methods.interface.Training`.

    Args:
        evaluator: Evaluator with engine, task, meter and journal.
        examples: Support split.
        folder: Folder for saved states and the final weights.
        allowance: Maximum FLOPs for training.
        seed: The run's seed. Adapters are drawn from it.
        lora: Adapters to train instead of all parameters.
        ranks: Rank and world size of the training group.
        start: Weights that training begins from, instead of the base's.

    Attributes:
        finished: Checkpoint and report of training that finished, in this attempt or an earlier one; otherwise None.
        diverged: Reason and report of training that diverged, in this attempt or an earlier one; otherwise None.
        teachers: Digest of the weights of each other model that `teacher` returned, by its name.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        examples: Sequence[Example],
        folder: Path,
        allowance: int,
        seed: int,
        lora: Lora | None = None,
        ranks: ProcessGroup = ProcessGroup(),  # noqa: B008, an immutable value
        start: Checkpoint | None = None,
    ) -> None:
        self._evaluator, self._folder, self._allowance, self._start = evaluator, folder, allowance, start
        self._seed, self._lora, self.ranks = seed, lora, ranks
        self._examples = {example.id: example for example in examples}
        self.prompts = tuple(
            FormattedPrompt(
                e.id, evaluator.format_prompt(e), evaluator.prompt(e), evaluator.gold(e), evaluator.task.category(e)
            )
            for e in examples
        )
        self.max_new_tokens = evaluator.sampling.max_new_tokens
        self.batch_size = evaluator.batch_size  # size at the start of the run; the engine may halve its own later
        self.finished: tuple[Checkpoint, dict[str, Any]] | None = None
        self.diverged: tuple[str, dict[str, Any]] | None = None
        self.cut = False
        self._saved = 0  # number of journalled saves
        self._booked = Work()  # training work so far
        self._work = Work()  # training work up to the last save
        self._earlier: dict[str, int] = {}  # FLOPs of earlier attempts, by phase
        self._book = PhaseBook(self._reserve)
        self._settled: dict[Phase, Work] = {}  # work of all processes up to the last call of settle
        self._attached = ExitStack()
        self.teachers: dict[str, str] = {}
        self._profiles: list[ComputeProfile] = []  # of the models that `teacher` returned
        self._since = time.perf_counter()  # of the last save
        self.replay()

    def _key(self) -> dict[str, Any]:
        lora = self._lora and self._lora.model_dump()
        key = {"train": self._saved, "allowance": self._allowance, "lora": lora}
        return key if self._start is None else key | {"start": self._start.digest}

    def _recalled(self) -> dict[str, Any] | None:
        return self._evaluator.journal.recall(self._key(), shape(Trained))

    def replay(self) -> None:
        """Restore the progress of training from the journal, and book its work."""
        while not self.ended and (entry := self._recalled()) is not None:
            work = Work(**entry["work"])
            self._replay(work)
            self._book_time(entry["seconds"])
            self._work = self._booked
            self._earlier = entry["phases"]
            self._saved += 1
            if "digest" in entry:
                self.cut = entry["cut"]
                self.finished = Checkpoint(self._folder / FINISHED, entry["digest"]), entry["report"]
            elif "abandoned" in entry:
                self.diverged = entry["abandoned"], entry["report"]

    @property
    def ended(self) -> bool:
        """Whether training has finished or diverged."""
        return self.finished is not None or self.diverged is not None

    @cached_property
    def state(self) -> dict[str, Any] | None:
        """State of the last save; None if nothing was saved."""
        if not self._saved or self.ended:
            return None
        path = self._folder / str(self._saved) / STATE
        try:
            state: dict[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise BenchError(f"{path}: the trainer's state cannot be read ({error}); start a new run") from error
        return state

    @property
    def _device(self) -> torch.device:
        return torch.device(str(self._evaluator.engine.settings["device"]))

    @property
    def mixed(self) -> bool:
        """Whether to compute in bfloat16, because the hardware supports it. The weights stay in float32."""
        return self._device.type == "cuda" and torch.cuda.is_bf16_supported()

    # Models

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, Any]:
        base, tokenizer = self._evaluator.engine.trainable()
        if self._start is not None:
            _fill(base, read_trained(self._start) or read_checkpoint(self._start))
        tokenizer.padding_side = "left"
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(self._pad_id(tokenizer))
        model, self._sampler = self._sampling(base, tokenizer.pad_token_id, derive(self._seed, "adapters"))
        self._metered = attach(model, self._book, role="policy", pad_id=tokenizer.pad_token_id)
        self._attached.enter_context(self._metered)
        if self.ranks.sharded:
            shard(base)
        return model, tokenizer

    @property
    def rollout_dtype(self) -> str | None:
        """Dtype of the engine that samples the rollouts; None if the trainable copy samples them itself."""
        settings = self._evaluator.engine.settings
        return None if settings["backend"] == "transformers" else str(settings["dtype"])

    def _sampling(self, model: PreTrainedModel, pad_id: int, seed: int) -> tuple[PreTrainedModel, Samples]:
        """Prepare a copy of the base for sampling and training, with adapters drawn from a seed if `lora` is given."""
        with_positions(without_own_settings(model, pad_id))
        sampler: Samples
        if self.rollout_dtype is None:
            sampler = Sampler(model, self._finish, partial(whole, model) if self.ranks.sharded else nullcontext)
        else:
            engine = self._evaluator.engine
            if not isinstance(engine, RolloutEngine):
                raise Refused(
                    "--engine vllm: rollouts of a training are sampled by one engine, to which the weights are handed "
                    "over in memory; leave out --engines and --ray-address"
                )
            stop = self._evaluator.sampling.stop
            sampler = EngineSampler(model, engine, lambda: self._end_rules, stop, self._book)
        if self._lora is not None:
            set_seed(seed % 2**32)
            model = with_adapters(model, self._lora)
        return model, sampler

    @property
    def model(self) -> PreTrainedModel:
        """Copy of the model in float32, with adapters if `lora` is given."""
        return self._loaded[0]

    @property
    def tokenizer(self) -> Any:
        """Copy of the tokenizer with left padding. The padding id ends no answer and occurs in no prompt."""
        return self._loaded[1]

    @property
    def positions(self) -> int | None:
        """Maximum length of a prompt and its answer, in tokens; None if the model has no limit."""
        return max_positions(self.model.config)

    def _pad_id(self, tokenizer: Any) -> int:
        # PPOTrainer recognises padding by its id, so the id must not end an answer or occur in a prompt.
        used = {token for prompt in self.prompts for token in prompt.token_ids}
        special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        for token in (tokenizer.pad_token_id, *sorted(special | {*tokenizer.all_special_ids})):
            if (
                token is not None
                and token not in used
                and self._evaluator.engine.ending([token], self._evaluator.sampling) != "end"
            ):
                return int(token)
        raise BenchError("the tokenizer has no special id for padding: each one ends an answer or occurs in a prompt")

    def value_model(self) -> ValueModel:
        """Return a copy of the base model with a scalar value head, initialised to zero, instead of the LM head."""
        model, _ = self._evaluator.engine.trainable()
        pad_id = self.tokenizer.pad_token_id
        value = ValueModel(without_own_settings(model, pad_id))
        measured = self._metered.measured
        self._attached.enter_context(attach(value, self._book, role="value", pad_id=pad_id, measured=measured))
        return value

    def teacher(self, model: str | None = None) -> PreTrainedModel:
        """Return a frozen copy of the base, or of one of the method's further models, in float32.

        Args:
            model: Name of the model; None for the base.

        Raises:
            Refused: If its tokenizer is not the base's, or it has too few positions.
            BenchError: If the method does not name it, or its weights have changed since the last save.
        """
        folders, pad_id = self._evaluator.models, self.tokenizer.pad_token_id
        if model is not None and model not in folders:
            raise BenchError(f"model {model}: the method runs it and does not name it in `models`")
        found, tokenizer = self._evaluator.engine.trainable(None if model is None else folders[model])
        if model is not None:
            ids = [prompt.token_ids for prompt in self.prompts]
            check_reads_alike(model, found, tokenizer, self.tokenizer, ids, self.max_new_tokens)
            self.teachers[model] = self._same_as_saved(model, digest(held(found)))
        found.requires_grad_(False).eval()
        with_positions(without_own_settings(found, pad_id))

        def book(work: Work, phase: Phase) -> None:
            self._book(in_products(attached.profile, work), phase)

        attached = self._attached.enter_context(attach(found, book, role="reference", pad_id=pad_id))
        self._profiles.append(attached.profile)
        return found

    def _same_as_saved(self, model: str, weights: str) -> str:
        """Return the digest of a teacher's weights, which must be the one that the state was saved with."""
        saved = (self.state or {}).get("teachers", {}).get(model, weights)
        if saved != weights:
            raise BenchError(
                f"model {model}: its weights have the digest {weights[:12]}, and this run was trained with "
                f"{saved[:12]} so far; restore its files, or start a new run"
            )
        return weights

    def peer(self, number: int, sigma: float) -> SamplingModel:
        """Return a further trainable copy of the base with noise in its weights, metered like the first."""
        model, _ = self._evaluator.engine.trainable()
        WeightSpace(movable(model)).move_to(Point({derive(self._seed, "peer", number): sigma}))
        pad_id = self.tokenizer.pad_token_id
        model, sampler = self._sampling(model, pad_id, derive(self._seed, "adapters", number))
        measured = self._metered.measured
        self._attached.enter_context(attach(model, self._book, role="policy", pad_id=pad_id, measured=measured))
        return SamplingModel(model, sampler)

    # Compute accounting

    def _reserve(self, work: Work) -> None:
        self._evaluator.meter.reserve(work)
        self._booked += work

    def _replay(self, work: Work) -> None:
        self._evaluator.meter.replay("train", work)
        self._booked += work

    def _book_time(self, seconds: float) -> None:
        self._evaluator.clock.book(self._evaluator.meter.booked_to("train"), seconds)

    @property
    def spent(self) -> int:
        """FLOPs of training so far, including earlier attempts."""
        return self._evaluator.meter.flops(self._booked)

    @property
    def remaining(self) -> int:
        """Remaining FLOPs of the allowance."""
        return self._allowance - self.spent

    @property
    def phases(self) -> dict[str, int]:
        """FLOPs of training so far, by phase."""
        works = _added(self._settled, self._book.phases())
        now = {str(phase): self._evaluator.meter.flops(work) for phase, work in works.items()}
        return {phase: self._earlier.get(phase, 0) + now.get(phase, 0) for phase in sorted({*self._earlier, *now})}

    @contextmanager
    def metered(self) -> Iterator[None]:
        """Allow passes within the block, and meter them.

        The block ends before the first pass that exceeds the allowance, without an error; `cut` is then true.

        Raises:
            BenchError: If that happens in one of several processes, because the others would wait for it.
        """
        with self._evaluator.clock.span("training"), self._evaluator.meter.account("train", self.remaining):
            self._since = time.perf_counter()
            try:
                yield
            except AllowanceSpent:
                if self.ranks.world_size > 1:
                    raise BenchError("a training step cost more than its bound, so one process stopped") from None
                self.cut = True

    def bound(self, evaluations: float) -> int:
        """Return the FLOPs of a number of forward passes over the longest prompt and answer; 0 for a single process."""
        return math.ceil(evaluations * self._longest) if self.ranks.world_size > 1 else 0

    @property
    def _longest(self) -> int:
        """FLOPs of a forward pass of the largest model over the longest prompt and answer, with logits everywhere."""
        tokens = self._longest_tokens
        own = self._evaluator.meter.profile
        # As if no layer had a window: a bound need not be tight, and training stays as long as it was.
        passes = [_without_windows(profile, tokens) for profile in (own, *self._profiles)]
        return max(passes[0] + 2 * adapter_products(self.model) * tokens, *passes)

    @cached_property
    def _longest_tokens(self) -> int:
        return max(
            len(prompt.token_ids)
            + max(self.max_new_tokens, 1 + len(self.tokenizer.encode(prompt.gold or "", add_special_tokens=False)))
            for prompt in self.prompts
        )

    def settle(self) -> None:
        """Book the work of the other processes since the last call.

        Raises:
            BenchError: If all processes together exceed the allowance. The bound on a step should prevent that.
        """
        for rank, phases in enumerate(self.ranks.gather(self._book.drain())):
            self._settled = _added(self._settled, phases)
            if rank != self.ranks.rank:
                self._replay(sum(phases.values(), Work()))
        if self.remaining < 0:
            raise BenchError(f"a training step cost more than its bound: {-self.remaining} FLOPs beyond the allowance")

    # Answers

    @cached_property
    def _end_rules(self) -> dict[TokenIds, EndRule | None]:
        """Rule that ends the answers to each prompt."""
        return {p.token_ids: self._evaluator.end_rule(self._examples[p.id]) for p in self.prompts}

    def _finish(self, prompt: TokenIds, generated: Sequence[int]) -> Finish | None:
        return self._evaluator.engine.ending(generated, self._evaluator.sampling, self._end_rules.get(prompt))

    def encode(self, prompt: list[Message] | str) -> TokenIds:
        """Return the token ids of a prompt that is not the task's."""
        return self._evaluator.engine.encode(prompt)

    @property
    def rollouts(self) -> Sequence[Rollout]:
        """Answers that the last call of the model's `generate` sampled, one per row."""
        _ = self.model
        return self._sampler.rollouts

    def judge(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[Score]:
        """Score answers to support examples, given by id, with the task's scorer or the run's reward."""
        return self._evaluator.rewards([self._examples[i] for i in examples], self._texts(answers))

    def parts(
        self, examples: Sequence[str], answers: Sequence[Sequence[int]], scores: Sequence[Score]
    ) -> list[dict[str, float] | None]:
        """Return the parts of the rewards of answers to support examples, given by id, with the scores of `judge`."""
        return self._evaluator.reward_parts([self._examples[i] for i in examples], self._texts(answers), scores)

    def votes(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[Vote | None]:
        """Return the votes of answers to support examples, given by id."""
        return self._evaluator.task.vote_keys([self._examples[i] for i in examples], self._texts(answers))

    def _texts(self, answers: Sequence[Sequence[int]]) -> list[str]:
        return [self._evaluator.engine.text(answer, self._evaluator.sampling) for answer in answers]

    # Progress

    def save(self, state: dict[str, Any], optimizer: torch.optim.Optimizer | None = None) -> None:
        """Write the trainer's state to disk, and journal the work since the last save.

        Args:
            state: What to save.
            optimizer: Optimiser of a sharded model. Its state and the trained weights are saved in parts, one from each
                process.
        """
        with folder_atomically(self._folder / str(self._saved + 1)) if self.ranks.main else nullcontext() as folder:
            if folder is not None:
                torch.save(state | ({"teachers": self.teachers} if self.teachers else {}), folder / STATE)
            if optimizer is not None:
                (common, *_) = self.ranks.gather(folder)
                assert common is not None
                save_shards(common / SHARDS, self.model, optimizer)
        self._journal({})

    def restore(self, optimizer: torch.optim.Optimizer) -> None:
        """Restore the weights of a sharded model and the state of its optimiser from the last save."""
        load_shards(self._folder / str(self._saved) / SHARDS, self.model, optimizer)

    def finish(self, report: dict[str, Any]) -> Checkpoint:
        """Merge adapters, write the model in the base's precision and as trained, and journal the report.

        Launched workers exit here.
        """
        self._attached.close()
        model = self._unsharded() if self.ranks.sharded else self.model
        if not self.ranks.main:
            self.ranks.leave()
        if self._lora is not None:
            model = model.merge_and_unload()
        dtypes = deployed_dtypes(model, getattr(torch, str(self._evaluator.engine.settings["dtype"])))
        checkpoint = write_checkpoint(self._folder / FINISHED, held(model), dtypes)
        self._journal({"digest": checkpoint.digest, "report": report, "cut": self.cut})
        self.finished = checkpoint, report
        self.ranks.leave()
        return checkpoint

    def _unsharded(self) -> PreTrainedModel:
        """Return a whole copy of the sharded model in the main process, and the sharded model itself in the others."""
        values = gathered(self.model, keep=self.ranks.main)
        if not self.ranks.main:
            return self.model
        model, _ = self._evaluator.engine.trainable()
        return _fill(model if self._lora is None else with_adapters(model, self._lora), values)

    def abandon(self, reason: str, report: dict[str, Any]) -> None:
        """Journal that training diverged, with its report."""
        self._journal({"abandoned": reason, "report": report})
        self.diverged = reason, report

    def _journal(self, entry: dict[str, Any]) -> None:
        now = time.perf_counter()
        entry |= {"work": sparse(self._booked - self._work), "phases": self.phases, "seconds": now - self._since}
        self._evaluator.journal.append(self._key(), entry)
        self._book_time(entry["seconds"])
        self._since = now
        self._work = self._booked
        self._saved += 1
        if self.ranks.main:
            shutil.rmtree(self._folder / str(self._saved - 1), ignore_errors=True)


def _fill(model: PreTrainedModel, values: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    for name, tensor in held(model).items():
        tensor.copy_(values[name])
    return model


def _without_windows(profile: ComputeProfile, tokens: int) -> int:
    pair = profile.context + sum(layer.pair for layer in profile.layers)
    return (profile.token + profile.head) * tokens + pair * tokens * (tokens + 1) // 2


def _added(one: Mapping[Phase, Work], other: Mapping[Phase, Work]) -> dict[Phase, Work]:
    return {phase: one.get(phase, Work()) + other.get(phase, Work()) for phase in {**one, **other}}
