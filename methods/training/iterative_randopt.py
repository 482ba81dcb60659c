"""Iterative RandOpt, the distilled ensemble: search, vote of the best, training on the voted answers, and again.

RandOpt (arXiv 2603.12228) ends in an ensemble whose answer takes K passes. Its repository (sunrainyg/RandOpt on GitHub,
July 2026) makes one model of it. Each round scores random perturbations of the present model, keeps the K best, has
them answer the support questions, and fine-tunes the present model on what they answered. The next round searches
around the result.

Here the K best answer each question once, by greedy decoding, and vote as RandOpt's ensemble does. The answer that won
is trained on: that of the best-ranked member that gave the winning vote, token by token as generated. An answer that
was cut off at the limit on its length may vote, but is not trained on, because the model would learn to write no end. A
question on which nobody voted, or whose winning answers were all cut off, is left out. Votes are not compared with
reference answers, so the method needs none.

All passes of the voters are billed, to the account `sample`. The first round's search is that of `randopt`, and the
training is that of `sft` on other answers. So with voters that equal the base, one round equals `sft` on the base's
own answers.

Differences from the released code, with reasons:

- It samples 16 answers of each member at temperature 1, and keeps up to 8 correct ones for each question. The vote
  takes no reference answers, and a sixteenth of the passes.
- It returns the round that is best on the test split. Here the last one is the result, and the gate decides.
- It scores 30 candidates a round on 256 questions. Here the budget decides, as for `randopt`.
- It trains adapters of rank 192 at the learning rate 1e-4. Here the default is full fine-tuning, as for `sft`;
  `--set lora.rank=192 --set lr=1e-4` trains adapters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from bench.errors import Refused
from bench.seeds import derive
from bench.settings import setting
from bench.strategy import plurality
from methods.interface import (
    Answers,
    Artifact,
    Checkpoint,
    Context,
    Dimension,
    Place,
    Plan,
    PlanLine,
    Point,
    SingleModel,
)
from methods.search.population import MIN_EXAMPLES, balanced_examples, perturbation, ranking, score_population
from methods.space import Space
from methods.training.config import SftConfig, TrainingConfig, TrainingSchedule, make_schedule
from methods.training.curriculum import endless_order
from methods.training.group import UPDATE
from methods.training.sft import Sft
from methods.voting import ask_once, elect
from tasks.interface import TaskTraits, Vote

if TYPE_CHECKING:
    from methods.training.loop import Loop

RELEASED = "the code released with RandOpt (arXiv 2603.12228), July 2026"
MIN_QUESTIONS = 4
"""Minimum number of questions that a round votes on."""


class IterativeRandOptConfig(SftConfig):
    """Settings of iterative RandOpt, in addition to those of fine-tuning."""

    rounds: PositiveInt = setting(4, "Number of rounds; a small budget buys fewer.", unit="rounds", source=RELEASED)
    voters: PositiveInt = setting(
        8, "Number of best candidates that vote, the K of the ensemble.", unit="members", source=RELEASED
    )
    sigma: PositiveFloat = setting(1e-3, "Standard deviation of the perturbations.", unit="weights", source=RELEASED)
    examples: PositiveInt = setting(
        256, "Maximum number of support examples that score a candidate.", unit="examples", source=RELEASED
    )
    epochs: PositiveFloat = setting(
        2.0, "Planned number of passes over the voted answers of a round.", unit="epochs", source=RELEASED
    )


@dataclass(frozen=True)
class RoundSchedule:
    """Schedule of each round that a budget buys, in evaluations at the cost of the base's answers.

    Attributes:
        rounds: Number of rounds.
        population: Number of candidates.
        examples: Number of support examples that score each candidate.
        search: Evaluations for the search.
        questions: Number of support questions that are voted on.
        vote: Evaluations for the voters' answers to them.
        training: Schedule of the training.
    """

    rounds: int
    population: int
    examples: int
    search: int
    questions: int
    vote: int
    training: TrainingSchedule

    @property
    def evaluations(self) -> int:
        """Evaluations of a round."""
        return self.search + self.vote + self.training.train


class IterativeRandOpt(Sft):
    """Fine-tune one model on the votes of the best random perturbations, and search around it again."""

    name = "iterative-randopt"
    version = "1"
    Config: ClassVar[type[TrainingConfig]] = IterativeRandOptConfig
    config: IterativeRandOptConfig
    what = "voted answers"
    space: ClassVar[Space] = {**Sft.space, "sigma": Dimension(1e-4, 3e-2)}
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = ({"rounds": 2, "voters": 2, "lr": 1e-3, "lora": {"rank": 2}},)

    def supports(self, task: TaskTraits) -> str | None:
        """Return a reason if the task's answers do not vote, else None."""
        return None if task.vote_by is not None else "it trains on voted answers, and the task has no vote key"

    def rounds(self, evaluations: int, task: TaskTraits) -> RoundSchedule:
        """Return the schedule for a budget.

        Half of a round's budget at most is for the votes and the training, which grow with the number of questions. The
        search has the rest. As for `randopt`, it has about as many candidates as examples.

        Raises:
            Refused: If the budget does not buy one round.
        """
        config, support = self.config, task.sizes["support"]
        question = config.voters + config.epochs * UPDATE
        examples = min(MIN_EXAMPLES, config.examples, support)
        least = 2 * max((config.voters + 1) * examples, math.ceil(min(MIN_QUESTIONS, support) * question))
        rounds = min(config.rounds, evaluations // least)
        if rounds < 1:
            raise Refused(
                f"iterative-randopt cannot use a budget of {evaluations} evaluations: a round with {config.voters} "
                f"voters and {config.epochs:g} epochs takes {least} or more; give it that, or fewer voters"
            )
        each = evaluations // rounds
        questions = min(support, int(each / 2 / question))
        vote, train = questions * config.voters, int(questions * config.epochs * UPDATE)
        search = each - vote - train
        examples = min(max(balanced_examples(search), MIN_EXAMPLES), config.examples, support)
        examples = min(examples, search // (config.voters + 1))  # a choice needs more candidates than voters
        multiple = math.lcm(self.multiple, self.processes)
        schedule = partial(make_schedule, batch=self.batch, multiple=multiple, cost=self.cost)
        try:
            whole = schedule(rounds * train, config)  # whose batch gives enough steps over all rounds
            training = schedule(train, config.model_copy(update={"batch": whole.batch}))
        except Refused as error:
            raise Refused(f"a round trains on {questions} questions: {error}") from error
        return RoundSchedule(rounds, search // examples, examples, search, questions, vote, training)

    def plan(self, evaluations: int, task: TaskTraits) -> Plan:
        """Return the rounds that this budget buys."""
        schedule, config = self.rounds(evaluations, task), self.config
        rounds, training = schedule.rounds, schedule.training
        lines = (
            PlanLine(
                "sample",
                f"{rounds} x about {schedule.population} candidates on {schedule.examples} support examples",
                rounds * schedule.search,
            ),
            PlanLine(
                "sample",
                f"{rounds} x answers of the best {config.voters} to {schedule.questions} support questions",
                rounds * schedule.vote,
            ),
            PlanLine(
                "train",
                f"{rounds} x about {training.steps} steps of {training.batch} {self.what}",
                rounds * training.train,
            ),
        )
        notes = ["votes are not compared with reference answers; the last round's model is the result"]
        if rounds < config.rounds:
            notes.append(f"the budget is too small for {config.rounds} rounds; it buys {rounds}")
        reach = self._reach(training)
        return Plan(lines, tuple(notes), reach=None if reach is None else rounds * reach)

    def adapt(self, context: Context) -> Artifact:
        """Run the planned rounds; return the model after the last one."""
        schedule = self.rounds(round(context.budget / context.evaluation_flops), context.task)
        found: list[dict[str, Any]] = []
        context.report.update(schedule=asdict(schedule), sigma=self.config.sigma, rounds=found)
        place: Place = Point()
        for number in range(schedule.rounds):
            found.append({})
            place = self._round(context, schedule, number, place, found[-1])
        return SingleModel(place)

    def _round(
        self, context: Context, schedule: RoundSchedule, number: int, place: Place, record: dict[str, Any]
    ) -> Place:
        """Run a round from a place, and return the place that it leads to: the same if nothing could be trained on."""
        share = context.remaining // (schedule.rounds - number)
        kept = context.remaining - share  # for later rounds
        search, train = (share * part // schedule.evaluations for part in (schedule.search, schedule.training.train))
        voters = self._search(context, schedule, number, place, search, record)
        questions = _turn(number, schedule.questions, context.task.sizes["support"])
        answers: list[Answers] = []
        context.prepare(voters, "support", examples=questions, scored=False)
        with context.stage(f"votes of round {number + 1}", len(voters)) as stage:
            for voter in voters:
                allowance = context.remaining - kept - train
                given = context.answer(voter, "support", account="sample", examples=questions, allowance=allowance)
                if not given.complete:
                    break
                answers.append(given)
                stage.advance()
        if not answers:
            record["ended"] = "no voter could answer within the round's share of the budget"
            return place
        texts = [given.texts for given in answers]
        ballots = ask_once(partial(context.votes, "support"), questions, texts)
        rows = voted(answers, ballots)
        truncated = sum(map(sum, (given.truncated for given in answers)))
        counts = {"questions": len(questions), "answers": len(rows), "truncated": truncated}
        record["vote"] = elect(texts, ballots)[1] | counts
        if not rows:
            unvoted = record["vote"]["nobody_voted"] == len(questions)
            record["ended"] = "nobody voted on any question" if unvoted else "every winning answer was cut off"
            return place

        def distil(loop: Loop, folder: str) -> None:
            from methods.training.tuner import Tuner, example

            prompts = [loop.training.prompts[index] for index in questions]
            examples = [example(prompts[question].token_ids, answer) for question, answer in rows]
            batch = loop.schedule.batch
            order = endless_order(loop.seed, len(examples), loop.step * batch)
            Tuner(
                self.config, loop, folder, examples=lambda: [examples[index] for index in islice(order, batch)]
            ).train()

        start = place if isinstance(place, Checkpoint) else None
        checkpoint = self.fit(context, context.remaining - kept, schedule.training, distil, start)
        record["training"] = context.report["training"]
        return checkpoint

    def _search(
        self, context: Context, schedule: RoundSchedule, number: int, place: Place, budget: int, record: dict[str, Any]
    ) -> list[Place]:
        """Return the best candidates around a place, best first."""
        seed = context.seed if number == 0 else derive(context.seed, self.name, "round", number)
        population = score_population(
            context,
            f"search of round {number + 1}",
            partial(perturbation, seed, (self.config.sigma,)),
            "support",
            _turn(number, schedule.examples, context.task.sizes["support"]),
            budget=budget,
            place=place.step,
        )
        scores = np.array([candidate.evaluation.reward for candidate in population])
        record["scores"] = [None if math.isnan(score) else float(score) for score in scores]
        record["voters"] = ranking(scores)[: self.config.voters].tolist()
        return [place.step(population[index].displacement) for index in record["voters"]]


def voted(answers: Sequence[Answers], ballots: Sequence[Sequence[Vote | None]]) -> list[tuple[int, tuple[int, ...]]]:
    """Return the token ids of the answer that won each question, with the question's index.

    It is the answer of the best-ranked voter among those that gave the winning vote and were not cut off. A question on
    which nobody voted, or without such an answer, is left out. A tie goes to the vote that the best-ranked voter gave
    first.

    Args:
        answers: Answers of each voter, voters by descending rank.
        ballots: Vote of each answer, [voters, questions]; None for an answer without a vote.
    """
    rows: list[tuple[int, tuple[int, ...]]] = []
    for question, column in enumerate(zip(*ballots, strict=True)):
        won = column[plurality(column).winner]
        given = (each for each, vote in zip(answers, column, strict=True) if vote is not None and vote == won)
        rows += [(question, each.token_ids[question]) for each in given if not each.truncated[question]][:1]
    return rows


def _turn(number: int, size: int, support: int) -> range:
    """Return the indices of a round's support examples. Rounds use disjoint parts of the split in turn."""
    start = number % (support // size) * size
    return range(start, start + size)
