"""Headers of GGUF files: what is refused before a library reads them."""

import os
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BenchError
from bench.models import gguf
from bench.models.gguf import check_header

UINT32, STRING, ARRAY = 4, 8, 9


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def field(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def array(kind, count, values=b""):
    return struct.pack("<IQ", kind, count) + values


def tensor(*dimensions, offset=0):
    return text("a") + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, 0, offset)


LLAMA = field("general.architecture", STRING, text("llama"))


def header(*fields, tensors=b"", counts=None, version=3):
    counts = counts or (0, len(fields))
    return b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(fields) + tensors


def reason(tmp_path, content):
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(BenchError) as caught:
        check_header(tmp_path / "m.gguf")
    return str(caught.value)


def test_the_header_that_gguf_s_own_writer_makes_passes(tmp_path):
    library = pytest.importorskip("gguf")
    import numpy as np

    for order in library.GGUFEndian:
        writer = library.GGUFWriter(tmp_path / "m.gguf", "llama", endianess=order)
        writer.add_name("name")
        writer.add_token_list(["a", "é", ""])
        writer.add_token_scores([1.0, 2.0, 3.0])
        writer.add_add_bos_token(True)
        writer.add_rope_freq_base(1e4)
        writer.add_tensor("a", np.zeros((2, 3), np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        check_header(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (header(LLAMA, field("x", ARRAY, array(ARRAY, 1 << 50, array(UINT32, 0) * 9))), 'its field "x" is an array of'),
        (header(field("x", ARRAY, array(UINT32, 1 << 50))), 'its field "x" goes beyond the end of the file'),
        (header(field("x", ARRAY, array(STRING, 1 << 50, text("a") * 9))), 'its field "x" goes beyond the end of the'),
        (header(field("x", STRING, struct.pack("<Q", 1 << 60))), 'its field "x" goes beyond the end of the file'),
        (header(field("x", 99, b"")), 'its field "x" has the type 99'),
        (header(field("x", ARRAY, array(99, 1))), 'its field "x" has the type 99'),
        (header(struct.pack("<Q", 1 << 60) + bytes(5)), "the name of a field goes beyond the end of the file"),
        (header(counts=(0, 1 << 60)), "its header goes beyond the end of the file"),
        (header(counts=(1 << 60, 0)), "its header goes beyond the end of the file"),
        (
            header(tensors=text("a") + struct.pack("<I", 1 << 31) + bytes(16), counts=(1, 0)),
            'its tensor "a" has 2147483648 dim',
        ),
        (
            header(tensors=text("a") + struct.pack("<I", 4) + bytes(16), counts=(1, 0)),
            'its tensor "a" goes beyond the end',
        ),
        (header(version=7), "its version of the format is 7, expected 2 or 3"),
        (b"GGUF", "its header goes beyond the end of the file"),
        (b"GGUF" + bytes(100), "its version of the format is 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(tmp_path, content, expected):
    assert expected in reason(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            header(field("x", STRING, struct.pack("<Q", 700 << 30))),
            'its field "x" has 751619276800 bytes, and at most 67',
        ),
        (header(struct.pack("<Q", 700 << 30)), "the name of a field has 751619276800 bytes, and at most 65535 are"),
        (
            header(field("general.architecture", STRING, struct.pack("<Q", 1 << 30))),
            "architecture has 1073741824 bytes",
        ),
        (header(tensors=struct.pack("<Q", 1 << 30), counts=(1, 0)), "the name of a tensor has 1073741824 bytes"),
        (
            header(field("x", ARRAY, array(UINT32, 1 << 30))),
            'its field "x" has 1073741824 values, and at most 16777216',
        ),
        (
            header(field("x", ARRAY, array(STRING, 1 << 30))),
            'its field "x" has 1073741824 values, and at most 16777216',
        ),
        (header(field("x", ARRAY, array(STRING, 1, struct.pack("<Q", 1 << 30)))), 'its field "x" has 1073741824 bytes'),
        (header(tensors=tensor(4, 1 << 40, 1 << 40), counts=(1, 0)), 'its tensor "a" goes beyond the end of the file'),
        (header(tensors=tensor(4, 1, 1, offset=1 << 50), counts=(1, 0)), 'its tensor "a" goes beyond the end of the'),
    ],
)
def test_a_file_with_a_hole_is_refused_without_being_read(tmp_path, content, expected):
    (tmp_path / "m.gguf").write_bytes(content)
    os.truncate(tmp_path / "m.gguf", 800 << 30)
    tracemalloc.start()
    with pytest.raises(BenchError) as caught:
        check_header(tmp_path / "m.gguf")
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()
    assert expected in str(caught.value)


@pytest.mark.parametrize("name", ["\x1b]0;title\x07llama", "", "a b", "../x", "a" * 65, b"\xff"])
def test_an_architecture_that_is_no_name_is_refused(tmp_path, name):
    assert "its general.architecture is " in reason(tmp_path, header(field("general.architecture", STRING, text(name))))


def test_the_number_of_texts_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "MOST_VALUES", 100)
    content = header(*[field("x", ARRAY, array(STRING, 50, text("") * 50))] * 2)
    assert "its header has more than 100 texts" in reason(tmp_path, content)


@settings(max_examples=300, deadline=2000)
@given(st.data())
def test_any_header_passes_or_is_refused_in_a_sentence(tmp_path_factory, data):
    fields = [LLAMA, field("t", ARRAY, array(STRING, 2, text("a") + text("b"))), field("n", UINT32, bytes(4))]
    content = bytearray(header(*fields, tensors=text("w") + struct.pack("<IQIQ", 1, 4, 0, 0), counts=(1, 3)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(4, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    file.write_bytes(bytes(content[: data.draw(st.integers(4, len(content)))]))
    try:
        check_header(file)
    except BenchError as error:
        assert "\n" not in str(error)  # noqa: PT017
