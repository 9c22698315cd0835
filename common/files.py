"""Writing files so that a reader meets the old one or the new one, never half of one."""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from common.errors import DataError


def why_not_written(path: Path, error: OSError) -> str:
    """What the system says, but for a file that stands where a folder of `path` would have to be: that."""
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        for folder in path.parents:
            if folder.exists() and not folder.is_dir():
                return f"{folder} is a file, not a directory"
    return error.strerror or str(error)


@contextlib.contextmanager
def folder_for(folder: Path) -> Iterator[None]:
    """Make the folder for what is written within this; where nothing came of it, what was made goes again."""
    new = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with contextlib.suppress(OSError):  # one that holds something stays, and those around it
            for place in new:
                if os.path.lexists(place):
                    place.rmdir()


@contextlib.contextmanager
def writable_folder(folder: Path, flag: str) -> Iterator[None]:
    """`folder_for`, seeing at once, before the work, that it can be written to.

    Args:
        folder: to make; it may be there.
        flag: the option that names it.

    Raises:
        DataError: it cannot.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder_for(folder))
            probe = folder / f".{os.getpid()}.probe"
            probe.touch()
            probe.unlink()
        except FileExistsError:
            raise DataError(f"{flag} {folder} is a file; name a folder") from None
        except OSError as error:
            raise DataError(f"{flag} {folder} cannot be written to ({error.strerror}); name another folder") from None
        yield


class NotWrittenError(DataError):
    """A file cannot be written, and what goes on would meet the same: no space, no permission."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A file name beside `path` to write to: on success it is on the disk and becomes `path`.

    A failure leaves neither it nor a folder that was made for it.

    Raises:
        DataError: the folder or the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")  # the suffix tells writers the format
    try:
        with folder_for(path.parent):
            try:
                # What the folder forbids is said before the work, and by the system; a link there is not followed.
                part.unlink(missing_ok=True)
                part.touch(exist_ok=False)
                yield part
                with open(part, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(part, path)
                sync_folder(path.parent)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        reason = why_not_written(path, error)
        raise NotWrittenError(
            f"{path} cannot be written ({reason}); a file that was there before is still whole"
        ) from None


def sync_folder(folder: Path) -> None:
    """Have the folder's names on the disk too: without it a crash of the machine can bring an older file back."""
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened, and the system sees to it
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def remove_parts(folder: Path) -> None:
    """Remove what runs that were killed while `replacing` left in the folder."""
    for part in folder.glob(".*.part.*"):
        part.unlink(missing_ok=True)


MOST_JSON_BYTES = 512 << 20
"""Read, a file takes some ten times as much memory (keypoints of one person for an hour: 60 MB)."""


def read_json(path: Path, remedy: str) -> object:
    """What a JSON file holds, which may be odd or hostile.

    Args:
        path: the file.
        remedy: what to do about one that cannot be read, for the message.

    Raises:
        DataError: it is no regular file, larger than MOST_JSON_BYTES, or no whole JSON.
    """
    if path.exists() and not path.is_file():  # a device or a pipe has no end, or none yet
        raise DataError(f"{path} is no regular file; {remedy}")
    try:
        size = path.stat().st_size
        if size > MOST_JSON_BYTES:
            raise DataError(f"{path} has {size >> 20} MB, expected at most {MOST_JSON_BYTES >> 20} MB; {remedy}")
        return json.loads(path.read_bytes())
    except RecursionError:
        raise DataError(f"{path} has lists inside lists without end; {remedy}") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        reason = str(error).replace("\n", " ")
        raise DataError(f"{path} is no whole JSON ({reason}); {remedy}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); {remedy}") from None


def write_text(path: str | os.PathLike, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, content: object) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def move_aside(folder: Path, patterns: Iterable[str]) -> Path | None:
    """Files of earlier work go to a folder of their own in the folder, which is returned; None if there are none."""
    there = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not there:
        return None
    earlier = unused(folder, "earlier_{}")
    earlier.mkdir()
    for path in there:
        path.rename(earlier / path.name)
    return earlier


def unused(folder: Path, pattern: str) -> Path:
    """The first of the pattern's numbered names that the folder does not hold."""
    return next(path for number in itertools.count(1) if not (path := folder / pattern.format(number)).exists())


def find_in_run(name: str, folder: Path, kind: str, pattern: str) -> Path:
    """The file `name` in the run's folder, or by its own path, which may lead anywhere.

    Args:
        name: as the user gave it.
        folder: the run's.
        kind, pattern: what such files are, and how they are called: those that there are stand in the refusal.

    Raises:
        DataError: there is none, or the name leads out of the folder.
    """
    inside, own = folder / name, Path(name)
    if inside.is_file() and not own.is_absolute() and not inside.resolve().is_relative_to(folder.resolve()):
        if own.is_file():
            return own
        raise DataError(
            f"{inside} leads out of the run's folder, to {inside.resolve()}; name that file by its own path"
        )
    for path in (inside, own):
        if path.is_file():
            return path
    there = ", ".join(sorted(path.name for path in folder.glob(pattern))) or "none"
    raise DataError(f"{folder / name} not found; {kind} there: {there}")
