"""Tokenizer side of an engine: prompts to token ids, token ids to text, and the end of an answer."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bench.engines.decoding import StopStrings
from bench.engines.interface import Finish, Sampling, TokenIds
from tasks.interface import Message, PromptStyle


class CheckpointTokenizer:
    """Tokenizer of a checkpoint, shared by all engines. Loads no weights, except for a trainable copy.

    Args:
        model: Folder that `AutoTokenizer.from_pretrained` opens.
        device: Torch device of a trainable copy.
    """

    settings: dict[str, str | int]

    def __init__(self, model: str, device: str) -> None:
        self._folder, self._device = model, device
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._ends = _end_ids(model, self._tokenizer)

    @property
    def style(self) -> PromptStyle:
        """`chat` if the tokenizer has a chat template, else `completion`."""
        return "chat" if self._tokenizer.chat_template else "completion"

    def encode(self, prompt: list[Message] | str) -> TokenIds:
        """Return the token ids of a conversation, formatted with the chat template, or of a plain text.

        Plain text gets the special tokens that the tokenizer adds by default.
        """
        if isinstance(prompt, str):
            return tuple(self._tokenizer(prompt)["input_ids"])
        encoded = self._tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        return tuple(encoded["input_ids"])

    def trainable(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Return a trainable float32 copy of the base model, and a copy of the tokenizer."""
        model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=self.settings["dtype"])
        return model.float().to(self._device).train(), AutoTokenizer.from_pretrained(self._folder)

    def ending(self, generated: Sequence[int], sampling: Sampling) -> Finish | None:
        """Return the reason if the newest token ends the answer, else None."""
        return self._finish(generated, StopStrings(sampling.stop, self._text), sampling)

    def text(self, generated: Sequence[int], sampling: Sampling) -> str:
        """Return an answer's text without special tokens, cut before a stop string."""
        return StopStrings(sampling.stop, self._text).cut(self._text(generated))

    def _finish(self, generated: Sequence[int], stop: StopStrings, sampling: Sampling) -> Finish | None:
        if generated[-1] in self._ends:
            return "end"
        if stop.ended(generated):
            return "stop"
        return "length" if len(generated) == sampling.max_new_tokens else None

    def _text(self, token_ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


def _end_ids(model: str, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids that end an answer: those of the generation config, and the tokenizer's own."""
    try:
        generation = GenerationConfig.from_pretrained(model)
    except OSError:  # the checkpoint has no generation config
        generation = GenerationConfig.from_model_config(AutoConfig.from_pretrained(model))
    named = generation.eos_token_id
    ids = set(named) if isinstance(named, (list, tuple)) else {named}
    return frozenset(i for i in ids | {tokenizer.eos_token_id} if i is not None)
