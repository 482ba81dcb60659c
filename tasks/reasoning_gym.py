"""The generators of reasoning-gym as tasks `rg:<generator>`, each with its own scorer.

Stojanovski et al. 2025, "Reasoning Gym" (arXiv 2505.24760). Apache 2.0. Examples are drawn with the generator's default
settings and a fixed seed; they are a function of the library's version, and the record has their hash. A generator is
refused whose scorer can do nothing but run an answer as Python: see `tasks.gym`.
"""

from __future__ import annotations

from pathlib import Path

from bench.errors import BenchError, UsageError
from tasks import gym
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
    """Right is what the generator's scorer gives 1.0; less than that is reward and nothing more.

    Args:
        generator: The library's name for it.
    """

    name = "rg"
    version = "2"
    max_new_tokens = 1024
    expected_new_tokens = 250
    prompts = tuple(PROMPTS)
    vote_by = "the text of the answer"

    def __init__(self, generator: str) -> None:
        self.generator = generator
        self.name = f"rg:{generator}"

    def load(self, data: Path | None = None) -> Splits:
        """Return 200 support, 100 select, 200 gate and 500 test examples.

        Questions that are drawn again count once; where they leave fewer than 1000, all splits shrink.
        """
        if data is not None:
            raise UsageError(f"--data {data}: the task {self.name} is generated and takes no file")
        try:
            rows = gym.draw(self.generator)
        except Unanswerable as error:
            raise UsageError(f"--task {self.name}: {error}") from error
        except TooSlow as error:
            raise BenchError(
                f"{self.name}: drawing {gym.DRAWN} examples takes {error}; use another generator"
            ) from error
        # Of draws with the same question, the first.
        examples = {text_id(row["question"]): row for row in reversed(rows)}
        return cut_one_file([Example(*item) for item in examples.items()], self.name, salt=f"{self.name}-1", **SIZES)

    def messages(self, example: Example, prompt: str = DEFAULT_PROMPT) -> list[Message]:
        """Ask the question, and for the answer between tags."""
        return [{"role": "user", "content": PROMPTS[prompt].format(question=example.fields["question"])}]

    def completion(self, example: Example, prompt: str = DEFAULT_PROMPT) -> str:
        """Return the question up to the opening tag of its answer; all prompts are one to a model that is not asked."""
        return f"{example.fields['question']}\n\n<answer>"

    def stop(self, style: PromptStyle) -> tuple[str, ...]:
        """End with the answer where one was begun; a chat model may name the tags before it uses them."""
        return ("</answer>",) if style == "completion" else ()

    def score(self, example: Example, text: str) -> Score:
        """Score what stands between the last tags, if need be unclosed; without tags, all of the text."""
        answer = _answer(text)
        if answer is None:
            return Score(0.0, False, status="no_answer", detail="no answer, or too long a one")
        try:
            reward = gym.score(self.generator, example.fields["index"], example.id, answer)
        except TooSlow as error:
            return Score(0.0, False, answer, status="timeout", detail=f"scoring it took {error}")
        except Unanswerable as error:
            raise BenchError(f"{self.name}: {error}") from error
        return Score(reward, reward == 1.0, answer)

    def gold(self, example: Example) -> str | None:
        """Return the library's answer between tags; some generators have a scorer alone."""
        answer = example.fields["answer"]
        return None if answer is None else f"<answer>{answer}</answer>"

    def vote_key(self, example: Example, text: str) -> Vote | None:
        """Return the text of the answer."""
        answer = _answer(text)
        return None if answer is None else Vote(answer)


def _answer(text: str) -> str | None:
    _, _, answer = text.rpartition("<answer>")
    return gym.final(answer.partition("</answer>")[0])
