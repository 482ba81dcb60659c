"""Header of a GGUF file: whether its sizes are possible, before a library that trusts them reads it.

A file has the bytes `GGUF`, a version, the number of tensors, and the number of fields (a name, a type, a value). A
field's value is a number, a text (its length and bytes), or an array: the type and number of its elements. Descriptions
of the tensors follow.
"""

from __future__ import annotations

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
"""Limit of the texts in a header. The largest published vocabularies have about 10^6, with their merges."""
MOST_DIMENSIONS = 4
ARCHITECTURE = "general.architecture"
NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
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
        for _ in range(fields):
            name = self._text("the name of a field")
            kind = self._number("I")
            if name == ARCHITECTURE.encode() and kind == TEXT:
                self._check_architecture()
            else:
                self._skip(kind, name)
        for _ in range(tensors):
            name = self._text("the name of a tensor")
            dimensions = self._number("I")
            if dimensions > MOST_DIMENSIONS:
                raise BenchError(f"its tensor {_named(name)} has {dimensions} dimensions; {DAMAGED}")
            self._forward(8 * dimensions + 12, f"its tensor {_named(name)}")

    def _check_architecture(self) -> None:
        found = self._text(ARCHITECTURE).decode(errors="replace")
        if not NAME.fullmatch(found):
            raise BenchError(f"its {ARCHITECTURE} is {shown(found)}, which is no name; {DAMAGED}")

    def _skip(self, kind: int, name: bytes) -> None:
        """Skip the value of a field."""
        if kind == TEXT:
            self._text(f"its field {_named(name)}")
            return
        if kind != ARRAY:
            self._forward(self._size_of(kind, name), f"its field {_named(name)}")
            return
        kind, count = self._number("I"), self._number("Q")
        if kind == ARRAY:
            raise BenchError(f"its field {_named(name)} is an array of arrays, which no model needs; {DAMAGED}")
        if kind != TEXT:
            self._forward(self._size_of(kind, name) * count, f"its field {_named(name)}")
            return
        for _ in range(count):
            self._text(f"its field {_named(name)}")

    def _size_of(self, kind: int, name: bytes) -> int:
        if kind not in SIZES:
            raise BenchError(f"its field {_named(name)} has the type {kind}, which GGUF does not have; {DAMAGED}")
        return SIZES[kind]

    def _number(self, code: str) -> int:
        return int(struct.unpack(self._order + code, self._read(struct.calcsize(code), "its header"))[0])

    def _text(self, what: str) -> bytes:
        self._values += 1
        if self._values > MOST_VALUES:
            raise BenchError(f"its header has more than {MOST_VALUES} texts; {DAMAGED}")
        return self._read(self._number("Q"), what)

    def _read(self, count: int, what: str) -> bytes:
        if count > self._size - self._file.tell():
            raise BenchError(f"{what} goes beyond the end of the file; {DAMAGED}")
        return self._file.read(count)

    def _forward(self, count: int, what: str) -> None:
        if count > self._size - self._file.tell():
            raise BenchError(f"{what} goes beyond the end of the file; {DAMAGED}")
        self._file.seek(count, 1)


def _named(name: bytes) -> str:
    return shown(name.decode(errors="replace"))
