"""Header of a GGUF file: whether its sizes are possible, before a library that trusts them reads it.

A file has the bytes `GGUF`, a version, the number of tensors, and the number of fields (a name, a type, a value). A
field's value is a number, a text (its length and bytes), or an array: the type and number of its elements. Descriptions
of the tensors follow.
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import BinaryIO

from bench.errors import BenchError, shown

VERSIONS = (2, 3)
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Size in bytes of a number of each type."""
TEXT, ARRAY = 8, 9
MOST_VALUES = 1 << 24
"""Limit of the texts in a header, and of the numbers in an array. The largest published vocabularies have about 10^6,
with their merges."""
MOST_NAME = (1 << 16) - 1
"""Bytes of the longest name, as the format defines it."""
MOST_TEXT = 1 << 26
"""Limit of the bytes of a field's text. A file with holes may be longer than any memory."""
MOST_DIMENSIONS = 4
ARCHITECTURE = "general.architecture"
NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
_LEAST_FIELD, _LEAST_TENSOR = 8 + 4 + 1, 8 + 4 + 4 + 8
"""Bytes of the shortest field (length of the name, type, value) and tensor (the same, number of dimensions, offset)."""
DAMAGED = "the file is damaged or no model, so copy or download it again"


def check_header(file: Path) -> None:
    """Check that the header of a GGUF file describes no more than the file holds.

    Raises:
        BenchError: If it does not.
    """
    with file.open("rb") as opened:
        _Header(opened, file.stat().st_size).check()


class _Header:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._order, self._values = file, size, "<", 0

    def check(self) -> None:
        self._file.seek(4)
        version = self._number("I")
        if version & 0xFFFF == 0:  # written on a machine with the other order of bytes
            self._order, version = ">", version >> 24
        if version not in VERSIONS:
            raise BenchError(f"its version of the format is {version}, expected {' or '.join(map(str, VERSIONS))}")
        tensors, fields = self._number("Q"), self._number("Q")
        self._require(tensors * _LEAST_TENSOR + fields * _LEAST_FIELD, "its header")
        for _ in range(fields):
            name = self._name("the name of a field")
            kind = self._number("I")
            if name == ARCHITECTURE.encode() and kind == TEXT:
                self._check_architecture()
            else:
                self._skip(kind, name)
        for _ in range(tensors):
            self._check_tensor(self._name("the name of a tensor"))

    def _check_tensor(self, name: bytes) -> None:
        what = f"its tensor {_named(name)}"
        dimensions = self._number("I")
        if dimensions > MOST_DIMENSIONS:
            raise BenchError(f"{what} has {dimensions} dimensions; {DAMAGED}")
        self._require(8 * dimensions + 12, what)
        elements = math.prod(self._number("Q") for _ in range(dimensions))
        self._number("I")  # its type: each has at least one bit for an element
        if elements // 8 + self._number("Q") > self._size:
            raise BenchError(f"{what} goes beyond the end of the file; {DAMAGED}")

    def _check_architecture(self) -> None:
        found = self._name(ARCHITECTURE).decode(errors="replace")
        if not NAME.fullmatch(found):
            raise BenchError(f"its {ARCHITECTURE} is {shown(found)}, which is no name; {DAMAGED}")

    def _skip(self, kind: int, name: bytes) -> None:
        """Skip the value of a field."""
        what = f"its field {_named(name)}"
        if kind == TEXT:
            self._skip_text(what)
            return
        if kind != ARRAY:
            self._forward(self._size_of(kind, name), what)
            return
        kind, count = self._number("I"), self._number("Q")
        if kind == ARRAY:
            raise BenchError(f"{what} is an array of arrays, which no model needs; {DAMAGED}")
        self._require(count * (8 if kind == TEXT else self._size_of(kind, name)), what)
        if count > MOST_VALUES:
            raise BenchError(f"{what} has {count} values, and at most {MOST_VALUES} are expected; {DAMAGED}")
        if kind != TEXT:
            self._forward(self._size_of(kind, name) * count, what)
            return
        for _ in range(count):
            self._skip_text(what)

    def _size_of(self, kind: int, name: bytes) -> int:
        if kind not in SIZES:
            raise BenchError(f"its field {_named(name)} has the type {kind}, which GGUF does not have; {DAMAGED}")
        return SIZES[kind]

    def _number(self, code: str) -> int:
        return int(struct.unpack(self._order + code, self._read(struct.calcsize(code), "its header"))[0])

    def _name(self, what: str) -> bytes:
        return self._read(self._length(MOST_NAME, what), what)

    def _skip_text(self, what: str) -> None:
        self._forward(self._length(MOST_TEXT, what), what)

    def _length(self, most: int, what: str) -> int:
        """Read the length of a text."""
        self._values += 1
        if self._values > MOST_VALUES:
            raise BenchError(f"its header has more than {MOST_VALUES} texts; {DAMAGED}")
        length = self._number("Q")
        self._require(length, what)
        if length > most:
            raise BenchError(f"{what} has {length} bytes, and at most {most} are expected; {DAMAGED}")
        return length

    def _read(self, count: int, what: str) -> bytes:
        self._require(count, what)
        return self._file.read(count)

    def _forward(self, count: int, what: str) -> None:
        self._require(count, what)
        self._file.seek(count, 1)

    def _require(self, count: int, what: str) -> None:
        """Check that so many bytes of the file are left."""
        if count > self._size - self._file.tell():
            raise BenchError(f"{what} goes beyond the end of the file; {DAMAGED}")


def _named(name: bytes) -> str:
    return shown(name.decode(errors="replace"))
