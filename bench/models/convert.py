"""Conversion of a GGUF file to a checkpoint folder: weights in bfloat16, tokenizer from the metadata."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.models import cache
from bench.models.alone import run_alone
from bench.models.checkpoint import read_config
from bench.models.gguf import check_header
from bench.models.interface import PreparedModel, Progress, Provenance
from bench.plain import sentence

VERSION = 1
"""Conversion version, part of every cache key. Increment it when the same GGUF file gives another checkpoint."""

FACTS = "conversion.json"
REQUIRED = ("torch", "transformers", "gguf", "accelerate")

CONTROL_TOKEN = 3
END_IDS = ("eos", "eot", "eom")
END_TOKENS = {
    "<|im_end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
}
"""Control tokens that always end an answer. GGUF stores only one end id and drops the rest of the model's list."""

SINGLE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
"""Values of `tokenizer.ggml.pre` for pre-tokenizers that split off every digit, and then split as GPT-2 does."""


def prepared(
    sha256: str, put: Callable[[Path], Path], origin: str, progress: Progress, *, needs: int = 0
) -> PreparedModel:
    """Return the checkpoint of a GGUF file, and convert it first if it is not in the cache.

    Args:
        sha256: Hash of the file.
        put: Function that puts the file, or a link to it, into the folder it is given. Called only for a conversion.
        origin: Origin for the provenance.
        progress: Reports the current step.
        needs: Peak disk usage of the conversion in bytes; 0 if unknown.

    Raises:
        BenchError: If a library is missing, the file cannot be converted, or the cache cannot be written.
    """

    def build(folder: Path) -> None:
        _require_libraries()
        gguf = put(folder)
        progress("converting GGUF to safetensors", 0, None)
        failed = f"{origin} could not be converted"
        run_alone("bench.models.convert", [str(gguf), str(folder)], failed, size=gguf.stat().st_size)
        gguf.unlink()

    folder = cache.obtain(_key(sha256), build, progress, needs=needs)
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    return PreparedModel(str(folder), None, Provenance(origin, sha256, facts["licence"]))


def cached(sha256: str) -> Path | None:
    """Return the checkpoint of a file that is already converted, or None."""
    folder = cache.entry(_key(sha256))
    return folder if cache.intact(folder, contents=False) else None


def cached_config(sha256: str) -> dict[str, Any] | None:
    """Return the configuration of a file that is already converted, or None."""
    folder = cached(sha256)
    return None if folder is None else read_config(folder)


def _key(sha256: str) -> str:
    return f"gguf-{sha256[:32]}-bf16-v{VERSION}"


def _require_libraries() -> None:
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        raise BenchError(f"opening a GGUF file needs {', '.join(missing)}: pip install 'bench-post-training[local]'")


def end_ids(metadata: Mapping[str, Any]) -> list[int]:
    """Return the ids that end an answer, starting with those that the metadata names."""
    ids = [metadata[key] for name in END_IDS if (key := f"tokenizer.ggml.{name}_token_id") in metadata]
    vocabulary = zip(
        metadata.get("tokenizer.ggml.tokens", ()), metadata.get("tokenizer.ggml.token_type", ()), strict=False
    )
    ids += [i for i, (token, kind) in enumerate(vocabulary) if kind == CONTROL_TOKEN and token in END_TOKENS]
    return list(dict.fromkeys(ids))


def convert(gguf: Path, folder: Path) -> None:
    """Write the checkpoint of a GGUF file, and a `conversion.json` with the licence and name from its metadata.

    Raises:
        BenchError: If the file's header is damaged, or the model of transformers has more or fewer weights than the
            file.
    """
    check_header(gguf)

    import torch
    import transformers
    from gguf import GGUFReader

    reader = GGUFReader(gguf)
    metadata = {key: field.contents() for key, field in reader.fields.items()}
    # Newer releases can keep the weights quantised. Older ones always dequantise, and lack this class.
    packing = getattr(transformers, "GgufConfig", None)
    options = {"quantization_config": packing(dequantize=True)} if packing else {}
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, trust_remote_code=False, **options
    )
    held = sum(int(tensor.n_elements) for tensor in reader.tensors)
    taken = sum(parameter.numel() for parameter in loaded.parameters())
    if held != taken:
        raise BenchError(
            f"the GGUF file has {held} weights, but the model that transformers loads from it has {taken}, so some "
            "weights would be lost or random; use the original checkpoint"
        )
    # A model loaded from GGUF cannot be saved, so build a new one around its tensors.
    config = loaded.config
    for leftover in ("quantization_config", "_model_name_or_path"):
        vars(config).pop(leftover, None)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=end_ids(metadata), pad_token_id=config.pad_token_id
    )
    model.save_pretrained(folder)

    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    if metadata.get("tokenizer.ggml.pre") in SINGLE_DIGITS:
        from tokenizers import pre_tokenizers

        digits = pre_tokenizers.Digits(individual_digits=True)
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.save_pretrained(folder)

    facts = {
        "licence": metadata.get("general.license"),
        "name": metadata.get("general.name"),
        "quantisation": sorted({tensor.tensor_type.name for tensor in reader.tensors}),
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as failure:
        sys.exit(sentence(str(failure)) or type(failure).__name__)
