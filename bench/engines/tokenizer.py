"""Tokenizer side of an engine: prompts to token ids, token ids to text, and the end of an answer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, overload

from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.engines.decoding import StopStrings
from bench.engines.interface import Finish, Sampling, TokenIds
from bench.errors import Refused, UsageError
from bench.models.opening import (
    open_generation_config,
    open_model,
    open_tokenizer,
    takes_system_message,
    unformatted,
)
from bench.models.rendering import TemplateLimit
from bench.models.template import template_file
from bench.models.thinking import Think, differ, fix, switch
from tasks.interface import EndRule, Message, PromptStyle
from tasks.thoughts import answer_start, closing_of, closings_in, delimiters_in, opening_of

QUESTION, THOUGHT, ANSWER = "Mongolia's capital?", "Is it Darkhan?", "Ulan Bator"
"""Turns that show what a chat template writes around them."""
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Names under which chat templates read the thought of an assistant's turn."""


class CheckpointTokenizer:
    """Tokenizer of a checkpoint, shared by all engines. Loads no weights, except for a trainable copy.

    Args:
        model: Checkpoint folder.
        device: Torch device of a trainable copy.
        think: Whether chat prompts ask for a thought.
        prompt: Prompt style of the run. Texts to complete open no thought, whatever the chat template does.

    Raises:
        UsageError: If the chat template takes no argument that says so.
    """

    settings: dict[str, str | int]

    def __init__(
        self, model: str, device: str, think: Think = "auto", prompt: PromptStyle | Literal["auto"] = "auto"
    ) -> None:
        self._folder, self._device = Path(model), device
        self._tokenizer = open_tokenizer(self._folder)
        self._switch = switch(self._folder, self._tokenizer, think)
        self._think, self._prompt = think, prompt
        self._unswitched: dict[tuple[tuple[str, str], ...], str | None] = {}
        self._thought_ends: dict[str, TokenIds] = {}
        self._ends = _end_ids(self._folder, self._tokenizer) | self._turn_end()
        self._kept = self._special_delimiters()

    @property
    def style(self) -> PromptStyle:
        """`chat` if the tokenizer has a chat template, else `completion`."""
        return "chat" if self._tokenizer.chat_template else "completion"

    @cached_property
    def takes_system_message(self) -> bool:
        """Whether the chat template writes a system message."""
        try:
            return takes_system_message(self._tokenizer)
        except TemplateLimit as error:
            raise UsageError(unformatted(self._folder, error)) from error

    @overload
    def as_sent(self, prompt: list[Message]) -> list[Message]: ...

    @overload
    def as_sent(self, prompt: list[Message] | str) -> list[Message] | str: ...

    def as_sent(self, prompt: list[Message] | str) -> list[Message] | str:
        """Return a conversation with its system message in the user's turn if the chat template has no place for it.

        The message's text then stands before the text of the first user's turn, with an empty line between.
        """
        if isinstance(prompt, str):
            return prompt
        system = list(takewhile(lambda message: message["role"] == "system", prompt))
        turns = prompt[len(system) :]
        if not system or not turns or turns[0]["role"] != "user" or self.takes_system_message:
            return prompt
        text = "\n\n".join(message["content"] for message in (*system, turns[0]))
        return [{**turns[0], "content": text}, *turns[1:]]

    def encode(self, prompt: list[Message] | str) -> TokenIds:
        """Return the token ids of a conversation, formatted with the chat template, or of a plain text.

        A conversation is formatted as `as_sent` returns it. Plain text gets the special tokens that the tokenizer adds
        by default, except an end of sequence behind it: the answer continues the text.

        Raises:
            Refused: If the chat template does not take the conversation, such as one with two turns of the user, or one
                with a system message in another place than before the first. Also if its prompt is the same with a
                thought and without, and it was said which is asked for.
        """
        if isinstance(prompt, str):
            token_ids: list[int] = self._tokenizer(prompt)["input_ids"]
            return tuple(token_ids[: len(token_ids) - self._appended])
        sent, roles = self.as_sent(prompt), ", ".join(message["role"] for message in prompt)
        if any(message["role"] == "system" for message in sent) and not self.takes_system_message:
            raise Refused(
                f"a conversation of {roles}: {template_file(self._folder)}: the chat template has no place for a "
                "system message, and this one does not stand before a user's; put its text into a user's message"
            )
        try:
            encoded = self._tokenizer.apply_chat_template(
                sent, add_generation_prompt=True, tokenize=True, return_dict=True, **self._switch
            )
        except Exception as error:  # a template is a program and may raise anything
            raise Refused(f"a conversation of {roles}: {unformatted(self._folder, error)}") from error
        if reason := self.unswitched(prompt):
            raise Refused(reason)
        return tuple(encoded["input_ids"])

    def unswitched(self, conversation: list[Message]) -> str | None:
        """Return why a conversation's prompt does not follow what was said about thoughts; None if it does.

        One conversation of each sequence of roles and system messages is formatted with a thought and without.
        """
        if not (name := next(iter(self._switch), None)):
            return None
        sent = self.as_sent(conversation)
        kind = tuple((each["role"], each["content"] if each["role"] == "system" else "") for each in sent)
        if kind not in self._unswitched:
            roles = ", ".join(message["role"] for message in conversation)
            self._unswitched[kind] = (
                f"--think {self._think}: {template_file(self._folder)}: of a conversation of {roles}, the chat "
                f"template makes the same prompt whatever {name} is; take --think auto, or no system message"
                if differ(self._folder, self._tokenizer, name, sent) is False
                else None
            )
        return self._unswitched[kind]

    def length(self, text: str) -> int:
        """Return the number of tokens of a text alone, without special tokens."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def unknown(self, prompt: TokenIds) -> int:
        """Return how many tokens of a prompt stand for text that the tokenizer has no token for."""
        return prompt.count(self._tokenizer.unk_token_id) if self._tokenizer.unk_token_id is not None else 0

    def trainable(self, folder: Path | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Return a trainable float32 copy of the base model, and a copy of the tokenizer that encodes as `encode`.

        Args:
            folder: Checkpoint folder of another model, to return that one and its own tokenizer; None for the base.
        """
        model = open_model(folder or self._folder, self.settings["dtype"])
        tokenizer = _without_end(open_tokenizer(folder or self._folder))
        if self._switch and folder is None:
            tokenizer.chat_template = fix(tokenizer.get_chat_template(), self._switch)
        return model.float().to(self._device).train(), tokenizer

    def ending(self, generated: Sequence[int], sampling: Sampling, rule: EndRule | None = None) -> Finish | None:
        """Return the reason if the newest token ends the answer, else None."""
        return self._finish(generated, self._stop_strings(sampling), sampling, rule)

    def text(self, generated: Sequence[int], sampling: Sampling) -> str:
        """Return an answer's text without special tokens, cut before a stop string.

        Delimiters of thoughts stay, as does the one that the prompt ends with. So the text alone says where a thought
        ends and the answer begins.
        """
        ended = bool(generated) and generated[-1] in self._ends
        text = self._text(generated[:-1] if ended else generated)
        return self._opening + self._stop_strings(sampling).cut(text)

    @property
    def longest_thought_end(self) -> int | None:
        """Number of tokens that end a thought, at most; None if the chat template writes no delimiter of thoughts.

        Raises:
            UsageError: If what ends a thought also ends an answer.
        """
        kinds = {closing for each in self._templates for closing in closings_in(each)}
        return max((len(self._thought_end(closing)) for closing in kinds), default=None)

    def thought_tokens(self, generated: Sequence[int]) -> int:
        """Return how many tokens of an answer are those of its thought, with the delimiters; 0 without a thought."""
        start = answer_start(self._opening + self._text(generated))
        if start is None:
            return len(generated)
        behind = start - len(self._opening)
        return bisect_left(range(len(generated)), behind, key=lambda n: len(self._text(generated[:n]))) if start else 0

    def _end_of_thought(self, generated: Sequence[int]) -> TokenIds:
        """Return the tokens that end the thought that an answer is in; none if it is in no thought."""
        closing = closing_of(self._opening + self._text(generated))
        return () if closing is None else self._thought_end(closing)

    def _thought_end(self, closing: str) -> TokenIds:
        """Return the tokens of a closing delimiter with what the chat template writes around it: line breaks, mostly.

        Where it shows that in no turn, the delimiter stands on a line of its own, with an empty line behind it.

        Raises:
            UsageError: If the delimiter holds a token that ends an answer.
        """
        if closing not in self._thought_ends:
            turn: Any = {"role": "assistant", "content": ANSWER, **dict.fromkeys(THOUGHTS, THOUGHT)}
            _, _, behind = self._rendered(turn).rpartition(THOUGHT)
            written, found, _ = behind.partition(ANSWER)
            texts = [*([written] if found and closing in written else []), f"\n{closing}\n\n"]
            tokens = [tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
            # A template that writes the thought as a turn of its own ends it by a token that ends an answer.
            fitting = [each for each in tokens if not self._ends.intersection(each)]
            if not fitting:
                ends = next(self._tokenizer.decode([i]) for i in tokens[-1] if i in self._ends)
                raise UsageError(
                    f"{template_file(self._folder)}: a thought cannot be ended by {closing}, as answers end at {ends}; "
                    "leave out --max-think-tokens, or correct the chat template or generation_config.json"
                )
            self._thought_ends[closing] = fitting[0]
        return self._thought_ends[closing]

    def _stop_strings(self, sampling: Sampling) -> StopStrings:
        return StopStrings(sampling.stop, self._text, self._opening)

    def _finish(
        self, generated: Sequence[int], stop: StopStrings, sampling: Sampling, rule: EndRule | None
    ) -> Finish | None:
        if generated[-1] in self._ends:
            return "end"
        if stop.ended(generated, rule):
            return "stop"
        return "length" if len(generated) == sampling.max_new_tokens else None

    def _text(self, token_ids: Sequence[int]) -> str:
        if self._kept:
            token_ids = [i for i in token_ids if i in self._kept or i not in self._special]
        text: str = self._tokenizer.decode(
            token_ids, skip_special_tokens=not self._kept, clean_up_tokenization_spaces=False
        )
        return text

    @cached_property
    def _appended(self) -> int:
        """Number of ends of sequence that the tokenizer puts behind a text."""
        return len(_added(self._tokenizer)[1])

    @cached_property
    def _opening(self) -> str:
        """Delimiter of a thought that the prompt for an answer ends with; empty if it has none."""
        if self._prompt == "completion":
            return ""
        return opening_of(self._rendered(add_generation_prompt=True))

    @cached_property
    def _special(self) -> dict[int, str]:
        """Special tokens by id."""
        return {i: token.content for i, token in self._tokenizer.added_tokens_decoder.items() if token.special}

    @property
    def _templates(self) -> list[str]:
        """Chat templates of the tokenizer, which may have several by name."""
        template = self._tokenizer.chat_template or ""
        return list(template.values()) if isinstance(template, dict) else [template]

    def _special_delimiters(self) -> frozenset[int]:
        """Return the ids of special tokens with which the chat template delimits thoughts."""
        delimiters = {delimiter for each in self._templates for delimiter in delimiters_in(each)}
        return frozenset(i for i, token in self._special.items() if any(token in each for each in delimiters))

    def _turn_end(self) -> frozenset[int]:
        """Return the id that the chat template ends an assistant's turn with, as a set; empty if it has none.

        A base model's own end of sequence can be another one. Its answers would run on into an invented user's turn.
        """
        _, found, after = self._rendered({"role": "assistant", "content": ANSWER}).rpartition(ANSWER)
        after = after.lstrip() if found else ""
        added = self._tokenizer.added_tokens_decoder.items()
        fitting = [(len(token.content), i) for i, token in added if after.startswith(token.content)]
        return frozenset({max(fitting)[1]} if fitting else ())

    def _rendered(self, *turns: Message, add_generation_prompt: bool = False) -> str:
        """Return a conversation in the chat template; empty if it has none, or if it takes no such conversation."""
        conversation = [{"role": "user", "content": QUESTION}, *turns]
        if self.style == "completion":
            return ""
        try:
            text: str = self._tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=add_generation_prompt, **self._switch
            )
        except TemplateLimit as error:
            raise UsageError(unformatted(self._folder, error)) from error
        except Exception:  # a template raises what it likes; one that also fails on prompts is reported there
            return ""
        return text


def _added(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer puts before a text, and the ends of sequence behind it."""
    ids: list[int] = tokenizer(ANSWER)["input_ids"]
    alone: list[int] = tokenizer(ANSWER, add_special_tokens=False)["input_ids"]
    ends = 0
    while ends < len(ids) and ids[-1 - ends] == tokenizer.eos_token_id:
        ends += 1
    return ids[: max(0, len(ids) - len(alone) - ends)], ids[len(ids) - ends :]


def _without_end(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Make a tokenizer put no end of sequence behind a text."""
    before, ends = _added(tokenizer)
    if ends:
        tokens = tokenizer.convert_ids_to_tokens(before)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=[*tokens, "$A"], special_tokens=list(zip(tokens, before, strict=True))
        )
    return tokenizer


def _end_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids that end an answer: those of the generation config, and the tokenizer's own."""
    named = open_generation_config(folder).eos_token_id
    ids = set(named) if isinstance(named, (list, tuple)) else {named}
    return frozenset(i for i in ids | {tokenizer.eos_token_id} if i is not None)
