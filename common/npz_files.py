"""The field's npz files: nested dicts of arrays, read without running any code of the file, and written whole.

np.savez keeps a dict as a pickle, and loading a pickle may run any code. Deciding which names pickle.Unpickler may look
up is not enough: nine bytes make it take gigabytes (a memo index), two megabytes of nested tuples as a dict's key crash
the interpreter, and ndarray and dtype trust whatever state they are handed. So `_PickleReader` interprets the pickle's
instructions itself, as data: it calls nothing that the file names, and builds only what `_check_tree` allows.
"""

import errno
import io
import math
import os
import re
import secrets
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from pickletools import genops

import numpy as np
from numpy.lib import format as npy_format

from common.errors import DataError
from common.files import why_not_written

# What a file may ask for. A file past a limit is refused before the memory is taken.
MAX_TOTAL_BYTES = 8 << 30  # all members that are read, unpacked
MAX_RATIO = 30  # unpacked : size on disk, where the former is past FREE_TOTAL_BYTES (poses pack 1 : 1.2)
FREE_TOTAL_BYTES = 64 << 20
MAX_INSTRUCTIONS = 5_000_000  # of all pickles that are read: some 1 GB of tiny objects (the field's files: 20 000)
FREE_INSTRUCTIONS = 200_000
BYTES_PER_INSTRUCTION = 8  # size on disk : instructions, where the latter are past FREE_INSTRUCTIONS (poses: 1000)
MAX_DEPTH = 100  # containers inside containers (the field's files: 5)
_MAX_HEADER_BYTES = 10_000  # numpy's own limit for files that are not trusted
_CHUNK_BYTES = 1 << 20

_EXPECTED = "numpy arrays, dicts, lists, tuples, strings and numbers"
_REMAKE = "make the file anew (data/README.md)"
_COPY_AGAIN = f"copy it again or {_REMAKE}"

_ARRAY_KINDS = "biufcSUO"  # numpy's letters: bool, integers, float, complex, bytes, text, objects
_SCALARS = (str, bytes, int, float, bool, type(None))


def read_npz(
    path: str | os.PathLike, keys: Sequence[str] | None = None, optional: Sequence[str] = ()
) -> dict[str, object]:
    """Members of an npz file; no code that the file may hold is run.

    Python 2 strings are read as latin1, as numpy.load(encoding="latin1") does: every byte is a latin1 letter, so
    nothing fails, and Python 2 kept array data in such strings. Python 3 files have no such strings.

    Args:
        path: a file written by np.savez, np.savez_compressed or write_npz.
        keys: names of the members to read; all of them if None.
        optional: members to read as well, if they are there.

    Returns:
        Member name -> what was saved: a dict (or another plain object) where it was one, else an ndarray.

    Raises:
        DataError: the file is absent, is no npz file, is damaged, lacks a key, or holds more than plain data.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise _RefusedError("is a folder, expected an npz file", "give the file's own path")
        if not path.exists():
            raise _RefusedError("not found", "data/README.md shows how to make it")
        if not path.is_file():
            raise _RefusedError("is not a regular file, expected an npz file", "give the file's own path")
        with _open_zip(path) as archive:
            return _read_members(path, archive, keys, optional)
    except _RefusedError as error:
        raise DataError(f"{path}: {error.found}; {error.remedy}") from error
    except OSError as error:
        reason = error.strerror or _describe(error)
        raise DataError(f"{path}: cannot be read ({reason}); check its permissions, or {_COPY_AGAIN}") from error
    except Exception as error:  # a damaged zip makes zipfile raise nearly anything
        found = f"damaged ({_describe(error)}), expected an npz file"
        raise DataError(f"{path}: {found}; {_COPY_AGAIN}") from error


def write_npz(path: str | os.PathLike, /, **members: object) -> None:
    """Write an npz file as np.savez_compressed does, whole or not at all.

    The file is written beside its final place and moved there once it is on the disk, so a reader meets the old file
    or the new one. The parent folder is made. No suffix is added to the path.

    Args:
        path: the file to write; a file that is there is replaced.
        **members: member name -> array, or plain object (dict, list, ...) of what read_npz can read back.

    Raises:
        DataError: the file cannot be written, or a member holds what read_npz would refuse.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise _RefusedError("it is a folder", "give a file's path")
        arrays = {name: _writable_array(name, member) for name, member in members.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{secrets.token_hex(8)}.npz.tmp")
        try:
            with open(temporary, "xb") as stream:
                with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                    for name, array in arrays.items():
                        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                            npy_format.write_array(member, array, allow_pickle=True)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except _RefusedError as error:
        raise DataError(f"{path}: not written, {error.found}; {error.remedy}") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path, a lone surrogate in a member's name
        reason = why_not_written(path, error) if isinstance(error, OSError) else _describe(error)
        remedy = "give a folder and names that can be written"
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space or give another folder"
        raise DataError(f"{path}: cannot be written ({reason}); {remedy}") from error


class _RefusedError(Exception):
    """What was found and expected, and what to do; the caller adds the path."""

    def __init__(self, found: str, remedy: str = _REMAKE):
        super().__init__(found)
        self.found = found
        self.remedy = remedy


def _not_plain(found: str) -> _RefusedError:
    return _RefusedError(f"{found}, expected {_EXPECTED}")


def _show(text: str) -> str:
    """A name from a file, short and safe to print."""
    shown = ascii(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _describe(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text[:150]}" if text else type(error).__name__


# --- the zip ---


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        with open(path, "rb") as stream:
            start = stream.read(6)
        if start.startswith(b"PK"):
            raise _RefusedError("is a zip file cut off or damaged, expected an npz file", _COPY_AGAIN) from None
        if start == b"\x93NUMPY":
            raise _RefusedError("is a single npy array, expected an npz file", "save it with np.savez") from None
        raise _RefusedError("is not a zip file, expected an npz file") from None


def _read_members(
    path: Path, archive: zipfile.ZipFile, keys: Sequence[str] | None, optional: Sequence[str]
) -> dict[str, object]:
    infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    wanted = list(infos) if keys is None else [*keys, *(key for key in optional if key in infos)]
    missing = [key for key in wanted if key not in infos]
    if missing:
        found = ", ".join(map(_show, sorted(infos)[:20])) + (", ..." if len(infos) > 20 else "")
        raise _RefusedError(f"has no member {', '.join(map(_show, missing))}, only {found or 'none at all'}")

    size_on_disk = path.stat().st_size
    total = sum(infos[key].file_size for key in wanted)
    if total > MAX_TOTAL_BYTES or (total > FREE_TOTAL_BYTES and total > MAX_RATIO * size_on_disk):
        raise _RefusedError(
            f"unpacks to {total} bytes from {size_on_disk}, expected at most {MAX_TOTAL_BYTES} "
            f"and, past {FREE_TOTAL_BYTES}, at most {MAX_RATIO} times the size on disk",
            "split the file or read fewer members",
        )
    most = min(MAX_INSTRUCTIONS, max(FREE_INSTRUCTIONS, size_on_disk // BYTES_PER_INSTRUCTION))
    instructions_left = iter(range(most))
    return {key: _read_member(archive, infos[key], key, instructions_left) for key in wanted}


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str, instructions_left: Iterator) -> object:
    try:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _RefusedError(f"is packed by zip method {info.compress_type}, expected 0 or 8 as numpy writes")
        with archive.open(info) as member:
            stream = _Bounded(member, info.file_size)
            value = _read_npy(stream, instructions_left)
            if stream.remaining:  # with the last byte zipfile compares the checksum
                raise _RefusedError(f"has {stream.remaining} bytes too many, expected the end")
            return value
    except _RefusedError as error:
        raise _RefusedError(f"member {_show(key)} {error.found}", error.remedy) from error
    except MemoryError as error:
        raise _RefusedError(f"member {_show(key)} does not fit into memory", "free some memory") from error
    except OSError:
        raise
    except Exception as error:  # bytes that make no sense end up in nearly any exception
        found = f"member {_show(key)} is damaged or odd ({_describe(error)}), expected {_EXPECTED}"
        raise _RefusedError(found, _COPY_AGAIN) from error


class _Bounded:
    """A member's bytes; nobody can ask for more of them than its stated size, whatever lengths the file claims."""

    def __init__(self, member: io.BufferedIOBase, size: int):
        self._stream = io.BufferedReader(member)  # a pickle is read a byte at a time, which zipfile does slowly
        self.size = size
        self.remaining = size

    def read(self, count: int) -> bytes:
        if count > self.remaining:
            raise _RefusedError(f"ends early: {count} bytes expected, {self.remaining} left", _COPY_AGAIN)
        data = self._stream.read(count)
        if len(data) != count:
            raise EOFError(f"{count} bytes expected, {len(data)} found")
        self.remaining -= count
        return data

    def readline(self) -> bytes:
        line = self._stream.readline(self.remaining)
        self.remaining -= len(line)
        return line


# --- the npy format ---


def _read_npy(stream: _Bounded, instructions_left: Iterator) -> object:
    shape, fortran_order, dtype = _read_header(stream)
    if dtype.hasobject:
        array = _PickleReader(stream, instructions_left).read()
        if not isinstance(array, np.ndarray) or array.dtype != object or array.shape != shape:
            raise _RefusedError(
                f"holds a pickle of type {_shown_type(array)}, expected an object array of its header's shape"
            )
        # A pickle takes a byte or more for each value, but by sharing lists inside lists it could stand for more than
        # anybody could ever go through.
        _check_tree(array, 10 * stream.size + 1000)
        return array.item() if array.shape == () else array

    array = np.empty(_checked_count(shape, dtype, stream.remaining), dtype)
    target = memoryview(array.view(np.uint8)) if array.nbytes else b""
    for start in range(0, array.nbytes, _CHUNK_BYTES):
        chunk = stream.read(min(_CHUNK_BYTES, array.nbytes - start))
        target[start : start + len(chunk)] = chunk
    return array.reshape(shape, order="F" if fortran_order else "C")


def _read_header(stream: _Bounded) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, column-major order and dtype, as the header claims them."""
    start = stream.read(min(8, stream.remaining))
    if not start.startswith(b"\x93NUMPY") or len(start) < 8:
        raise _RefusedError(f"begins with {start[:6]!r}, expected an npy array", "save it with np.savez")
    version = (start[6], start[7])
    # Version 3.0 differs in the field names of structured arrays only, which are refused anyway.
    if version not in ((1, 0), (2, 0)):
        raise _RefusedError(f"is npy version {version[0]}.{version[1]}, expected 1.0 or 2.0", "save it with np.savez")
    length_bytes = stream.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(length_bytes, "little")
    if length > _MAX_HEADER_BYTES:
        raise _RefusedError(f"has an array header of {length} bytes, expected at most {_MAX_HEADER_BYTES}")
    header = io.BytesIO(length_bytes + stream.read(length))
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a Python 2 header, with its 3L, is as good as any
            shape, fortran_order, dtype = read_header(header)
    except Exception as error:  # it is parsed as a Python literal
        raise _RefusedError(f"has no sensible array header ({_describe(error)}), expected numpy's") from error
    if dtype.kind not in _ARRAY_KINDS:
        raise _not_plain(f"is an array of {_show(str(dtype))}")
    return shape, fortran_order, dtype


def _checked_count(shape: tuple, dtype: np.dtype, num_bytes: int) -> int:
    """Number of elements, where shape and dtype need just the bytes there are: a claim costs no memory."""
    if len(shape) > 32 or not all(type(length) is int and 0 <= length <= sys.maxsize for length in shape):
        raise _RefusedError("has an array whose shape makes no sense, expected a tuple of sizes")
    count = math.prod(shape)
    if count * dtype.itemsize != num_bytes or (dtype.itemsize == 0 and count):
        raise _RefusedError(
            f"claims an array of {_show(str(dtype))} and shape {_show(str(shape))}, "
            f"{count * dtype.itemsize} bytes, and has {num_bytes}; expected as many"
        )
    return count


# --- the pickle ---


class _Function:
    """Stands for a function or class that the file names."""

    def __init__(self, name: str):
        self.name = name


class _Unfinished:
    """An array or dtype between REDUCE, which makes it, and BUILD, which fills it."""

    def __init__(self, value: np.dtype | None):
        self.value: np.dtype | np.ndarray | None = value


# What numpy's pickles name; _core is the newer spelling of core. Protocol 2 has no bytes: they are text encoded back to
# latin1, or bytes() where empty.
_FUNCTIONS = {
    "numpy ndarray": _Function("ndarray"),
    "numpy dtype": _Function("dtype"),
    "numpy.core.multiarray _reconstruct": _Function("reconstruct"),
    "numpy.core.multiarray scalar": _Function("scalar"),
    "numpy.core.numeric _frombuffer": _Function("frombuffer"),
    "_codecs encode": _Function("encode"),
    "__builtin__ bytes": _Function("bytes"),
}

# Instructions whose argument is the value.
# fmt: off
_PUSHED = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
))
# fmt: on
_TUPLE_LENGTHS = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _PickleReader:
    """Interprets the instructions that pickle protocols 2 to 5 use for plain data; pickletools explains each of them.

    Protocol 2 is that of Python 2 and of old numpy, 3 and 4 are those of later ones; 5 is there for hand-made files.

    Args:
        stream: the bytes of the pickle, read up to its end.
        instructions_left: gives an item for each instruction that may still be carried out.
    """

    def __init__(self, stream: _Bounded, instructions_left: Iterator):
        self._stream = stream
        self._instructions_left = instructions_left
        self._stack: list = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        # Without it a file could build thousands of large arrays out of the bytes of one. Twice its size: protocol 2
        # has the bytes of an array as text first.
        self._bytes_left = 2 * stream.size

    def read(self) -> object:
        stack, memo = self._stack, self._memo
        for opcode, argument, _ in genops(self._stream):
            if next(self._instructions_left, None) is None:
                raise _not_plain("has more pickle instructions than a file of its size may")
            match opcode.name:
                case name if name in _PUSHED:
                    stack.append(argument)
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    if argument not in memo:
                        raise _not_plain(f"refers to a missing value {argument} in its pickle")
                    stack.append(memo[argument])
                case "NONE":
                    stack.append(None)
                case "NEWTRUE" | "NEWFALSE" as name:
                    stack.append(name == "NEWTRUE")
                case "MARK":
                    self._marks.append(len(stack))
                case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                    self._push_tuple(self._pop(_TUPLE_LENGTHS[name]))
                case "TUPLE":
                    self._push_tuple(self._pop_to_mark())
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_DICT":
                    stack.append({})
                case "APPEND":
                    self._extend(self._pop(1))
                case "APPENDS":
                    self._extend(self._pop_to_mark())
                case "SETITEM":
                    self._set_items(self._pop(2))
                case "SETITEMS":
                    self._set_items(self._pop_to_mark())
                case "GLOBAL":
                    stack.append(_known_function(argument))
                case "STACK_GLOBAL":
                    stack.append(_known_function(" ".join(self._pop(2))))
                case "REDUCE":
                    stack.append(self._reduce(*self._pop(2)))
                case "BUILD":
                    stack.append(self._build(*self._pop(2)))
                case "PROTO":
                    if argument > 5:
                        raise _RefusedError(f"is of pickle protocol {argument}, expected 2 to 5")
                case "FRAME" | "STOP":
                    pass
                case name:
                    raise _not_plain(f"uses the pickle instruction {name}")
        (result,) = stack
        return _finished(result)

    def _pop(self, count: int) -> list:
        if len(self._stack) < count:
            raise _not_plain("takes from an empty stack in its pickle")
        start = len(self._stack) - count
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _pop_to_mark(self) -> list:
        return self._pop(max(0, len(self._stack) - self._marks.pop()))

    def _push_tuple(self, values: list) -> None:
        self._stack.append(tuple(map(_finished, values)))

    def _extend(self, values: list) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise _RefusedError(f"appends to a value of type {_shown_type(target)} in its pickle, expected a list")
        target.extend(map(_finished, values))

    def _set_items(self, values: list) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise _RefusedError(
                f"sets items of a value of type {_shown_type(target)} in its pickle, expected a dict and pairs"
            )
        for key, value in zip(values[::2], values[1::2], strict=True):
            _check_key(key)
            target[key] = _finished(value)

    def _spend(self, num_bytes: int) -> None:
        self._bytes_left -= num_bytes
        if self._bytes_left < 0:
            raise _not_plain(f"builds arrays larger than its own {self._stream.size} bytes")

    def _reduce(self, function: object, arguments: object) -> object:
        """What the call of one of the named functions would give, done here."""
        name = function.name if isinstance(function, _Function) else None
        match name, arguments:
            case "reconstruct", (_Function(name="ndarray"), (0,), b"b" | "b"):
                return _Unfinished(None)
            case "dtype", (str(code), bool() | 0 | 1, bool() | 0 | 1):
                return _Unfinished(_dtype(code))
            case "scalar", (np.dtype() as dtype, data):
                return self._array(data, dtype, (), "C")[()]
            case "frombuffer", (data, np.dtype() as dtype, tuple(shape), "C" | "F" as order):
                return self._array(data, dtype, shape, order)
            case "frombuffer", (data, np.dtype() as dtype, tuple(shape), "K", tuple(axes)):
                return self._array(data, dtype, shape, "C").transpose(axes)
            case "encode", (str(text), "latin1"):
                self._spend(len(text))
                return text.encode("latin1")
            case "bytes", ():
                return b""
        raise _not_plain(f"calls {_shown_type(function)} in a way numpy's own files do not")

    def _build(self, target: object, state: object) -> object:
        """The array or dtype that REDUCE left, filled; the memo may hold it too, and gets it through `_finished`."""
        match target, state:
            case _Unfinished(value=np.dtype() as dtype), (3 | 4, "<" | ">" | "|" | "=" as byte_order, *_):
                target.value = dtype.newbyteorder(byte_order)
            case _Unfinished(value=None), (1, tuple(shape), np.dtype() as dtype, bool() | 0 | 1 as fortran_order, data):
                order = "F" if fortran_order else "C"
                make = self._object_array if dtype.hasobject else self._array
                # As numpy does, the machine's own byte order from here on.
                target.value = make(data, dtype, shape, order).astype(dtype.newbyteorder("="), copy=False)
            case _:
                raise _not_plain(f"sets the state of a value of type {_shown_type(target)} in its pickle")
        return target

    def _array(self, data: object, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
        if isinstance(data, str):  # a Python 2 string, see read_npz
            data = data.encode("latin1")
        if not isinstance(data, (bytes, bytearray)) or dtype.hasobject:
            raise _RefusedError(
                f"has {_show(str(dtype))} data in a value of type {_shown_type(data)}, expected numbers in bytes"
            )
        self._spend(len(data))
        if _checked_count(shape, dtype, len(data)) == 0:
            return np.empty(shape, dtype, order=order)
        return np.frombuffer(data, dtype).reshape(shape, order=order).copy(order=order)

    def _object_array(self, data: object, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
        if type(data) is not list:
            raise _RefusedError(f"has objects in a value of type {_shown_type(data)}, expected a list")
        self._spend(len(data))
        if _checked_count(shape, dtype, len(data) * dtype.itemsize) == 0:
            return np.empty(shape, dtype, order=order)
        # Not array[:] = data, which would take lists and arrays inside apart. Objects are in row-major order always.
        return np.fromiter(data, dtype, len(data)).reshape(shape).copy(order=order)


def _known_function(name: str) -> _Function:
    known = name.replace("numpy._core.", "numpy.core.", 1).replace("builtins ", "__builtin__ ", 1)
    if known not in _FUNCTIONS:
        raise _RefusedError(
            f"asks for {_show(name.replace(' ', '.'))}, expected {_EXPECTED}",
            f"no code from a data file is run: if you trust its source, {_REMAKE} with plain data",
        )
    return _FUNCTIONS[known]


def _dtype(code: str) -> np.dtype:
    if not re.fullmatch(rf"[{_ARRAY_KINDS}][0-9]{{1,9}}", code):
        raise _not_plain(f"has an array of {_show(code)}")
    return np.dtype(code)


def _finished(value: object) -> object:
    return value.value if isinstance(value, _Unfinished) and value.value is not None else value


def _shown_type(value: object) -> str:
    value = _finished(value)
    return _show(value.name) if isinstance(value, _Function) else type(value).__name__.strip("_").lower()


# --- what a file may hold ---


def _check_key(key: object) -> None:
    # Nothing whose hash a file's author could choose, which makes a dict take hours, and nothing that nests: hashing a
    # deep tuple overflows the interpreter's stack.
    if not isinstance(key, (str, bytes, np.integer)) and not (isinstance(key, int) and key.bit_length() <= 64):
        raise _RefusedError(f"has a dict key of type {_shown_type(key)}, expected text or an integer of up to 64 bits")


def _check_tree(root: object, max_values: float = math.inf) -> None:
    """Refuse what is not plain data.

    Args:
        root: arrays, dicts, lists, tuples, text, numbers and None, inside each other.
        max_values: the most values there may be, one that is shared counted wherever it appears.
    """
    sizes: dict[int, tuple[int, int]] = {}  # of the containers gone through: number of values, depth

    def visit(value: object, level: int) -> tuple[int, int]:
        is_array = type(value) is np.ndarray or isinstance(value, np.generic)
        if is_array and value.dtype.kind not in _ARRAY_KINDS:
            raise _not_plain(f"holds {_show(str(value.dtype))} values")
        if type(value) in _SCALARS or (is_array and not value.dtype.hasobject):
            return 1, 0
        if id(value) not in sizes:
            if level >= MAX_DEPTH:  # which is also where a container inside itself ends
                raise _RefusedError(f"nests deeper than {MAX_DEPTH}, expected {_EXPECTED} a few levels deep")
            if type(value) is dict:
                for key in value:
                    _check_key(key)
            below = [visit(child, level + 1) for child in _children(value)]
            sizes[id(value)] = 1 + sum(count for count, _ in below), 1 + max((depth for _, depth in below), default=0)
        count, depth = sizes[id(value)]
        if level + depth > MAX_DEPTH:
            raise _RefusedError(f"nests deeper than {MAX_DEPTH}, expected {_EXPECTED} a few levels deep")
        if count > max_values:
            raise _not_plain(f"repeats its values to more than {max_values}")
        return count, depth

    visit(root, 0)


def _children(value: object) -> Iterable:
    if type(value) is np.ndarray:
        return value.flat
    if type(value) is dict:
        return value.values()
    if type(value) in (list, tuple):
        return value
    raise _not_plain(f"holds a value of type {_shown_type(value)}")


def _writable_array(name: str, member: object) -> np.ndarray:
    try:
        array = np.asarray(member)
    except ValueError as error:  # lists of unequal lengths
        raise _RefusedError(
            f"member {_show(name)} makes no array ({_describe(error)}), expected {_EXPECTED}",
            "wrap lists of unequal lengths in a dict or an object array",
        ) from error
    try:
        _check_tree(array)
    except _RefusedError as error:
        raise _RefusedError(f"member {_show(name)} {error.found}", "convert it first") from error
    return array
