"""The text side of a checkpoint: prompts to token ids, token ids to answers, and where an answer ends."""

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
    """What engines have in common: the checkpoint's tokenizer, and nothing of its weights but a copy to train.

    Args:
        model: Folder that `AutoTokenizer.from_pretrained` opens.
        device: Where a copy to train is put, as torch names it.
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
        """Return token ids by the tokenizer's own template, or of a plain text with the ids it adds by itself."""
        if isinstance(prompt, str):
            return tuple(self._tokenizer(prompt)["input_ids"])
        encoded = self._tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        return tuple(encoded["input_ids"])

    def trainable(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Return a copy of the base in float32 that can be trained, and one of the tokenizer."""
        model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=self.settings["dtype"])
        return model.float().to(self._device).train(), AutoTokenizer.from_pretrained(self._folder)

    def ending(self, generated: Sequence[int], sampling: Sampling) -> Finish | None:
        """Return why an answer ends with the newest of its tokens, or None if it goes on."""
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
    """The ids that end an answer: what the checkpoint's generation config names, and the tokenizer's own."""
    try:
        generation = GenerationConfig.from_pretrained(model)
    except OSError:  # it has none
        generation = GenerationConfig.from_model_config(AutoConfig.from_pretrained(model))
    named = generation.eos_token_id
    ids = set(named) if isinstance(named, (list, tuple)) else {named}
    return frozenset(i for i in ids | {tokenizer.eos_token_id} if i is not None)
