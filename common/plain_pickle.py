"""Pickles as data: the dicts, lists, arrays and numbers of numpy's and torch's files, built without running any code.

Loading a pickle may run any code, and deciding which names pickle.Unpickler may look up is not enough: nine bytes make
it take gigabytes (a memo index), two megabytes of nested tuples as a dict's key crash the interpreter, and ndarray and
dtype trust whatever state they are handed. So `PickleReader` interprets the pickle's instructions itself: it calls
nothing that the file names, and builds only what `check_tree` allows.
"""

import io
import math
import re
import sys
from collections.abc import Iterable, Iterator
from pickletools import genops
from typing import IO, Any, Literal, cast

import numpy as np

# What a file may ask for. A file past a limit is refused before the memory is taken.
MAX_INSTRUCTIONS = 5_000_000  # of all pickles that are read: some 1 GB of tiny objects (the field's files: 20 000)
FREE_INSTRUCTIONS = 200_000
BYTES_PER_INSTRUCTION = 8  # size on disk : instructions, where the latter are past FREE_INSTRUCTIONS (poses: 1000)
MAX_DEPTH = 100  # containers inside containers (the field's files: 5)

EXPECTED = "numpy arrays, dicts, lists, tuples, strings and numbers"
REMAKE = "make the file anew (data/README.md)"
COPY_AGAIN = f"copy it again or {REMAKE}"

ARRAY_KINDS = "biufcSUO"  # numpy's letters: bool, integers, float, complex, bytes, text, objects
_SCALARS = (str, bytes, int, float, bool, type(None))


class RefusedError(Exception):
    """What was found and expected, and what to do; the caller adds the path."""

    def __init__(self, found: str, remedy: str = REMAKE):
        super().__init__(found)
        self.found = found
        self.remedy = remedy


class NamesCodeError(RefusedError):
    """The file names a function or class that is none of those known."""

    def __init__(self, name: str):
        super().__init__(
            f"asks for {show(name.replace(' ', '.'))}, expected {EXPECTED}",
            f"no code from a data file is run: if you trust its source, {REMAKE} with plain data",
        )


def not_plain(found: str) -> RefusedError:
    return RefusedError(f"{found}, expected {EXPECTED}")


def show(text: str) -> str:
    """A name from a file, short and safe to print."""
    shown = ascii(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def describe(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text[:150]}" if text else type(error).__name__


def instructions_for(size_on_disk: int) -> Iterator[int]:
    """An item for each pickle instruction that a file of that size may have, all its pickles together."""
    return iter(range(min(MAX_INSTRUCTIONS, max(FREE_INSTRUCTIONS, size_on_disk // BYTES_PER_INSTRUCTION))))


class Bounded:
    """A member's bytes; nobody can ask for more of them than its stated size, whatever lengths the file claims."""

    def __init__(self, member: IO[bytes], size: int):
        self._stream = io.BufferedReader(
            cast(io.BufferedIOBase, member)
        )  # a pickle is read a byte at a time, which zipfile does slowly
        self.size = size
        self.remaining = size

    def read(self, count: int) -> bytes:
        if count > self.remaining:
            raise RefusedError(f"ends early: {count} bytes expected, {self.remaining} left", COPY_AGAIN)
        data = self._stream.read(count)
        if len(data) != count:
            raise EOFError(f"{count} bytes expected, {len(data)} found")
        self.remaining -= count
        return data

    def readline(self) -> bytes:
        line = self._stream.readline(self.remaining)
        self.remaining -= len(line)
        return line


def checked_count(shape: tuple, dtype: np.dtype, num_bytes: int) -> int:
    """Number of elements, where shape and dtype need just the bytes there are: a claim costs no memory."""
    if len(shape) > 32 or not all(type(length) is int and 0 <= length <= sys.maxsize for length in shape):
        raise RefusedError("has an array whose shape makes no sense, expected a tuple of sizes")
    count = math.prod(shape)
    if count * dtype.itemsize != num_bytes or (dtype.itemsize == 0 and count):
        raise RefusedError(
            f"claims an array of {show(str(dtype))} and shape {show(str(shape))}, "
            f"{count * dtype.itemsize} bytes, and has {num_bytes}; expected as many"
        )
    return count


# --- the pickle ---

Order = Literal["C", "F"]


class Function:
    """Stands for a function or class that the file names."""

    def __init__(self, name: str):
        self.name = name


class Unfinished:
    """An array or dtype between REDUCE, which makes it, and BUILD, which fills it."""

    def __init__(self, value: np.dtype | None):
        self.value: np.dtype | np.ndarray | None = value


# What numpy's pickles name; _core is the newer spelling of core. Protocol 2 has no bytes: they are text encoded back to
# latin1, or bytes() where empty.
NUMPY_FUNCTIONS = {
    "numpy ndarray": Function("ndarray"),
    "numpy dtype": Function("dtype"),
    "numpy.core.multiarray _reconstruct": Function("reconstruct"),
    "numpy.core.multiarray scalar": Function("scalar"),
    "numpy.core.numeric _frombuffer": Function("frombuffer"),
    "_codecs encode": Function("encode"),
    "__builtin__ bytes": Function("bytes"),
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


class PickleReader:
    """Interprets the instructions that pickle protocols 2 to 5 use for plain data; pickletools explains each of them.

    A file of another kind has a subclass, with more `functions` and what their calls give.

    Protocol 2 is that of Python 2 and of old numpy, 3 and 4 are those of later ones; 5 is there for hand-made files.

    Args:
        stream: the bytes of the pickle, read up to its end.
        instructions_left: gives an item for each instruction that may still be carried out.
    """

    functions = NUMPY_FUNCTIONS

    def __init__(self, stream: Bounded, instructions_left: Iterator):
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
        argument: Any  # None where an instruction has none, and then it is not looked at
        for opcode, argument, _ in genops(cast(IO[bytes], self._stream)):  # it asks for read and readline alone
            if next(self._instructions_left, None) is None:
                raise not_plain("has more pickle instructions than a file of its size may")
            match opcode.name:
                case name if name in _PUSHED:
                    stack.append(argument)
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    if argument not in memo:
                        raise not_plain(f"refers to a missing value {argument} in its pickle")
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
                    stack.append(self._known_function(argument))
                case "STACK_GLOBAL":
                    stack.append(self._known_function(" ".join(self._pop(2))))
                case "REDUCE":
                    stack.append(self._reduce(*self._pop(2)))
                case "BUILD":
                    stack.append(self._build(*self._pop(2)))
                case "NEWOBJ":
                    stack.append(self._new(*self._pop(2)))
                case "BINPERSID":
                    stack.append(self._persistent(*self._pop(1)))
                case "PROTO":
                    if argument > 5:
                        raise RefusedError(f"is of pickle protocol {argument}, expected 2 to 5")
                case "FRAME" | "STOP":
                    pass
                case name:
                    raise not_plain(f"uses the pickle instruction {name}")
        (result,) = stack
        return finished(result)

    def _known_function(self, name: str) -> Function:
        known = name.replace("numpy._core.", "numpy.core.", 1).replace("builtins ", "__builtin__ ", 1)
        if known not in self.functions:
            raise NamesCodeError(name)
        return self.functions[known]

    def _pop(self, count: int) -> list:
        if len(self._stack) < count:
            raise not_plain("takes from an empty stack in its pickle")
        start = len(self._stack) - count
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _pop_to_mark(self) -> list:
        return self._pop(max(0, len(self._stack) - self._marks.pop()))

    def _push_tuple(self, values: list) -> None:
        self._stack.append(tuple(map(finished, values)))

    def _extend(self, values: list) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise RefusedError(f"appends to a value of type {shown_type(target)} in its pickle, expected a list")
        target.extend(map(finished, values))

    def _set_items(self, values: list) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise RefusedError(
                f"sets items of a value of type {shown_type(target)} in its pickle, expected a dict and pairs"
            )
        for key, value in zip(values[::2], values[1::2], strict=True):
            _check_key(key)
            target[key] = finished(value)

    def _spend(self, num_bytes: int) -> None:
        self._bytes_left -= num_bytes
        if self._bytes_left < 0:
            raise not_plain(f"builds arrays larger than its own {self._stream.size} bytes")

    def _reduce(self, function: object, arguments: object) -> object:
        """What the call of one of the named functions would give, done here."""
        name = function.name if isinstance(function, Function) else None
        match name, arguments:
            case "reconstruct", (Function(name="ndarray"), (0,), b"b" | "b"):
                return Unfinished(None)
            case "dtype", (str(code), bool() | 0 | 1, bool() | 0 | 1):
                return Unfinished(_dtype(code))
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
        raise not_plain(f"calls {shown_type(function)} in a way numpy's own files do not")

    def _build(self, target: object, state: object) -> object:
        """The array or dtype that REDUCE left, filled; the memo may hold it too, and gets it through `finished`."""
        match target, state:
            case Unfinished(value=np.dtype() as dtype), (3 | 4, "<" | ">" | "|" | "=" as byte_order, *_):
                target.value = dtype.newbyteorder(byte_order)
            case Unfinished(value=None), (1, tuple(shape), np.dtype() as dtype, bool() | 0 | 1 as fortran_order, data):
                order: Order = "F" if fortran_order else "C"
                make = self._object_array if dtype.hasobject else self._array
                # As numpy does, the machine's own byte order from here on.
                target.value = make(data, dtype, shape, order).astype(dtype.newbyteorder("="), copy=False)
            case _:
                raise not_plain(f"sets the state of a value of type {shown_type(target)} in its pickle")
        return target

    def _new(self, kind: object, arguments: object) -> object:
        """What an object of a class named begins as."""
        raise not_plain("uses the pickle instruction NEWOBJ")

    def _persistent(self, key: object) -> object:
        """What lies beside the pickle under the key."""
        raise not_plain("uses the pickle instruction BINPERSID")

    def _array(self, data: object, dtype: np.dtype, shape: tuple, order: Order) -> np.ndarray:
        if isinstance(data, str):  # a Python 2 string, see read_npz
            data = data.encode("latin1")
        if not isinstance(data, (bytes, bytearray)) or dtype.hasobject:
            raise RefusedError(
                f"has {show(str(dtype))} data in a value of type {shown_type(data)}, expected numbers in bytes"
            )
        self._spend(len(data))
        if checked_count(shape, dtype, len(data)) == 0:
            return np.empty(shape, dtype, order=order)
        return np.frombuffer(data, dtype).reshape(shape, order=order).copy(order=order)

    def _object_array(self, data: object, dtype: np.dtype, shape: tuple, order: Order) -> np.ndarray:
        if type(data) is not list:
            raise RefusedError(f"has objects in a value of type {shown_type(data)}, expected a list")
        self._spend(len(data))
        if checked_count(shape, dtype, len(data) * dtype.itemsize) == 0:
            return np.empty(shape, dtype, order=order)
        # Not array[:] = data, which would take lists and arrays inside apart. Objects are in row-major order always.
        return np.fromiter(data, dtype, len(data)).reshape(shape).copy(order=order)


def _dtype(code: str) -> np.dtype:
    if not re.fullmatch(rf"[{ARRAY_KINDS}][0-9]{{1,9}}", code):
        raise not_plain(f"has an array of {show(code)}")
    return np.dtype(code)


def finished(value: object) -> object:
    return value.value if isinstance(value, Unfinished) and value.value is not None else value


def shown_type(value: object) -> str:
    value = finished(value)
    return show(value.name) if isinstance(value, Function) else type(value).__name__.strip("_").lower()


# --- what a file may hold ---


def _check_key(key: object) -> None:
    # Nothing whose hash a file's author could choose, which makes a dict take hours, and nothing that nests: hashing a
    # deep tuple overflows the interpreter's stack.
    if not isinstance(key, (str, bytes, np.integer)) and not (isinstance(key, int) and key.bit_length() <= 64):
        raise RefusedError(f"has a dict key of type {shown_type(key)}, expected text or an integer of up to 64 bits")


def check_tree(root: object, max_values: float = math.inf, leaves: tuple[type, ...] = ()) -> None:
    """Refuse what is not plain data.

    Args:
        root: arrays, dicts, lists, tuples, text, numbers and None, inside each other.
        max_values: the most values there may be, one that is shared counted wherever it appears.
        leaves: other types that are values.
    """
    sizes: dict[int, tuple[int, int]] = {}  # of the containers gone through: number of values, depth

    def visit(value: Any, level: int) -> tuple[int, int]:
        is_array = type(value) is np.ndarray or isinstance(value, np.generic)
        if is_array and value.dtype.kind not in ARRAY_KINDS:
            raise not_plain(f"holds {show(str(value.dtype))} values")
        if type(value) in (*_SCALARS, *leaves) or (is_array and not value.dtype.hasobject):
            return 1, 0
        if id(value) not in sizes:
            if level >= MAX_DEPTH:  # which is also where a container inside itself ends
                raise RefusedError(f"nests deeper than {MAX_DEPTH}, expected {EXPECTED} a few levels deep")
            if type(value) is dict:
                for key in value:
                    _check_key(key)
            below = [visit(child, level + 1) for child in _children(value)]
            sizes[id(value)] = 1 + sum(count for count, _ in below), 1 + max((depth for _, depth in below), default=0)
        count, depth = sizes[id(value)]
        if level + depth > MAX_DEPTH:
            raise RefusedError(f"nests deeper than {MAX_DEPTH}, expected {EXPECTED} a few levels deep")
        if count > max_values:
            raise not_plain(f"repeats its values to more than {max_values}")
        return count, depth

    visit(root, 0)


def _children(value: Any) -> Iterable:
    if type(value) is np.ndarray:
        return value.flat
    if type(value) is dict:
        return value.values()
    if type(value) in (list, tuple):
        return value
    raise not_plain(f"holds a value of type {shown_type(value)}")
