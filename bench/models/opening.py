"""Opening of a checkpoint folder with transformers. No code of a folder runs, and nothing is fetched or asked for.

`check_opens` finds out without the weights' values whether a folder can be opened: it lets transformers load tensors on
the meta device, which have the names and shapes of the stored ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from bench.errors import UsageError, shown
from bench.models.checkpoint import json_object, loaded_files
from bench.models.folder import check_files
from bench.models.headers import FLOATS, Header, read_headers
from bench.models.load_report import check_loaded, check_tied, refuse_unmerged, without
from bench.models.multimodal import (
    check_same_text,
    first_logits,
    is_multimodal,
    keeps_whole,
    loaded_class,
    loader,
    of_towers,
    text_model,
)
from bench.models.rendering import TemplateLimit, use_limits
from bench.models.template import PROBE, accept_text, check_not_random, processor_template, template_file
from bench.plain import sentence
from tasks.interface import PromptStyle

SAFE = {"trust_remote_code": False, "local_files_only": True}
VOCABULARIES = ("tokenizer.*", "vocab.*", "*.model", "*.tiktoken", "tekken.json")
"""Patterns of the files that hold a vocabulary."""
LONGEST_REASON = 300

Opened = TypeVar("Opened")


@cache
def check_opens(folder: Path, fingerprint: str, prompt: PromptStyle | Literal["auto"] = "auto") -> None:
    """Check that transformers can open a folder: every weight is there and no other, and the tokenizer fits.

    Args:
        folder: Checkpoint folder.
        fingerprint: Hash of its files. A folder whose files have not changed is checked once per process.
        prompt: Prompt style of the run. The chat template is checked unless it is `completion`.

    Raises:
        UsageError: If it cannot. The message names the file and the remedy.
    """
    use_limits()
    config = open_config(folder)
    rows = _check_weights(folder, config)
    tokenizer = open_tokenizer(folder)
    _check_vocabulary(folder, tokenizer, rows)
    if tokenizer.chat_template and prompt != "completion":
        check_not_random(folder)
        _check_template(folder, tokenizer)
    elif prompt == "chat":
        raise UsageError(
            f"--prompt chat: {folder} holds no chat template; copy chat_template.jinja from the model that this one "
            "was made from, or use --prompt completion"
        )


def open_config(folder: Path) -> PreTrainedConfig:
    """Return a folder's configuration.

    Raises:
        UsageError: If it is not that of a causal language model that is part of transformers.
    """
    file = folder / "config.json"
    return config_of(json_object(file), str(file), lambda: AutoConfig.from_pretrained(folder, **SAFE))


def config_of(
    given: dict[str, Any], file: str, opened: Callable[[], PreTrainedConfig] | None = None
) -> PreTrainedConfig:
    """Return the configuration that the content of a config.json gives.

    Args:
        given: The content.
        file: Where it comes from, for messages.
        opened: Function that opens the configuration; None to make it from the content.

    Raises:
        UsageError: If it is not that of a causal language model that is part of transformers.
    """
    kind = given.get("model_type")
    if kind not in CONFIG_MAPPING:
        if "auto_map" in given:
            raise UsageError(
                f"{file}: the model type {shown(kind)} needs the code of the folder (auto_map), and no such code is "
                "run; use a model whose architecture is part of transformers"
            )
        raise UsageError(
            f"{file}: transformers {transformers.__version__} has no model type {shown(kind)}; a later release may have"
        )
    made = opened or (lambda: CONFIG_MAPPING[kind].from_dict(given))
    config: PreTrainedConfig = _explained(made, f"{file}: cannot be used", "correct the file")
    if loaded_class(config) is None:
        raise UsageError(f"{file}: {kind} is not a causal language model; use one that continues a text")
    return config


def open_model(folder: Path, dtype: Any) -> PreTrainedModel:
    """Return the model of a folder on the CPU: of a multimodal checkpoint, its text model.

    Args:
        folder: Checkpoint folder.
        dtype: Dtype of the weights, as `AutoModelForCausalLM.from_pretrained` takes it.

    Raises:
        UsageError: If the folder does not hold exactly the model's weights, or a multimodal model's text model answers
            a text otherwise than the whole model.
    """
    check_files(folder)
    whole, loaded = _open_whole(folder, dtype)
    name, expected = type(whole).__name__, whole.state_dict()
    if not is_multimodal(whole.config):
        check_loaded(folder, name, loaded, expected)
        return text_model(whole)[0]
    try:
        logits = first_logits(whole)
        model, left_out = text_model(whole)
        check_same_text(model, logits)
    except UsageError as error:
        raise UsageError(f"{folder}: {error}") from error
    check_loaded(folder, name, without(loaded, left_out), expected)
    return model


def open_whole(folder: Path, dtype: Any) -> PreTrainedModel:
    """Return the model of a folder on the CPU with everything in it: of a multimodal checkpoint, the towers too.

    Args:
        folder: Checkpoint folder.
        dtype: As in `open_model`.

    Raises:
        UsageError: If the folder does not hold exactly the model's weights.
    """
    check_files(folder)
    whole, loaded = _open_whole(folder, dtype)
    check_loaded(folder, type(whole).__name__, loaded, whole.state_dict())
    return whole


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write a model that `open_model` returned as a checkpoint which transformers opens, and `open_model` too.

    A multimodal model without its other towers is written with them, as they are in the folder that it came from.
    """
    if keeps_whole(model):
        whole, _ = _open_whole(Path(model.name_or_path), model.dtype)
        whole.load_state_dict(model.state_dict(), strict=False, assign=True)
        whole.tie_weights()
        model = whole
    model.save_pretrained(folder)


def _open_whole(folder: Path, dtype: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Return the model of a folder with everything in it, and the report of the load."""
    config = open_config(folder)
    model_class, own_config = loader(config)
    model: PreTrainedModel
    try:
        model, loaded = model_class.from_pretrained(
            folder, config=own_config, dtype=dtype, use_safetensors=True, output_loading_info=True, **SAFE
        )
    except RuntimeError as error:
        refuse_unmerged(folder, error)
        raise
    except SafetensorError as error:
        reason = sentence(str(error))
        raise UsageError(
            f"{folder}: the weights cannot be read ({reason}); copy or download the files again"
        ) from error
    # The model is of transformers' own class; a saved copy must not point to code that was not used.
    vars(model.config).pop("auto_map", None)
    return model, loaded if own_config is config else without(loaded, of_towers(model, loaded["unexpected_keys"]))


def open_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder. Its chat template sees a fixed date and has limits (`bench.models.rendering`).

    Raises:
        UsageError: If the folder holds none, or it cannot be opened.
    """
    use_limits()
    remedy = "copy the tokenizer's files from the model that this one was made from"
    what = f"{folder}: the tokenizer cannot be opened"
    try:
        tokenizer: PreTrainedTokenizerBase = _explained(
            lambda: AutoTokenizer.from_pretrained(folder, **SAFE), what, remedy
        )
    except UsageError as error:
        settings = folder / "tokenizer_config.json"
        if settings.exists() and "auto_map" in json_object(settings):
            raise UsageError(
                f"{settings}: the tokenizer needs the code of the folder (auto_map), and no such code is run; use a "
                "model whose tokenizer is part of transformers"
            ) from error
        if not any(file for pattern in VOCABULARIES for file in folder.glob(pattern)):
            raise UsageError(f"{folder}: holds no tokenizer (tokenizer.json); {remedy}") from error
        raise
    # Without its files, transformers makes a tokenizer with special tokens only.
    names = dict(getattr(tokenizer, "vocab_files_names", {}))
    hashed = set(loaded_files(folder))
    if beyond := sorted(n for n in names.values() if (folder / n).is_file() and folder / n not in hashed):
        raise UsageError(
            f"{folder / beyond[0]}: the tokenizer reads this file, and the hash of the folder does not cover it; save "
            "the tokenizer as tokenizer.json"
        )
    sets = [[names.pop("tokenizer_file")]] if "tokenizer_file" in names else []
    sets += [list(names.values())] if names else []
    if sets and not any(all((folder / name).exists() for name in one) for one in sets):
        raise UsageError(f"{folder}: holds no tokenizer ({' or '.join(', '.join(one) for one in sets)}); {remedy}")
    tokenizer.chat_template = tokenizer.chat_template or processor_template(folder)
    accept_text(tokenizer)
    return tokenizer


def open_generation_config(folder: Path) -> GenerationConfig:
    """Return the settings of a folder's `generation_config.json`, or those that follow from its `config.json`."""
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:  # the checkpoint has no generation config
        return GenerationConfig.from_model_config(open_config(folder))


def _explained(opened: Callable[[], Opened], what: str, remedy: str) -> Opened:
    """Open something with transformers. Whatever it raises becomes one sentence."""
    try:
        with _quiet():
            return opened()
    except UsageError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        reason = reason if len(reason) <= LONGEST_REASON else reason[:LONGEST_REASON] + "..."
        raise UsageError(f"{what} ({reason}); {remedy}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tables and progress bars of transformers out of our output."""
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _check_weights(folder: Path, config: PreTrainedConfig) -> int:
    """Check the names and shapes of the stored weights; return the number of rows of the embedding."""
    headers = read_headers(folder)
    model_class, own_config = loader(config)

    def load() -> tuple[PreTrainedModel, dict[str, Any]]:
        loaded: tuple[PreTrainedModel, dict[str, Any]] = model_class.from_pretrained(
            None,
            config=own_config,
            state_dict={name: _meta(header) for name, header in headers.items()},
            device_map={"": "meta"},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        return loaded

    file = folder / "config.json"
    try:
        whole, loaded = _explained(load, f"{file}: transformers cannot build this model", "correct the file")
    except UsageError as error:
        refuse_unmerged(folder, error)
        raise
    expected = whole.state_dict()
    check_tied(folder, whole.all_tied_weights_keys, headers)
    model, left_out = _explained(lambda: text_model(whole), str(file), "use another model")
    unread = left_out if own_config is config else of_towers(whole, loaded["unexpected_keys"])
    check_loaded(folder, model_class.__name__, without(loaded, unread), expected)
    return int(model.get_input_embeddings().weight.shape[0])


def _meta(header: Header) -> torch.Tensor:
    dtype = getattr(torch, FLOATS[header.dtype]) if header.dtype in FLOATS else torch.uint8
    return torch.empty(header.shape, dtype=dtype, device="meta")


def _check_vocabulary(folder: Path, tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Check that the embedding has a row for every token except added ones that no prompt need hold.

    Published tokenizers have such tokens, for example those for images that a model of text does not take. The engine
    refuses a prompt with one.
    """
    added = set(tokenizer.added_tokens_decoder)
    named = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    beyond = [(i, token) for token, i in tokenizer.get_vocab().items() if i >= rows and (i not in added or i in named)]
    if beyond:
        i, token = min(beyond)
        raise UsageError(
            f"{folder}: the tokenizer has the token {shown(token)} with the id {i}, and the model's embedding has "
            f"{rows} rows; take the tokenizer that belongs to this model, or call resize_token_embeddings"
            f"({len(tokenizer)}) and save the model again"
        )


def _check_template(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the chat template formats a user's message, and ends with other conversations too."""
    try:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": PROBE}], add_generation_prompt=True, tokenize=False
        )
        takes_system_message(tokenizer)
    except Exception as error:
        raise UsageError(unformatted(folder, error)) from error
    if PROBE not in text:
        raise UsageError(
            f"{template_file(folder)}: the chat template leaves out the user's message; correct it, or use --prompt "
            "completion"
        )


def takes_system_message(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the chat template writes a system message. Others raise an error, or leave the message out."""
    probe = "Answer with the number alone."
    conversation = [{"role": "system", "content": probe}, {"role": "user", "content": PROBE}]
    try:
        text = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
    except TemplateLimit:
        raise
    except Exception:  # a template that has no system role and says so
        return False
    return probe in text


def unformatted(folder: Path, error: Exception) -> str:
    """Return the sentence for an error that a chat template raises. A template is a program and may raise anything."""
    reason = sentence(str(error)) or type(error).__name__
    return f"{template_file(folder)}: the chat template fails ({reason}); correct it, or use --prompt completion"
