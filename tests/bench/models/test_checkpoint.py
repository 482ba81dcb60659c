"""The JSON files and hashes of a checkpoint folder."""

import pytest

from bench.errors import UsageError
from bench.models.checkpoint import json_object, read_config

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
    with pytest.raises(UsageError, match=r"config\.json: cannot be read \(No such file"):
        json_object(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UsageError, match="not valid JSON"):
        json_object(tmp_path / "config.json")
