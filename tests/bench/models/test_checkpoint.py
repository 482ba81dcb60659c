"""The JSON files and hashes of a checkpoint folder."""

import hashlib
import os
import subprocess
import sys

import pytest

from bench.errors import UsageError
from bench.models import checkpoint
from bench.models.checkpoint import folder_sha256, json_object, loaded_files, read_config
from bench.models.source import resolve

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1337\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[1]", r"\[1\] is no JSON object"),
        ("null", "null is no JSON object"),
        ("[" * 100_000, "not valid JSON"),
        (POINTER, "a Git LFS pointer in place of the file; run `git lfs pull` in the folder"),
    ],
)
def test_a_file_without_a_json_object_is_refused_with_its_name(tmp_path, text, reason):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=rf"config\.json: {reason}"):
        json_object(tmp_path / "config.json")
    assert read_config(tmp_path) is None


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"config\.json: cannot be read: No such file"):
        json_object(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UsageError, match="not valid JSON"):
        json_object(tmp_path / "config.json")


def test_a_pipe_a_folder_and_a_file_without_end_are_not_read(tmp_path, monkeypatch):
    file = tmp_path / "config.json"
    os.mkfifo(file)
    with pytest.raises(UsageError, match=r"config\.json: a device, pipe or socket in place of a file"):
        json_object(file)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=r"config\.json: a device, pipe or socket in place of a file"):
        json_object(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(UsageError, match=r"config\.json: a folder in place of a file"):
        json_object(file)
    file.rmdir()
    file.write_text('{"a": 1}')
    monkeypatch.setattr(checkpoint, "LARGEST_TEXT", 7)
    with pytest.raises(UsageError, match=r"config\.json: has 8 bytes, and at most 7 are read"):
        json_object(file)


def test_a_file_of_a_gigabyte_is_refused_at_once(tmp_path):
    (tmp_path / "config.json").write_text("{")
    os.truncate(tmp_path / "config.json", 1 << 30)
    with pytest.raises(UsageError, match="at most 200000000 are read"):
        json_object(tmp_path / "config.json")


def test_the_fingerprints_of_earlier_runs_stay(copy):
    """The ids of records depend on these."""
    assert resolve("tiny-adder").prepare().provenance.sha256 == (
        "68c6d85f5d2ba26cbbd9feecd4205ab3d3b53cb7b12d40645d4d1ff7de22b8fa"
    )
    names = ("config.json", "generation_config.json", "special_tokens_map.json", "merges.txt", "spiece.model", "a.py")
    for name in (*names, "sub/config.json"):
        (copy.folder / name).parent.mkdir(exist_ok=True)
        (copy.folder / name).write_text(name)
    patterns = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
    files = sorted(file for pattern in patterns for file in copy.folder.glob(pattern))
    lines = "".join(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in files)
    assert folder_sha256(copy.folder) == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    "name", ["additional_chat_templates/tool_use.jinja", "source.spm", "bpe.codes", "tokenizer.model.v3", "vocab.txt"]
)
def test_every_file_that_is_loaded_changes_the_fingerprint(copy, name):
    before = folder_sha256(copy.folder)
    (copy.folder / name).parent.mkdir(exist_ok=True)
    (copy.folder / name).write_text("a")
    first = folder_sha256(copy.folder)
    (copy.folder / name).write_text("b")
    assert len({before, first, folder_sha256(copy.folder)}) == 3


OPENS = """
import sys
from pathlib import Path
folder = Path(sys.argv[1])
opened = set()
sys.addaudithook(lambda event, given: event == "open" and isinstance(given[0], str) and opened.add(given[0]))
from bench.models.opening import open_config, open_generation_config, open_model, open_tokenizer
open_config(folder), open_generation_config(folder), open_model(folder, "float32"), open_tokenizer(folder)
print("\\n".join(name for name in opened if name.startswith(str(folder))))
"""


def test_what_transformers_opens_is_in_the_fingerprint(copy):
    """safetensors and tokenizers open their own files out of Python's sight; the names of those are checked."""
    copy.shards()
    (copy.folder / "additional_chat_templates").mkdir()
    copy.write("additional_chat_templates/tool_use.jinja", "{{ messages }}")
    for name in ("special_tokens_map.json", "added_tokens.json", "vocab.json", "processor_config.json"):
        copy.write(name, "{}")
    ran = subprocess.run([sys.executable, "-c", OPENS, copy.folder], capture_output=True, text=True, check=True)
    opened = set(ran.stdout.split())
    assert opened >= {str(copy.folder / name) for name in ("config.json", "additional_chat_templates/tool_use.jinja")}
    assert opened <= {str(file) for file in loaded_files(copy.folder)}
