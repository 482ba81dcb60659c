"""Restricted views of a run for methods and for artifacts. See `methods.interface`."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from bench.compute.ledger import Account, AdaptationAccount, Work
from bench.compute.meter import AllowanceSpent
from bench.distributed import ProcessGroup
from bench.errors import BenchError
from bench.records.files import share
from bench.records.rows import Move
from bench.run.chunks import Answer
from bench.run.data import TaskData
from bench.run.evaluator import Drafts, Evaluator
from bench.run.progress import ProgressDisplay, StageDisplay
from bench.weights.checkpoint import FILE, Checkpoint, Place, saved_digest
from methods.interface import GREEDY, AdaptationSplit, Answers, Decoding, Diverged, Evaluation, Lora, Training
from tasks.interface import DEFAULT_PROMPT, Example, Vote

if TYPE_CHECKING:
    from bench.run.training import TrainingSession

ACCOUNTS: tuple[AdaptationAccount, ...] = get_args(AdaptationAccount)


class AdaptationContext:
    """View of a run for methods: without test split, engine or meter. Implements `methods.interface.Context`.

    Args:
        evaluator: Evaluator for the task adapted on.
        task_data: Tasks and their data.
        seed: Seed of all randomness.
        evaluation_flops: Measured cost of one evaluation.
        display: Progress display.
        training: Folder for the states and weights of training. Default: the run's own.

    Attributes:
        ranks: Rank and world size of the training group.
        budget: The method's budget in FLOPs, without what is reserved for the gate or was spent on tuning.
        delegate_training: Trains in launched processes and returns when they have written the journal. None to train
            in this process.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        task_data: TaskData,
        seed: int,
        evaluation_flops: float,
        display: ProgressDisplay,
        training: Path | None = None,
    ) -> None:
        self._evaluator, self._display = evaluator, display
        self._training = evaluator.journal.path.parent / "training" if training is None else training
        self._closed = False
        self._trainings = 0
        self._session: TrainingSession | None = None  # of the last training
        self.budget = evaluator.meter.remaining
        self.ranks = ProcessGroup()
        self.delegate_training: Callable[[], None] | None = None
        splits = task_data.splits
        self._examples = {"support": splits.support, "select": splits.select}
        self.seed = seed
        prompts, refused = evaluator.prompts(task_data.traits.prompts, splits.support)
        traits = task_data.traits
        self.task = replace(traits, prompts=prompts, refused_prompts={**traits.refused_prompts, **refused})
        self.evaluation_flops = evaluation_flops
        self.report: dict[str, Any] = {}

    @property
    def remaining(self) -> int:
        """Remaining adaptation FLOPs."""
        return self._evaluator.meter.remaining

    def close(self) -> None:
        """Refuse all further work: the method has returned."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise BenchError("the method or its artifact used the context after `adapt` had returned; it ends there")

    def evaluate(
        self,
        point: Place,
        split: AdaptationSplit,
        *,
        account: AdaptationAccount,
        examples: range | None = None,
        allowance: int | None = None,
        prompt: str = DEFAULT_PROMPT,
    ) -> Evaluation:
        """Answer examples of a split with the model at a point, and score the answers.

        Raises:
            ValueError: If methods may not book to the account or see the split, the range exceeds the split, or the
                task has no such prompt.
            BenchError: If the method has returned.
        """
        self._check_open()
        _check_account(account)
        selected, label = self._select(split, examples)
        _check_prompt(self._evaluator, prompt)
        as_deployed = _as_deployed(split)
        return self._evaluator.score(point, selected, label, account, allowance, prompt, as_deployed=as_deployed)

    def answer(
        self,
        point: Place,
        split: AdaptationSplit,
        *,
        account: AdaptationAccount,
        examples: range | None = None,
        allowance: int | None = None,
    ) -> Answers:
        """Answer examples of a split with the model at a point.

        Raises:
            ValueError: As for `evaluate`.
            BenchError: If the method has returned.
        """
        self._check_open()
        _check_account(account)
        selected, label = self._select(split, examples)
        return self._evaluator.answers(point, selected, label, account, allowance)

    def votes(self, split: AdaptationSplit, examples: Sequence[int], texts: Sequence[str]) -> list[Vote | None]:
        """Return the votes of answers to examples of a split, given by index.

        Raises:
            ValueError: If methods may not see the split, or it has no example with one of the indices.
            BenchError: If the method has returned.
        """
        self._check_open()
        available, _ = self._select(split, None)
        if missing := [index for index in examples if not 0 <= index < len(available)]:
            raise ValueError(
                f"examples has {missing[0]}: split {split} has {len(available)} examples; give indices from 0 to "
                f"{len(available) - 1}"
            )
        return self._evaluator.votes([available[index] for index in examples], texts)

    def prepare(
        self,
        points: Sequence[Place],
        split: AdaptationSplit,
        *,
        examples: range | None = None,
        prompts: Sequence[str] = (DEFAULT_PROMPT,),
        scored: bool = True,
    ) -> None:
        """Announce the evaluations or the answers that will probably come next.

        Raises:
            ValueError: If answers are announced under other prompts than the default one.
        """
        self._check_open()
        selected, label = self._select(split, examples)
        evaluator = self._evaluator
        if scored:
            chunk = partial(evaluator.score_chunk, examples=selected, label=label, as_deployed=_as_deployed(split))
            chunks = [chunk(point, prompt=prompt) for point in points for prompt in prompts]
        elif tuple(prompts) == (DEFAULT_PROMPT,):
            chunks = [evaluator.tokens_chunk(point, selected, label) for point in points]
        else:
            raise ValueError(f"prompts is {', '.join(prompts)}: answers have the prompt {DEFAULT_PROMPT} alone")
        evaluator.announce(chunks)

    def _select(self, split: AdaptationSplit, examples: range | None) -> tuple[Sequence[Example], str]:
        """Return the selected examples and their label in the journal.

        They are one chunk: a method evaluates many points at once, so engines share the points and not the examples.
        """
        if split not in self._examples:
            reason = "; the gate is the harness's, see --gate" if split == "gate" else ""
            raise ValueError(f"a method may not read split {split!r}; it has {', '.join(self._examples)}{reason}")
        available = self._examples[split]
        chosen = range(len(available)) if examples is None else examples
        if not (0 <= chosen.start < chosen.stop <= len(available) and chosen.step == 1):
            raise ValueError(
                f"examples {chosen}: split {split} has {len(available)} examples; choose a range of at least one of "
                "them, with step 1"
            )
        return available[chosen.start : chosen.stop], f"{split} {chosen.start}"

    def train(self, allowance: int, lora: Lora | None = None, start: Checkpoint | None = None) -> Training:
        """Start gradient training, or continue from the last saved state of an earlier attempt.

        Each training of a run has a folder of its own, as the checkpoint of one can be the start of the next.

        Raises:
            Diverged: If training diverged, in the launched processes or in an earlier attempt.
            BenchError: If the method has returned, or its last training has not ended.
        """
        self._check_open()
        if self._session is not None and not self._session.ended:
            raise BenchError(
                "the method began a training before the last one had ended; call its `finish` or `abandon` first"
            )
        from bench.run.training import TrainingSession  # loads torch

        self._trainings += 1
        folder = self._training if self._trainings == 1 else self._training / f"training-{self._trainings}"
        support = self._examples["support"]
        session = TrainingSession(self._evaluator, support, folder, allowance, self.seed, lora, self.ranks, start)
        self._session = session
        if self.delegate_training is not None and not session.ended:
            try:
                self.delegate_training()
            finally:
                self._evaluator.journal.reread()
                session.replay()
            if not session.ended:
                raise BenchError("the launched processes exited without writing the end of training to the journal")
        if session.diverged is not None:
            reason, self.report["training"] = session.diverged
            raise Diverged(reason)
        return session

    def stage(self, name: str, steps: int | None = None) -> AbstractContextManager[StageDisplay]:
        """Show one phase on the progress display."""
        return self._display.stage(name, steps)


def _as_deployed(split: AdaptationSplit) -> bool:
    """Return whether scores on a split are of weights as they are deployed, see `Context.evaluate`.

    On the select split sums of few terms, which an engine could add, are compared with sums of many, which it moves to.
    """
    return split == "select"


_QueryKey = tuple[str, tuple[str, ...], Decoding, str, Drafts]
"""Digest of a point, example ids, decoding, prompt name and drafts."""


class DeploymentContext:
    """View of a run for artifacts: metered answers to examples by id. Implements `methods.interface.Deployment`.

    Answers are cached: the same query with the same weights is not generated again. Its cost is booked each time
    without an allowance, as a deployment would pay for it, and once with one, which limits what is computed.

    Args:
        evaluator: Evaluator that generates.
        examples: Examples that can be answered.
        display: Progress display.
        name: Name of the examples in the journal and on the display.
        account: Account that answers are booked to.
        allowance: FLOPs that all answers may cost; None for no limit.

    Attributes:
        account: Account that answers are booked to.
        exhausted: Whether answers were refused because the allowance did not cover them.
        queries: All distinct (point, decoding, prompt) used since they were last cleared.
        answers: Answers generated since they were last cleared, by example id and text. Of equal texts it is the last
            one that was asked for with drafts, or else the first.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        examples: Sequence[Example],
        display: ProgressDisplay,
        *,
        name: str = "test",
        account: Account = "evaluation",
        allowance: int | None = None,
    ) -> None:
        self._evaluator, self._display, self._name = evaluator, display, name
        self._examples = {example.id: example for example in examples}
        self._positions = {example.id: position for position, example in enumerate(examples)}
        self._allowance = allowance
        self.exhausted = False
        self._answered: dict[_QueryKey, tuple[list[Answer], Work]] = {}
        self._announced: Set[_QueryKey] = set()
        self.account = account
        self.queries: set[tuple[Place, Decoding, str]] = set()
        self.answers: dict[tuple[str, str], Answer] = {}
        self._saved: dict[Place, tuple[str | None, Move | None]] = {}

    def answer(
        self,
        point: Place,
        examples: Sequence[str],
        decoding: Decoding = GREEDY,
        prompt: str = DEFAULT_PROMPT,
        drafts: Sequence[Sequence[str]] = (),
    ) -> list[str]:
        """Answer examples, given by id, with the model at a point.

        Raises:
            KeyError: If an id is not one of the examples.
            ValueError: If the task has no such prompt, or the drafts are not one for each example.
            AllowanceSpent: If the allowance does not cover the answers.
        """
        if any(len(each) != len(examples) for each in drafts):
            lengths = ", ".join(str(len(each)) for each in drafts)
            raise ValueError(f"drafts has lists of {lengths} answers; each must have {len(examples)}, one per example")
        _check_prompt(self._evaluator, prompt)
        self.queries.add((point, decoding, prompt))
        shown: Drafts = tuple(zip(*drafts, strict=True))
        key = (point.digest, tuple(examples), decoding, prompt, shown)
        if key in self._answered:
            answers, work = self._answered[key]
            if self._allowance is None:
                self._evaluator.meter.replay(self.account, work)
            return self._texts(examples, answers)
        if key not in self._announced:
            self._announce([point], examples, [decoding], prompt, shown)
        before = self._evaluator.meter.ledger[self.account]
        answers = []
        title = self._name if self._name == self.account else f"{self._name}: {self.account}"
        with self._display.stage(title, len(examples)) as stage:
            for label, part, theirs in self._chunks(examples, shown):
                answers += self._generate(point, part, label, decoding, prompt, theirs)
                stage.advance(steps=len(part))
        self._answered[key] = answers, self._evaluator.meter.ledger[self.account] - before
        return self._texts(examples, answers)

    def _generate(
        self, point: Place, examples: Sequence[Example], label: str, decoding: Decoding, prompt: str, drafts: Drafts
    ) -> list[Answer]:
        evaluator, account = self._evaluator, self.account
        before = evaluator.meter.ledger[account]
        found = evaluator.generate(point, examples, account, label, decoding, prompt, self._allowance, drafts)
        work = self._evaluator.meter.ledger[self.account] - before
        if self._allowance is not None:
            self._allowance -= self._evaluator.meter.flops(work)
        if found is None:
            self.exhausted = True
            raise AllowanceSpent(work)
        return found

    def _texts(self, examples: Sequence[str], answers: Sequence[Answer]) -> list[str]:
        for example, answer in zip(examples, answers, strict=True):
            if answer.drafts:
                self.answers[example, answer.text] = answer
            self.answers.setdefault((example, answer.text), answer)
        return [answer.text for answer in answers]

    def prepare(
        self,
        points: Sequence[Place],
        examples: Sequence[str],
        decodings: Sequence[Decoding] = (GREEDY,),
        prompt: str = DEFAULT_PROMPT,
    ) -> None:
        """Announce the answers that will be requested next."""
        self._announce(points, examples, decodings, prompt, ())

    def _announce(
        self,
        points: Sequence[Place],
        examples: Sequence[str],
        decodings: Sequence[Decoding],
        prompt: str,
        drafts: Drafts,
    ) -> None:
        queries = {(p.digest, tuple(examples), d, prompt, drafts): (p, d) for p in points for d in decodings}
        self._announced = queries.keys() - self._answered.keys()
        self._evaluator.announce(
            [
                self._evaluator.answer_chunk(point, part, label, decoding, prompt, theirs)
                for key, (point, decoding) in queries.items()
                if key in self._announced
                for label, part, theirs in self._chunks(examples, drafts)
            ]
        )

    def _chunks(self, examples: Sequence[str], drafts: Drafts) -> list[tuple[str, list[Example], Drafts]]:
        """Return the chunks that engines divide among themselves, each with its label in the journal and its drafts."""
        selected = self._lookup(examples)
        found = []
        for cut in self._evaluator.cut(len(selected)):
            part = selected[cut.start : cut.stop]
            label = f"{self._name} {self._positions[part[0].id] if part else 0}"
            found.append((label, part, drafts[cut.start : cut.stop]))
        return found

    def votes(self, examples: Sequence[str], texts: Sequence[str]) -> list[Vote | None]:
        """Return the votes of answers to examples, given by id."""
        return self._evaluator.votes(self._lookup(examples), texts)

    def signals(self, examples: Sequence[str], texts: Sequence[str]) -> list[float]:
        """Return the task's signal for answers to examples, given by id."""
        return self._evaluator.signals(self._lookup(examples), texts)

    def _lookup(self, examples: Sequence[str]) -> list[Example]:
        return [self._examples[i] for i in examples]

    def base_digest(self) -> str:
        """Return the digest of the base weights."""
        return self._evaluator.engine.digest

    def save_checkpoint(self, point: Place, folder: Path) -> None:
        """Write the model at a point as an ordinary Hugging Face checkpoint."""
        self._evaluator.engine.move_to(point)
        move = self._evaluator.engine.save(folder)
        # A large model is saved in several files, and so may be what was trained.
        if isinstance(point, Checkpoint) and all((each / FILE).exists() for each in (folder, point.folder)):
            from bench.models.tensors import files_hold_tensors_of_model  # loads torch

            if files_hold_tensors_of_model(folder):
                share(point.folder / FILE, folder / FILE)
        self._saved[point] = saved_digest(folder), move

    def weights(self, points: Set[Place]) -> tuple[str | None, Move | None]:
        """Return the digest of the weights at these points, and their move from the base.

        Both are None if there are several points, or the one is no checkpoint and was not saved as one. The base has no
        move, and that of a checkpoint is known only once it is saved.
        """
        if len(points) != 1:
            return None, None
        (point,) = points
        if point.is_base:
            return self.base_digest(), None
        return self._saved.get(point, (point.digest if isinstance(point, Checkpoint) else None, None))


def _check_account(account: str) -> None:
    if account not in ACCOUNTS:
        raise ValueError(f"a method may not book to account {account!r}; it has {', '.join(ACCOUNTS)}")


def _check_prompt(evaluator: Evaluator, prompt: str) -> None:
    task = evaluator.task
    if prompt not in (names := evaluator.prompting.names(task.prompts)):
        fixed = "".join(f"; {reason}" for reason in set(evaluator.prompting.fixed(task.prompts).values()))
        raise ValueError(f"prompt {prompt!r}: task {task.name} has {', '.join(names)}{fixed}")
