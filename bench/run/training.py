"""Gradient training as a run sees it: a copy of the base, metered from outside, whose progress outlives a kill.

What was trained is on disk before the journal says so, and the journal's line carries the work since the last one. A
resumed run is billed the journalled work and goes on from there; what a killed attempt did after its last line is done
again and was never billed.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from bench.compute.attach import attach
from bench.compute.ledger import Phase, PhaseBook, Work
from bench.compute.meter import AllowanceSpent
from bench.distributed import ProcessGroup
from bench.errors import BenchError
from bench.records.files import folder_atomically
from bench.run.evaluator import Evaluator, sparse
from bench.weights.checkpoint import Checkpoint, write_checkpoint
from methods.interface import FormattedPrompt, Lora
from tasks.interface import Example, Score, Vote

STATE = "state.pt"


class TrainingSession:
    """A run's gradient training. See `methods.interface.Training`.

    Args:
        evaluator: Engine, task, meter and journal.
        examples: The support split.
        folder: For saved states and the finished weights.
        allowance: FLOPs that training may take in all.
        lora: Adapters to train in place of all parameters.
        ranks: The processes that train together.

    Attributes:
        abandoned: Why an earlier attempt came to nothing, and its report; None if none did.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        examples: Sequence[Example],
        folder: Path,
        allowance: int,
        lora: Lora | None = None,
        ranks: ProcessGroup = ProcessGroup(),  # noqa: B008, an immutable value
    ) -> None:
        self._evaluator, self._folder, self._allowance, self._lora, self.ranks = (
            evaluator,
            folder,
            allowance,
            lora,
            ranks,
        )
        self._examples = {example.id: example for example in examples}
        self.prompts = tuple(
            FormattedPrompt(e.id, evaluator.format_prompt(e), evaluator.prompt(e), evaluator.task.gold(e))
            for e in examples
        )
        self.max_new_tokens = evaluator.sampling.max_new_tokens
        self.batch_size = evaluator.batch_size  # as the run began: that of the engine may have been halved since
        self.finished: tuple[Checkpoint, dict[str, Any]] | None = None
        self.abandoned: tuple[str, dict[str, Any]] | None = None
        self.cut = False
        self._saved = 0  # journalled lines of training
        self._work = Work()  # of training, by those lines
        self._earlier: dict[str, int] = {}  # FLOPs of earlier attempts by phase
        self._book = PhaseBook(evaluator.meter.reserve)
        self._settled: dict[Phase, Work] = {}  # what all processes did, up to the last time they said so
        self._attached = ExitStack()
        self.replay()

    def _key(self) -> dict[str, Any]:
        lora = self._lora and self._lora.model_dump()
        return {"train": self._saved, "allowance": self._allowance, "lora": lora}

    def replay(self) -> None:
        """Take over what the journal says of training."""
        while not self.ended and (entry := self._evaluator.journal.recall(self._key())) is not None:
            work = Work(**entry["work"])
            self._evaluator.meter.replay("train", work)
            self._work += work
            self._earlier = entry["phases"]
            self._saved += 1
            if "digest" in entry:
                self.cut = entry["cut"]
                self.finished = Checkpoint(self._folder / "finished", entry["digest"]), entry["report"]
            elif "abandoned" in entry:
                self.abandoned = entry["abandoned"], entry["report"]

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.finished is not None or self.abandoned is not None

    @cached_property
    def state(self) -> dict[str, Any] | None:
        """What was saved last; None at the start."""
        if not self._saved or self.ended:
            return None
        path = self._folder / str(self._saved) / STATE
        try:
            state: dict[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise BenchError(f"{path}: the trainer's state cannot be read ({error}); start the run anew") from error
        return state

    @property
    def _device(self) -> torch.device:
        return torch.device(str(self._evaluator.engine.settings["device"]))

    @property
    def mixed(self) -> bool:
        """Whether the hardware computes in bfloat16; the weights stay in float32."""
        return self._device.type == "cuda" and torch.cuda.is_bf16_supported()

    # Models

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, Any]:
        model, tokenizer = self._evaluator.engine.trainable()
        tokenizer.padding_side = "left"
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(self._pad_id(tokenizer))
        model.generation_config.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
        # What is not a number is divergence, which the loss tells; drawing from it would be a crash.
        model.generation_config.remove_invalid_values = True
        model.generate = _ended_by(self._ended, model.generate)
        if self._lora is not None:
            model = _with_adapters(model, self._lora)
        self._attached.enter_context(attach(model, self._book, role="policy", pad_id=tokenizer.pad_token_id))
        return model, tokenizer

    @property
    def model(self) -> PreTrainedModel:
        """The copy in float32, with adapters if they were asked for."""
        return self._loaded[0]

    @property
    def tokenizer(self) -> Any:
        """A copy of the base's that pads left, with an id that is neither an end nor in a prompt."""
        return self._loaded[1]

    def _pad_id(self, tokenizer: Any) -> int:
        # PPOTrainer tells padding by its id, so that it must not be what ends an answer, nor stand in a prompt.
        used = {token for posed in self.prompts for token in posed.token_ids}
        special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        for token in (tokenizer.pad_token_id, *sorted(special | {*tokenizer.all_special_ids})):
            if (
                token is not None
                and token not in used
                and self._evaluator.engine.ending([token], self._evaluator.sampling) != "end"
            ):
                return int(token)
        raise BenchError("the tokenizer has no special id that can pad: every one ends an answer or stands in a prompt")

    def value_model(self) -> PreTrainedModel:
        """Return a copy of the base with a scalar head that starts at zero in place of its output head."""
        model, _ = self._evaluator.engine.trainable()
        model.config.pad_token_id, model.config.num_labels = self.tokenizer.pad_token_id, 1
        with torch.device("meta"):
            value = AutoModelForSequenceClassification.from_config(model.config)
        setattr(value, value.base_model_prefix, model.base_model)
        value.score = nn.Linear(value.score.in_features, 1, bias=False, device=model.device, dtype=model.dtype)
        nn.init.zeros_(value.score.weight)
        self._attached.enter_context(attach(value, self._book, role="value", pad_id=self.tokenizer.pad_token_id))
        return value

    # Billing

    @property
    def spent(self) -> int:
        """FLOPs of training so far, earlier attempts' included."""
        return self._evaluator.meter.flops(self._evaluator.meter.ledger["train"])

    @property
    def remaining(self) -> int:
        """FLOPs of the allowance that are left."""
        return self._allowance - self.spent

    @property
    def phases(self) -> dict[str, int]:
        """FLOPs of training so far by phase."""
        works = _added(self._settled, self._book.phases())
        now = {str(phase): self._evaluator.meter.flops(work) for phase, work in works.items()}
        return {phase: self._earlier.get(phase, 0) + now.get(phase, 0) for phase in sorted({*self._earlier, *now})}

    @contextmanager
    def metered(self) -> Iterator[None]:
        """Let passes run; ends quietly, and sets `cut`, before the first one that the allowance does not cover."""
        with self._evaluator.clock.span("training"), self._evaluator.meter.account("train", self.remaining):
            try:
                yield
            except AllowanceSpent:
                if self.ranks.world_size > 1:
                    raise BenchError("a training step cost more than its bound, and stopped in one process") from None
                self.cut = True

    def bound(self, evaluations: float) -> int:
        """Return the FLOPs of so many forward passes over the longest example and answer; 0 for one process alone."""
        return math.ceil(evaluations * self._longest) if self.ranks.world_size > 1 else 0

    @cached_property
    def _longest(self) -> int:
        """FLOPs of one such pass, with the head at every position."""
        tokens = max(
            len(posed.token_ids)
            + max(self.max_new_tokens, 1 + len(self.tokenizer.encode(posed.gold or "", add_special_tokens=False)))
            for posed in self.prompts
        )
        weights = sum(m.in_features * m.out_features for m in self.model.modules() if isinstance(m, nn.Linear))
        attended = self._evaluator.meter.shape.layers * tokens * (tokens + 1) // 2
        return self._evaluator.meter.flops(Work(products=weights * tokens, attended=attended))

    def settle(self) -> None:
        """Book what the other processes ran since this was last called.

        Raises:
            BenchError: If all have spent more than the allowance, which a step's bound should have prevented.
        """
        for rank, phases in enumerate(self.ranks.gather(self._book.drain())):
            self._settled = _added(self._settled, phases)
            if rank != self.ranks.rank:
                self._evaluator.meter.replay("train", sum(phases.values(), Work()))
        if self.remaining < 0:
            raise BenchError(f"a training step cost more than its bound: {-self.remaining} FLOPs beyond the allowance")

    # Answers

    def _ended(self, generated: Sequence[int]) -> bool:
        return self._evaluator.engine.ending(generated, self._evaluator.sampling) is not None

    def trimmed(self, answer: Sequence[int]) -> list[int]:
        """Return an answer's ids up to where the base's decoding would have ended it."""
        ids = list(answer)
        return next((ids[:n] for n in range(1, len(ids) + 1) if self._ended(ids[:n])), ids)

    def judge(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[Score]:
        """Judge answers to the support examples of these ids with the task's scorer."""
        return self._evaluator.task.score_many([self._examples[i] for i in examples], self._texts(answers))

    def votes(self, examples: Sequence[str], answers: Sequence[Sequence[int]]) -> list[Vote | None]:
        """Return what answers to the support examples of these ids vote for."""
        return self._evaluator.task.vote_keys([self._examples[i] for i in examples], self._texts(answers))

    def _texts(self, answers: Sequence[Sequence[int]]) -> list[str]:
        return [self._evaluator.engine.text(answer, self._evaluator.sampling) for answer in answers]

    # Progress

    def save(self, state: dict[str, Any]) -> None:
        """Put the state to go on from on disk, with the work that led to it."""
        if self.ranks.main:
            with folder_atomically(self._folder / str(self._saved + 1)) as folder:
                torch.save(state, folder / STATE)
        self._journal({})

    def finish(self, report: dict[str, Any]) -> Checkpoint:
        """Merge adapters and put the model on disk in the base's precision, with what is to be reported of it.

        A process that a run handed its training to ends here.
        """
        self._attached.close()
        if not self.ranks.main:
            self.ranks.leave()
        model = self.model if self._lora is None else self.model.merge_and_unload()
        dtype = getattr(torch, str(self._evaluator.engine.settings["dtype"]))
        parameters = {name: tensor.to(dtype) for name, tensor in model.named_parameters()}
        checkpoint = write_checkpoint(self._folder / "finished", parameters)
        self._journal({"digest": checkpoint.digest, "report": report, "cut": self.cut})
        self.ranks.leave()
        return checkpoint

    def abandon(self, reason: str, report: dict[str, Any]) -> None:
        """Put on disk that training came to nothing, with what is to be reported of it."""
        self._journal({"abandoned": reason, "report": report})

    def _journal(self, entry: dict[str, Any]) -> None:
        booked = self._evaluator.meter.ledger["train"]
        entry |= {"work": sparse(booked - self._work), "phases": self.phases}
        self._evaluator.journal.append(self._key(), entry)
        self._work = booked
        self._saved += 1
        if self.ranks.main:
            shutil.rmtree(self._folder / str(self._saved - 1), ignore_errors=True)


def _added(one: Mapping[Phase, Work], other: Mapping[Phase, Work]) -> dict[Phase, Work]:
    return {phase: one.get(phase, Work()) + other.get(phase, Work()) for phase in {**one, **other}}


class _Ended(StoppingCriteria):
    """Ends an answer where the engine would."""

    def __init__(self, ended: Callable[[Sequence[int]], bool], prompt_tokens: int) -> None:
        self._ended, self._start = ended, prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.tensor([self._ended(row) for row in input_ids[:, self._start :].tolist()], device=input_ids.device)


def _ended_by(ended: Callable[[Sequence[int]], bool], generate: Callable[..., Any]) -> Callable[..., Any]:
    def with_ends(*args: Any, input_ids: torch.Tensor, **kwargs: Any) -> Any:
        ends = StoppingCriteriaList([_Ended(ended, input_ids.shape[1])])
        return generate(*args, input_ids=input_ids, stopping_criteria=ends, **kwargs)

    return with_ends


def _with_adapters(model: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model

    alpha = 2 * lora.rank if lora.alpha is None else lora.alpha
    config = LoraConfig(task_type="CAUSAL_LM", r=lora.rank, lora_alpha=alpha, target_modules="all-linear")
    adapted: PreTrainedModel = get_peft_model(model, config)
    return adapted
