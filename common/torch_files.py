"""What torch.save and TorchScript write, read as data: tensors, dicts, lists, tuples, text and numbers.

torch.load(weights_only=True) runs no code either, but a file can still crash it (a deep tuple as a dict's key) or have
it take memory that the file does not have: packed members, tensors made of a number, one storage under many names.
Here the zip file has to be as torch writes it, and its pickle is interpreted as the one of an npz file is.
"""

import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from common.plain_pickle import (
    NUMPY_FUNCTIONS,
    Bounded,
    Function,
    PickleReader,
    RefusedError,
    check_tree,
    describe,
    instructions_for,
    show,
)

_COPY_AGAIN = "copy it again"
_WROTE = "name a file that torch.save wrote"
_MOST_BYTES = 8 << 30
"""Of a file. The public release's have 850 MB."""
_CHUNK_BYTES = 1 << 20
_OLD_FORMAT = b"\x80\x02"

_DTYPES = {
    "torch BoolStorage": torch.bool,
    "torch ByteStorage": torch.uint8,
    "torch CharStorage": torch.int8,
    "torch ShortStorage": torch.int16,
    "torch IntStorage": torch.int32,
    "torch LongStorage": torch.int64,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch ComplexFloatStorage": torch.complex64,
    "torch ComplexDoubleStorage": torch.complex128,
}
_FUNCTIONS = {
    **NUMPY_FUNCTIONS,
    **{name: Function(name) for name in _DTYPES},
    "collections OrderedDict": Function("OrderedDict"),
    "torch Size": Function("Size"),
    "torch._utils _rebuild_tensor_v2": Function("rebuild_tensor"),
    "torch._utils _rebuild_parameter": Function("rebuild_parameter"),
    # A numpy RandomState, which the public release's checkpoints hold, is taken for nothing.
    "numpy.random._pickle __randomstate_ctor": Function("nothing"),
    "numpy.random._pickle __bit_generator_ctor": Function("nothing"),
    "numpy.random._mt19937 MT19937": Function("nothing"),
}
_SCRIPT_MODULES = "__torch__."
_SCRIPT_LISTS = tuple(f"torch.jit._pickle build_{kind}list" for kind in ("int", "double", "bool", "tensor"))


def read_torch_file(path: str | os.PathLike) -> object:
    """The content of a file of torch.save (since torch 1.6) or of torch.jit.save; no code that it may hold is run.

    Returns:
        What was saved. Tensors are on the CPU and share no memory with the file; an OrderedDict is a dict, a Parameter
        a tensor, a TorchScript module a dict of its attributes, a numpy RandomState None.

    Raises:
        NamesCodeError: it names a function or class that is none of those above.
        RefusedError: it is no such file, is damaged, or holds something else.
        OSError: it cannot be read.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if start.startswith(_OLD_FORMAT):
            raise RefusedError(
                "is in the format of torch before 1.6 or a bare pickle",
                "if it is torch's and you trust it, load it there and save it again with a newer torch",
            )
        if not start.startswith(b"PK"):
            raise RefusedError("is no checkpoint", _WROTE)
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path.stat().st_size)
    except (RefusedError, OSError):
        raise
    except MemoryError:
        raise RefusedError("does not fit into memory", "free some memory") from None
    except Exception as error:  # a damaged file can raise anything in the readers
        raise RefusedError(f"is damaged ({describe(error)})", _COPY_AGAIN) from None


def _read(archive: zipfile.ZipFile, size_on_disk: int) -> object:
    if size_on_disk > _MOST_BYTES:
        raise RefusedError(f"has {size_on_disk >> 30} GiB, expected at most {_MOST_BYTES >> 30}", _WROTE)
    names = Counter(archive.namelist())
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise RefusedError(f"is damaged ({show(twice[0])} is in it twice)", _COPY_AGAIN)
    claimed = sum(info.compress_size for info in archive.infolist())
    if claimed > size_on_disk:  # members over each other
        raise RefusedError(f"is damaged (it claims {claimed} bytes and has {size_on_disk})", _COPY_AGAIN)
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise RefusedError("is a zip file, but no checkpoint", _WROTE)
    info = _stored(archive, pickles[0])
    folder = info.filename.removesuffix("data.pkl")
    if f"{folder}byteorder" in names and archive.read(_stored(archive, f"{folder}byteorder")) != b"little":
        raise RefusedError("was saved on a machine of another byte order", "save it again on one like this")
    with archive.open(info) as member:
        stream = Bounded(member, info.file_size)
        reader = _TorchPickleReader(stream, instructions_for(size_on_disk), archive, folder)
        content = reader.read()
        if stream.remaining:  # with the last byte zipfile compares the checksum
            raise RefusedError(f"is damaged ({stream.remaining} bytes after the end of its pickle)", _COPY_AGAIN)
    check_tree(content, 10 * info.file_size + 1000, leaves=(Tensor,))
    return content


def _stored(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise RefusedError(f"is damaged ({show(name)} in it is packed, which torch does not do)", _COPY_AGAIN)
    return info


class _Storage:
    """The bytes of one or more tensors."""

    def __init__(self, data: Tensor, dtype: torch.dtype):
        self.data, self.dtype = data, dtype


class _TorchPickleReader(PickleReader):
    """Adds tensors, whose numbers are members of the archive beside the pickle, and TorchScript's modules."""

    functions = _FUNCTIONS

    def __init__(self, stream: Bounded, instructions_left: Iterator, archive: zipfile.ZipFile, folder: str):
        super().__init__(stream, instructions_left)
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}
        self._modules: dict[int, dict] = {}

    def _known_function(self, name: str) -> Function:
        if name.startswith(_SCRIPT_MODULES):
            return Function("module")
        if name in _SCRIPT_LISTS:
            return Function("list")
        return super()._known_function(name)

    def _reduce(self, function: object, arguments: object) -> object:
        name = function.name if isinstance(function, Function) else None
        match name, arguments:
            case "rebuild_tensor", (_Storage() as storage, int(offset), tuple(size), tuple(stride), bool(), *_):
                return _tensor(storage, offset, size, stride)
            case "rebuild_parameter", (Tensor() as tensor, bool(), *_):
                return tensor
            case "OrderedDict", ():
                return {}
            case "Size", (tuple(size),):
                return size
            case "list", (list(values),):
                return values
            case "nothing", _:
                return None
        return super()._reduce(function, arguments)

    def _build(self, target: object, state: object) -> object:
        if target is None:
            return None
        if type(target) is dict and type(state) is dict:
            if id(target) in self._modules:
                target.update(state)
            return target  # an OrderedDict's own attributes are left out
        return super()._build(target, state)

    def _new(self, kind: object, arguments: object) -> object:
        if not isinstance(kind, Function) or kind.name != "module" or arguments != ():
            return super()._new(kind, arguments)
        module: dict = {}
        self._modules[id(module)] = module
        return module

    def _persistent(self, key: object) -> object:
        match key:
            case ("storage", Function() as kind, str(name), str(), int(count), *_) if kind.name in _DTYPES:
                dtype = _DTYPES[kind.name]
                if name not in self._storages:
                    self._storages[name] = self._member(f"{self._folder}data/{name}")
                data = self._storages[name]
                if count * dtype.itemsize != len(data):
                    raise RefusedError(f"is damaged (a tensor of {count} {dtype} has {len(data)} bytes)", _COPY_AGAIN)
                return _Storage(data, dtype)
        return super()._persistent(key)

    def _member(self, name: str) -> Tensor:
        info = _stored(self._archive, name)
        try:
            data = torch.empty(info.file_size, dtype=torch.uint8)
        except RuntimeError:  # torch's way of saying so
            raise MemoryError from None
        target = memoryview(data.numpy() if info.file_size else b"")  # type: ignore[arg-type] # PEP 688, for types of Python 3.12 on
        try:
            with self._archive.open(info) as member:
                at = 0
                while chunk := member.read(_CHUNK_BYTES):
                    target[at : at + len(chunk)] = chunk
                    at += len(chunk)
        except zipfile.BadZipFile:
            raise RefusedError(f"is damaged ({show(name)} in it is not as its checksum says)", _COPY_AGAIN) from None
        if at != info.file_size:
            raise RefusedError(f"is damaged ({show(name)} in it is cut off)", _COPY_AGAIN)
        return data


def _tensor(storage: _Storage, offset: int, size: tuple, stride: tuple) -> Tensor:
    flat = storage.data.view(storage.dtype)
    tensor = flat.as_strided(size, stride, offset)  # which checks that all of it lies in the storage
    if tensor.numel() > flat.numel():
        raise RefusedError(f"is damaged (a tensor of {tensor.numel()} numbers has {flat.numel()})", _COPY_AGAIN)
    return tensor
