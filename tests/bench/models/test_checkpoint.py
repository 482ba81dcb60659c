"""The dtype of a checkpoint's weights."""

import json

import pytest
import torch
from safetensors.torch import save_file

from bench.errors import UsageError
from bench.models.checkpoint import stored_dtype


@pytest.mark.parametrize(
    ("config", "dtype"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "float16"}, "float16"),
        ({"dtype": "torch.float32"}, "float32"),
        ({"text_config": {"dtype": "bfloat16"}}, "bfloat16"),
    ],
)
def test_the_configuration_names_the_dtype(tmp_path, config, dtype):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert stored_dtype(tmp_path) == dtype


def test_without_a_name_the_tensors_tell(tmp_path):
    save_file({"a": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    assert stored_dtype(tmp_path) == "bfloat16"


def test_without_both_the_error_names_the_option(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="set --dtype"):
        stored_dtype(tmp_path)
