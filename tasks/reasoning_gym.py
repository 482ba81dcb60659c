"""The generators of reasoning-gym as tasks `rg:<generator>`, each with the library's own scorer. For rg:leg_counting:

    Row:     {"question": "Your task is to count how many legs there are in total when given a list of animals. ...",
             "answer": "414", "index": 655}
    Prompt:  Your task is to count how many legs there are in total when given a list of animals. Now, how many legs
             are there in total if you have 11 snakes, 9 ants, 2 elephants, 1 sea slug, ...
             Give the final answer, and nothing else, between <answer> and </answer>.
    Answer:  <answer>414</answer>

Stojanovski et al. 2025, "Reasoning Gym" (arXiv 2505.24760). Apache 2.0. Examples are drawn with the generator's default
settings and a fixed seed. They depend on the version of the library; the record has their hash. A generator is refused
if its scorer can only run answers as Python code: see `tasks.reasoning_gym_worker`.
"""

from __future__ import annotations

from pathlib import Path

from bench.errors import BenchError, UsageError
from tasks import reasoning_gym_worker
from tasks.interface import DEFAULT_PROMPT, Example, Message, PromptStyle, Score, Splits, Task, Vote
from tasks.process import TooSlow, Unanswerable
from tasks.splitting import cut_one_file, text_id

SIZES = {"support": 200, "select": 100, "gate": 200}

FORM = "Give the final answer, and nothing else, between <answer> and </answer>."
PROMPTS = {
    DEFAULT_PROMPT: "{question}\n\nThink step by step. " + FORM,
    "direct": "{question}\n\nDo not explain. " + FORM,
    "first": FORM + " Think step by step before.\n\n{question}",
}


class ReasoningGym(Task):
    """Reward from the generator's scorer, in [0, 1]. Only a reward of 1.0 counts as correct.

    Args:
        generator: Name of the generator in the library.
    """

    name = "rg"
    version = "3"
    max_new_tokens = 1024
    expected_new_tokens = 250
    prompts = tuple(PROMPTS)
    vote_by = "the text of the answer"

    def __init__(self, generator: str) -> None:
        self.generator = generator
        self.name = f"rg:{generator}"

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 100 select, 200 gate and 500 test examples.

        Repeated questions count once. If fewer than 1000 remain, all splits shrink.
        """
        if data is not None:
            raise UsageError(f"--data {data}: the task {self.name} is generated and takes no file; leave out --data")
        try:
            rows = reasoning_gym_worker.draw(self.generator)
        except Unanswerable as error:
            raise UsageError(f"--task {self.name}: {error}") from error
        except TooSlow as error:
            raise BenchError(
                f"{self.name}: drawing {reasoning_gym_worker.DRAWN} examples takes {error}; use another generator"
            ) from error
        # If a question is drawn several times, the first draw is kept.
        examples = {text_id(row["question"]): row for row in reversed(rows)}
        return cut_one_file(
            [Example(*item) for item in examples.items()], self.name, salt=f"{self.name}-1", content=None, **SIZES
        )

    def content(self, example: Example) -> str:
        """Return the question."""
        return str(example.fields["question"])

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Return the question with a request for an answer between tags."""
        return [{"role": "user", "content": PROMPTS[prompt].format(question=example.fields["question"])}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the question and the opening answer tag. All prompts give the same completion."""
        return f"{example.fields['question']}\n\n<answer>"

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """End a completion after its answer. A chat model may mention the tags before it uses them, so chats go on."""
        return ("</answer>",) if style == "completion" else ()

    def score(self, example: Example, text: str) -> Score:
        """Score the text after the last opening answer tag, up to the closing tag; without tags, the whole text."""
        answer = _answer(text)
        if answer is None:
            return Score(0.0, False, status="no_answer", detail="no answer, or too long a one")
        try:
            reward = reasoning_gym_worker.score(self.generator, example.fields["index"], example.id, answer)
        except TooSlow as error:
            return Score(0.0, False, answer, status="timeout", detail=f"scoring it took {error}")
        except Unanswerable as error:
            raise BenchError(f"{self.name}: {error}") from error
        return Score(reward, reward == 1.0, answer)

    def gold(self, example: Example) -> str | None:
        """Return the library's answer between tags; None for a generator without reference answers."""
        answer = example.fields["answer"]
        return None if answer is None else f"<answer>{answer}</answer>"

    def category(self, example: Example) -> str:
        """Return the name of the generator."""
        return self.generator

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the text of the answer as the vote."""
        answer = _answer(text)
        return None if answer is None else Vote(answer)


def _answer(text: str) -> str | None:
    _, _, answer = text.rpartition("<answer>")
    return reasoning_gym_worker.final(answer.partition("</answer>")[0])
