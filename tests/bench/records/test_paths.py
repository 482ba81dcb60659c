import pytest

from bench.records.paths import without_paths


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/me/models/tiny.gguf", "tiny.gguf"),
        ("cannot read '/home/me/a b'; or (/x/y)", "cannot read 'a b'; or (y)"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("3 tokens/s and 1/2", "3 tokens/s and 1/2"),
        ("meta/model-7b", "meta/model-7b"),
    ],
)
def test_paths_are_shortened_to_their_last_part(text, kept):
    assert without_paths(text) == kept
    assert without_paths({"a": [text, 1]}) == {"a": [kept, 1]}
