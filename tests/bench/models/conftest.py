"""Copies of tiny-adder's folder, for tests that damage them."""

import json
import shutil
from pathlib import Path

import pytest

TINY = Path(__file__).parents[3] / "bench" / "models" / "tiny_adder"


class Copy:
    """A copy of tiny-adder's checkpoint folder."""

    def __init__(self, folder):
        self.folder = shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def edit(self, name, **fields):
        """Set fields of a JSON file; None removes one."""
        file = self.folder / name
        content = json.loads(file.read_text()) | fields
        file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def weights(self, change):
        """Replace the tensors by name: `change` gets and returns a dict."""
        from safetensors.torch import load_file, save_file

        file = self.folder / "model.safetensors"
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    def shards(self):
        """Divide the weights into two files and an index."""
        from safetensors.torch import load_file, save_file

        tensors = load_file(self.folder / "model.safetensors")
        (self.folder / "model.safetensors").unlink()
        parts = {f"model-0000{i + 1}-of-00002.safetensors": sorted(tensors)[i::2] for i in range(2)}
        for name, keys in parts.items():
            save_file({key: tensors[key] for key in keys}, self.folder / name, metadata={"format": "pt"})
        places = {key: name for name, keys in parts.items() for key in keys}
        self.write("model.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": places}))


@pytest.fixture
def copy(tmp_path):
    """A copy of tiny-adder's checkpoint folder."""
    return Copy(tmp_path / "model")
