"""Check of a checkpoint folder by its files alone, without torch: whether it holds a model that can be run.

What only transformers can tell, such as which weights the model needs, is checked in `bench.models.opening`.
"""

from __future__ import annotations

from pathlib import Path

from bench.errors import UsageError, shown
from bench.models.checkpoint import FILES, check_pointer, json_object
from bench.models.headers import read_headers

ADAPTER = "adapter_config.json"
SETTINGS = ("generation_config.json", "tokenizer_config.json")
"""Files that transformers would leave out in silence if they could not be read."""


def check_files(folder: Path) -> None:
    """Check that a folder holds the files of an unquantised model, and nothing that would change it in silence.

    Raises:
        UsageError: If it does not. The message names the file and the remedy.
    """
    config = json_object(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise UsageError(
            f"{folder / 'config.json'}: model_type is {shown(config.get('model_type'))}; expected the name of a model "
            'type, such as "llama"; copy the file from the original model'
        )
    if (folder / ADAPTER).exists():
        # transformers would apply the adapter if peft is installed, and vLLM would not.
        raise UsageError(
            f"{folder / ADAPTER}: an adapter lies beside the weights of a model, and it is not clear whether it is "
            "meant; move the adapter's files into a folder of their own and give --model that one, or remove them"
        )
    _check_precision(folder, config.get("quantization_config"))
    for name in SETTINGS:
        if (folder / name).exists():
            json_object(folder / name)
    for file in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
        check_pointer(file)


def _check_precision(folder: Path, quantisation: object) -> None:
    remedy = "use the original model, or save a dequantised one"
    if quantisation:
        method = quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation
        raise UsageError(
            f"{folder / 'config.json'}: the model is quantised ({shown(method)}), so its weights cannot be moved or "
            f"trained; {remedy}"
        )
    for name, header in read_headers(folder).items():
        small = header.dtype.startswith(("F8", "F6", "F4"))
        if small or (name.endswith("weight") and header.dtype.startswith(("I", "U", "BOOL"))):
            raise UsageError(
                f"{header.file}: {name} is stored as {header.dtype}, so the model is quantised, and its weights cannot "
                f"be moved or trained; {remedy}"
            )
