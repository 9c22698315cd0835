"""Octave's text format: what its `save` writes unless told otherwise. Numbers, text, and cells of these.

A variable is `# name: x`, `# type: matrix`, its size in `# rows: 2` and `# columns: 3`, or `# ndims: 3` and a line of
sizes, and then the numbers: row by row in the first form, column by column (as in memory) in the second. A cell is the
same with variables of the name `<cell-element>` for numbers, column by column.
"""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np

_HEADS = (b"# Created by Octave", b"# name: ")
_NAME = "# name: "
_CELL_ELEMENT = "<cell-element>"
_CLASSES = {"float", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
_SCALARS = {"scalar", "bool", *(f"{name} scalar" for name in _CLASSES)}
_MATRICES = {"matrix", *(f"{name} matrix" for name in _CLASSES)}
_TEXTS = {"string", "sq_string"}
_STRUCTS = {"scalar struct", "struct"}


def is_octave_text(head: bytes) -> bool:
    """Whether a file that begins so is in this format."""
    return head.startswith(_HEADS)


def read_octave_text(path: Path, names: Collection[str]) -> dict[str, np.ndarray | list | str]:
    """The variables asked for, as far as they are there: arrays (float64, Octave's dimensions), lists of cells, text.

    What else the file holds is passed over, of whatever type. Memory is some times the file's size, whatever it claims.

    Raises:
        ValueError: the file is damaged, or a variable asked for is of another type.
    """
    lines = _Lines(path.read_text(encoding="utf-8", errors="replace").splitlines())
    found = {}
    while (name := lines.next_variable()) is not None:
        if name in names:
            try:
                found[name] = _read_value(lines)
            except ValueError as error:
                raise ValueError(f"{name}: {error} (line {lines.at})") from None
        else:
            _pass_over(lines)
    return found


class _Lines:
    """The file's lines and where the reader is; empty ones say nothing."""

    def __init__(self, lines: list[str]):
        self._lines = lines
        self.at = 0

    def next(self) -> str:
        while self.at < len(self._lines):
            self.at += 1
            if line := self._lines[self.at - 1].strip():
                return line
        raise ValueError("the file ends in the middle")

    def raw(self) -> str:
        """The next line, empty or not."""
        self.at += 1
        return self._lines[self.at - 1] if self.at <= len(self._lines) else ""

    def next_variable(self) -> str | None:
        """The name in the next line that has one; None at the end."""
        while self.at < len(self._lines):
            self.at += 1
            line = self._lines[self.at - 1]
            if line.startswith(_NAME):
                return line.removeprefix(_NAME).strip()
        return None

    def field(self, *keys: str) -> tuple[str, str]:
        """Key and value of the next line, `# key: value`, which must have one of the keys."""
        line = self.next()
        key, colon, value = line.removeprefix("# ").partition(":")
        if not line.startswith("# ") or not colon or key not in keys:
            raise ValueError(f"'{line[:40]}' where '# {' or '.join(keys)}:' was expected")
        return key, value.strip()

    def numbers(self, count: int) -> np.ndarray:
        """The next numbers, from as many lines as they take."""
        words: list[str] = []
        while len(words) < count:
            line = self.next()
            if line.startswith("#"):
                raise ValueError(f"{len(words)} numbers where {count} were expected")
            words += line.split()
        if len(words) > count:
            raise ValueError(f"more than the expected {count} numbers")
        return np.array(words, dtype=np.float64)


def _read_value(lines: _Lines, in_cell: bool = False) -> np.ndarray | list | str:
    _, kind = lines.field("type")
    if kind == "cell" and not in_cell:
        sizes, _ = _read_sizes(lines)
        cells: list[np.ndarray | list | str] = []
        for _ in range(math.prod(sizes)):
            if lines.field("name")[1] != _CELL_ELEMENT:
                raise ValueError(f"{len(cells)} cells where {math.prod(sizes)} were expected")
            cells.append(_read_value(lines, in_cell=True))
        return cells
    if kind in _SCALARS:
        return lines.numbers(1).reshape(1, 1)
    if kind in _MATRICES:
        sizes, order = _read_sizes(lines)
        return lines.numbers(math.prod(sizes)).reshape(sizes, order=order)
    if kind in _TEXTS:
        return _read_text(lines)
    raise ValueError(f"of the type '{kind[:40]}', expected a matrix{'' if in_cell else ', a cell of matrices'} or text")


def _read_sizes(lines: _Lines) -> tuple[tuple[int, ...], Literal["C", "F"]]:
    """The sizes, and in which order the numbers follow."""
    key, value = lines.field("rows", "ndims")
    if key == "rows":
        return (_size(value), _size(lines.field("columns")[1])), "C"
    sizes = tuple(_size(word) for word in lines.next().split())
    if len(sizes) != _size(value) or not 2 <= len(sizes) <= 16:
        raise ValueError(f"{len(sizes)} sizes where {value[:20]} were expected")
    return sizes, "F"


def _read_text(lines: _Lines) -> str:
    elements = _size(lines.field("elements")[1])
    if elements > 1:
        raise ValueError(f"text of {elements} lines, expected one")
    if elements == 0 or _size(lines.field("length")[1]) == 0:
        return ""
    return lines.raw()


def _pass_over(lines: _Lines) -> None:
    """Leave out a value. Those inside it have names too, which must not be taken for variables'."""
    _, kind = lines.field("type")
    if kind == "cell":
        inside = math.prod(_read_sizes(lines)[0])
    elif kind in _STRUCTS:
        _read_sizes(lines)
        inside = _size(lines.field("length")[1])
    else:
        inside = 0  # what follows, up to the next name, is the value
    for _ in range(inside):
        if lines.next_variable() is None:
            raise ValueError("the file ends in the middle")
        _pass_over(lines)


def _size(word: str) -> int:
    if not (word.isascii() and word.isdigit()) or len(word) > 12:
        raise ValueError(f"'{word[:20]}' where a size was expected")
    return int(word)
