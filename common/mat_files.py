"""MATLAB's data files (v5 to v7.3) and Octave's text files, read as data: no code that a file may hold is run.

Arrays come with MATLAB's dimensions, first index first, whatever the order on the disk.
"""

import math
import os
import zlib
from collections.abc import Collection
from pathlib import Path

import h5py
import numpy as np

from common.errors import DataError
from common.mat_v5 import is_mat_v5, most_bytes, read_mat_v5
from common.octave_text import is_octave_text, read_octave_text

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MOST_CELLS = 10_000
_USERBLOCK = 512  # bytes before the HDF5 part, with MATLAB's header

_DEFLATES_BEST = 1032  # times smaller
_AT_ONCE = 1 << 20  # bytes to unpack

Value = np.ndarray | list | str


def read_mat(path: str | os.PathLike, names: Collection[str], optional: Collection[str] = ()) -> dict[str, Value]:
    """Variables of a .mat file.

    Args:
        path: MATLAB's v5, v6, v7 or v7.3 format (Octave and scipy write the first three), or Octave's text format.
        names: the variables that must be there.
        optional: those that may be.

    Returns:
        Name -> a float64 array of at least two dimensions, text, or for a cell array the list of its cells (column by
        column), each an array or text.

    Raises:
        DataError: the file is absent, damaged, of another format, lacks a variable, or a variable is none of these.
    """
    path = Path(path)
    if not path.is_file():
        there = "is a folder, expected a .mat file" if path.is_dir() else "not found"
        raise DataError(f"{path}: {there}; give the path of the file itself")
    try:
        with open(path, "rb") as file:
            head = file.read(_USERBLOCK + len(_HDF5))
        found = _reader(head)(path, {*names, *optional})
    except OSError as error:
        raise DataError(f"{path} cannot be read ({_reason(error)}); it may be damaged: copy it again") from None
    except ValueError as error:
        raise DataError(f"{path}: {_reason(error)}; get it again, or save it anew with -v7") from None
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        raise DataError(f"{path} cannot be read ({_reason(error)}); it is damaged: copy it again") from None
    missing = sorted(set(names) - set(found))
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)}; give a file that has")
    return found


def finite_array(value: object, where: str) -> np.ndarray:
    """A variable or a cell that has to be an array of finite numbers.

    Raises:
        DataError: it is not; the line begins with `where`.
    """
    if not isinstance(value, np.ndarray):
        raise DataError(f"{where} is no array of numbers; make the file anew")
    if not np.isfinite(value).all():
        raise DataError(f"{where} has numbers that are not finite; make the file anew")
    return value


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _reader(head: bytes):
    if head.startswith(_HDF5) or head[_USERBLOCK:] == _HDF5:
        return _read_hdf5
    if is_mat_v5(head):
        return read_mat_v5
    if is_octave_text(head):
        return read_octave_text
    raise ValueError("no .mat file of MATLAB v5 to v7.3 nor Octave's text")


def _read_hdf5(path: Path, names: Collection[str]) -> dict[str, Value]:
    found = {}
    with h5py.File(path, "r") as file:
        for name in names:
            key = name.encode()
            if file.id.links.exists(key):
                # Other links lead to other places or files: no file of MATLAB's has them.
                if file.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
                    raise ValueError(f"{name} is a link, expected data")
                found[name] = _hdf5_value(file[name], name, most_bytes(path.stat().st_size))
    return found


def _hdf5_value(node: object, name: str, most: int, in_cell: bool = False) -> Value:
    """A dataset: dimensions are reversed, cells are references, what is empty says so and holds its sizes instead.

    It may claim numbers that the file does not have; as float64 they take at most so many bytes.
    """
    if not isinstance(node, h5py.Dataset):
        raise _odd(name, in_cell)
    if node.is_virtual or node.external:
        raise ValueError(f"{name} lies in another file, expected it in this one")
    # Whole chunks are read, and one may be larger than the data.
    if node.size is None or max(node.size, math.prod(node.chunks or ())) * max(node.dtype.itemsize, 8) > most:
        raise ValueError(f"{name} claims more than {most >> 20} MB or nothing, expected poses or errors")
    _check_packing(node, name, most)
    is_cell = h5py.check_ref_dtype(node.dtype) is h5py.Reference
    matlab_class = node.attrs.get("MATLAB_class", b"")
    if node.attrs.get("MATLAB_empty", 0):
        return [] if matlab_class == b"cell" else "" if matlab_class == b"char" else np.zeros((0, 0))
    if is_cell and not in_cell:
        return _hdf5_cells(node, name, most)
    if node.dtype.kind not in "fiub":
        raise _odd(name, in_cell)
    if matlab_class == b"char":
        return "".join(chr(int(letter)) for letter in node[()].ravel())
    return np.atleast_2d(node[()].astype(np.float64).T)


def _check_packing(node: h5py.Dataset, name: str, most: int) -> None:
    """That no chunk unpacks to more than it claims: HDF5 would unpack all of it."""
    if node.chunks is None:
        return
    made = node.id.get_create_plist()
    filters = {made.get_filter(number)[0] for number in range(made.get_nfilters())}
    if not filters <= {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}:
        raise ValueError(f"{name} is packed in another way than MATLAB's")
    claimed = math.prod(node.chunks) * node.dtype.itemsize
    for number in range(node.id.get_num_chunks() if filters else 0):
        info = node.id.get_chunk_info(number)
        if info.size * _DEFLATES_BEST > most:
            _, packed = node.id.read_direct_chunk(info.chunk_offset)
            if _unpacks_to_more(packed, claimed):
                raise ValueError(f"{name} has a part that unpacks to more than it claims")


def _unpacks_to_more(packed: bytes, size: int) -> bool:
    unpacker, left = zlib.decompressobj(), size
    try:
        while packed and left >= 0:
            left -= len(unpacker.decompress(packed, _AT_ONCE))
            packed = unpacker.unconsumed_tail
    except zlib.error:  # not packed, since it would not become smaller; or damaged, as HDF5 will find
        pass
    return left < 0


def _hdf5_cells(node: h5py.Dataset, name: str, most: int) -> list[Value]:
    if node.size > _MOST_CELLS:
        raise ValueError(f"{name} has {node.size} cells, expected a few")
    cells, bytes_left = [], most  # a small file can refer to one array many times
    for reference in node[()].ravel():  # reversed dimensions row by row: MATLAB's column by column
        cell = node.file[reference]
        bytes_left -= getattr(cell, "size", 0) * 8 + 8
        if bytes_left < 0:
            raise ValueError(f"{name} has cells of more than {most >> 20} MB together, expected errors")
        cells.append(_hdf5_value(cell, name, most, in_cell=True))
    return cells


def _odd(name: str, in_cell: bool) -> ValueError:
    where = f"a cell of {name}" if in_cell else name
    return ValueError(f"{where} is not an array of numbers{'' if in_cell else ', a cell of such'} or text")
