"""MATLAB's format of v5, v6 and v7 (MathWorks, "MAT-File Format"): numbers, text, and cells of these.

scipy.io.loadmat reads more, but a damaged file can crash the interpreter in it; here every size is checked first.

A file is a header of 128 bytes and elements: a type and a number of bytes, each 4 bytes, then the data, filled up to 8
bytes. Data of up to 4 bytes may share the first 8. A variable is one element, which holds its flags, its sizes, its
name and its data in elements of their own; v7 compresses variables one by one.
"""

import math
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

_MAX_BYTES = 1 << 30
_FREE_BYTES = 64 << 20
_MAX_RATIO = 30  # to the size on disk, where past _FREE_BYTES (poses pack 1 : 1.2)

_HEADER = 128
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_TEXTS = {1: "latin1", 2: "latin1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _CHAR, _FIRST_NUMERIC, _LAST_NUMERIC = 1, 4, 6, 15  # classes
_COMPLEX = 0x0800  # a flag


def most_bytes(size_on_disk: int) -> int:
    """That a variable of such a file may take when it is unpacked."""
    return min(_MAX_BYTES, max(_FREE_BYTES, _MAX_RATIO * size_on_disk))


def is_mat_v5(head: bytes) -> bool:
    """Whether a file that begins so is in this format."""
    return head[126:128] in (b"IM", b"MI")


def read_mat_v5(path: Path, names: Collection[str]) -> dict[str, np.ndarray | list | str]:
    """The variables asked for, as far as they are there: arrays (float64, MATLAB's dimensions), lists of cells, text.

    What else the file holds is passed over, of whatever type.

    Raises:
        ValueError: the file is damaged, or a variable asked for is of another type.
    """
    data = memoryview(path.read_bytes())
    order = "<" if data[126:128] == b"IM" else ">"
    found = {}
    for kind, content in _elements(data[_HEADER:], order):
        if kind == _COMPRESSED:
            ((kind, content),) = _elements(_unpack(content, most_bytes(len(data))), order)
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where a variable was expected")
        variable = _Variable(content, order)
        if variable.name in names:
            found[variable.name] = variable.value()
    return found


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and data of the elements that follow each other."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("the file ends in the middle")
        kind, size = (int(word) for word in np.frombuffer(data[at : at + 8], f"{order}u4"))
        if kind >> 16:  # both numbers in the first 4 bytes, the data in the next
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError(f"{size} bytes in an element that has 4")
        else:
            start = at + 8
            end = start + size + (-size % 8 if kind != _COMPRESSED else 0)
        if start + size > len(data):
            raise ValueError("the file ends in the middle")
        yield kind, data[start : start + size]
        at = end


def _unpack(content: memoryview, most: int) -> memoryview:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(content, most)
    except zlib.error as error:
        raise ValueError(f"the data cannot be unpacked ({error})") from None
    if unpacker.unconsumed_tail:
        raise ValueError(f"a variable unpacks to more than {most >> 20} MB, too much for a file of its size")
    if not unpacker.eof:
        raise ValueError("the file ends in the middle")
    return memoryview(data)


class _Variable:
    """A variable: its name at once, its value when asked."""

    def __init__(self, content: memoryview, order: str):
        self._order = order
        self._parts = _elements(content, order)
        flags = self._numbers(_UINT32)
        if len(flags) != 2:
            raise ValueError("a variable without flags")
        self._class, self._is_complex = int(flags[0]) & 0xFF, bool(int(flags[0]) & _COMPLEX)
        # Opaque objects have no sizes here; they are none of ours, and their name is not where it is looked for.
        self._sizes = tuple(int(size) for size in self._numbers(_INT32)) if self._class <= _LAST_NUMERIC else ()
        self.name = bytes(self._numbers(_INT8)).decode("latin1") if self._sizes else ""

    def _numbers(self, kind: int) -> np.ndarray:
        found, data = self._next()
        if found != kind:
            raise ValueError(f"an element of type {found} where {kind} was expected")
        return self._array(found, data)

    def _next(self) -> tuple[int, memoryview]:
        part = next(self._parts, None)
        if part is None:
            raise ValueError("a variable ends in the middle")
        return part

    def _array(self, kind: int, data: memoryview) -> np.ndarray:
        if kind not in _NUMBERS:
            raise ValueError(f"an element of type {kind} where numbers were expected")
        return np.frombuffer(data, self._order + _NUMBERS[kind])

    def value(self) -> np.ndarray | list | str:
        if self._class == _CELL:
            self._check_sizes()
            return [self._cell() for _ in range(math.prod(self._sizes))]
        return self.value_in_cell(of_cell=False)

    def _check_sizes(self) -> None:
        if len(self._sizes) < 2 or min(self._sizes) < 0:
            raise ValueError(f"{self.name} has the size {self._sizes}")

    def value_in_cell(self, of_cell: bool = True) -> np.ndarray | str:
        """No cell itself."""
        self._check_sizes()
        if self._class == _CHAR:
            return self._text()
        if not _FIRST_NUMERIC <= self._class <= _LAST_NUMERIC or self._is_complex:
            raise ValueError(
                f"{self.name or 'a cell'} is not a real matrix{'' if of_cell else ', a cell of matrices'} or text"
            )
        numbers = self._array(*self._next()).astype(np.float64)
        if numbers.size != math.prod(self._sizes):
            raise ValueError(f"{self.name} has {numbers.size} numbers, expected as many as {self._sizes} has")
        return numbers.reshape(self._sizes, order="F")

    def _cell(self) -> np.ndarray | str:
        kind, data = self._next()
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where a cell of {self.name} was expected")
        return _Variable(data, self._order).value_in_cell() if len(data) else np.zeros((0, 0))

    def _text(self) -> str:
        kind, data = self._next()
        if kind not in _TEXTS:
            raise ValueError(f"an element of type {kind} where the text of {self.name} was expected")
        wide = {"<": "-le", ">": "-be"}[self._order] if _TEXTS[kind][-2:] in ("16", "32") else ""
        return bytes(data).decode(_TEXTS[kind] + wide, errors="replace")
