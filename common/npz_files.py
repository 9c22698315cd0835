"""The field's npz files: nested dicts of arrays, read without running any code of the file, and written whole.

np.savez keeps a dict as a pickle, which `PickleReader` takes apart as data.
"""

import errno
import io
import os
import secrets
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from common.errors import DataError
from common.files import folder_for, why_not_written
from common.plain_pickle import (
    ARRAY_KINDS,
    COPY_AGAIN,
    EXPECTED,
    Bounded,
    PickleReader,
    RefusedError,
    check_tree,
    checked_count,
    describe,
    instructions_for,
    not_plain,
    show,
    shown_type,
)

# What a file may ask for. A file past a limit is refused before the memory is taken.
MAX_TOTAL_BYTES = 8 << 30  # all members that are read, unpacked
MAX_RATIO = 30  # unpacked : size on disk, where the former is past FREE_TOTAL_BYTES (poses pack 1 : 1.2)
FREE_TOTAL_BYTES = 64 << 20
_MAX_HEADER_BYTES = 10_000  # numpy's own limit for files that are not trusted
_CHUNK_BYTES = 1 << 20


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
            raise RefusedError("is a folder, expected an npz file", "give the file's own path")
        if not path.exists():
            raise RefusedError("not found", "data/README.md shows how to make it")
        if not path.is_file():
            raise RefusedError("is not a regular file, expected an npz file", "give the file's own path")
        with _open_zip(path) as archive:
            return _read_members(path, archive, keys, optional)
    except RefusedError as error:
        raise DataError(f"{path}: {error.found}; {error.remedy}") from error
    except OSError as error:
        reason = error.strerror or describe(error)
        raise DataError(f"{path}: cannot be read ({reason}); check its permissions, or {COPY_AGAIN}") from error
    except Exception as error:  # a damaged zip makes zipfile raise nearly anything
        found = f"damaged ({describe(error)}), expected an npz file"
        raise DataError(f"{path}: {found}; {COPY_AGAIN}") from error


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
            raise RefusedError("it is a folder", "give a file's path")
        arrays = {name: _writable_array(name, member) for name, member in members.items()}
        temporary = path.with_name(f".{secrets.token_hex(8)}.npz.tmp")
        with folder_for(path.parent):
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
    except RefusedError as error:
        raise DataError(f"{path}: not written, {error.found}; {error.remedy}") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path, a lone surrogate in a member's name
        reason = why_not_written(path, error) if isinstance(error, OSError) else describe(error)
        remedy = "give a folder and names that can be written"
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space or give another folder"
        raise DataError(f"{path}: cannot be written ({reason}); {remedy}") from error


# --- the zip ---


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        with open(path, "rb") as stream:
            start = stream.read(6)
        if start.startswith(b"PK"):
            raise RefusedError("is a zip file cut off or damaged, expected an npz file", COPY_AGAIN) from None
        if start == b"\x93NUMPY":
            raise RefusedError("is a single npy array, expected an npz file", "save it with np.savez") from None
        raise RefusedError("is not a zip file, expected an npz file") from None


def _read_members(
    path: Path, archive: zipfile.ZipFile, keys: Sequence[str] | None, optional: Sequence[str]
) -> dict[str, object]:
    infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    wanted = list(infos) if keys is None else [*keys, *(key for key in optional if key in infos)]
    missing = [key for key in wanted if key not in infos]
    if missing:
        found = ", ".join(map(show, sorted(infos)[:20])) + (", ..." if len(infos) > 20 else "")
        raise RefusedError(f"has no member {', '.join(map(show, missing))}, only {found or 'none at all'}")

    size_on_disk = path.stat().st_size
    total = sum(infos[key].file_size for key in wanted)
    if total > MAX_TOTAL_BYTES or (total > FREE_TOTAL_BYTES and total > MAX_RATIO * size_on_disk):
        raise RefusedError(
            f"unpacks to {total} bytes from {size_on_disk}, expected at most {MAX_TOTAL_BYTES} "
            f"and, past {FREE_TOTAL_BYTES}, at most {MAX_RATIO} times the size on disk",
            "split the file or read fewer members",
        )
    instructions_left = instructions_for(size_on_disk)
    return {key: _read_member(archive, infos[key], key, instructions_left) for key in wanted}


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, key: str, instructions_left: Iterator) -> object:
    try:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RefusedError(f"is packed by zip method {info.compress_type}, expected 0 or 8 as numpy writes")
        with archive.open(info) as member:
            stream = Bounded(member, info.file_size)
            value = _read_npy(stream, instructions_left)
            if stream.remaining:  # with the last byte zipfile compares the checksum
                raise RefusedError(f"has {stream.remaining} bytes too many, expected the end")
            return value
    except RefusedError as error:
        raise RefusedError(f"member {show(key)} {error.found}", error.remedy) from error
    except MemoryError as error:
        raise RefusedError(f"member {show(key)} does not fit into memory", "free some memory") from error
    except OSError:
        raise
    except Exception as error:  # bytes that make no sense end up in nearly any exception
        found = f"member {show(key)} is damaged or odd ({describe(error)}), expected {EXPECTED}"
        raise RefusedError(found, COPY_AGAIN) from error


# --- the npy format ---


def _read_npy(stream: Bounded, instructions_left: Iterator) -> object:
    shape, fortran_order, dtype = _read_header(stream)
    if dtype.hasobject:
        array = PickleReader(stream, instructions_left).read()
        if not isinstance(array, np.ndarray) or array.dtype != object or array.shape != shape:
            raise RefusedError(
                f"holds a pickle of type {shown_type(array)}, expected an object array of its header's shape"
            )
        # A pickle takes a byte or more for each value, but by sharing lists inside lists it could stand for more than
        # anybody could ever go through.
        check_tree(array, 10 * stream.size + 1000)
        return array.item() if array.shape == () else array

    array = np.empty(checked_count(shape, dtype, stream.remaining), dtype)
    target = memoryview(array.view(np.uint8) if array.nbytes else bytearray())  # type: ignore[arg-type] # PEP 688, for types of Python 3.12 on
    for start in range(0, array.nbytes, _CHUNK_BYTES):
        chunk = stream.read(min(_CHUNK_BYTES, array.nbytes - start))
        target[start : start + len(chunk)] = chunk
    return array.reshape(shape, order="F" if fortran_order else "C")


def _read_header(stream: Bounded) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, column-major order and dtype, as the header claims them."""
    start = stream.read(min(8, stream.remaining))
    if not start.startswith(b"\x93NUMPY") or len(start) < 8:
        raise RefusedError(f"begins with {start[:6]!r}, expected an npy array", "save it with np.savez")
    version = (start[6], start[7])
    # Version 3.0 differs in the field names of structured arrays only, which are refused anyway.
    if version not in ((1, 0), (2, 0)):
        raise RefusedError(f"is npy version {version[0]}.{version[1]}, expected 1.0 or 2.0", "save it with np.savez")
    length_bytes = stream.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(length_bytes, "little")
    if length > _MAX_HEADER_BYTES:
        raise RefusedError(f"has an array header of {length} bytes, expected at most {_MAX_HEADER_BYTES}")
    header = io.BytesIO(length_bytes + stream.read(length))
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a Python 2 header, with its 3L, is as good as any
            shape, fortran_order, dtype = read_header(header)
    except Exception as error:  # it is parsed as a Python literal
        raise RefusedError(f"has no sensible array header ({describe(error)}), expected numpy's") from error
    if dtype.kind not in ARRAY_KINDS:
        raise not_plain(f"is an array of {show(str(dtype))}")
    return shape, fortran_order, dtype


def _writable_array(name: str, member: object) -> np.ndarray:
    try:
        array = np.asarray(member)
    except ValueError as error:  # lists of unequal lengths
        raise RefusedError(
            f"member {show(name)} makes no array ({describe(error)}), expected {EXPECTED}",
            "wrap lists of unequal lengths in a dict or an object array",
        ) from error
    try:
        check_tree(array)
    except RefusedError as error:
        raise RefusedError(f"member {show(name)} {error.found}", "convert it first") from error
    return array
