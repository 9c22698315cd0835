"""Finding a data set's files in the folders that a user names, and the folder that he meant if they are not there."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

_LEVELS = 2
"""How far above and below a folder that holds nothing the right one is looked for."""


def find_files(downloads: Iterable[Path], files: Mapping[str, str], folders: Iterable[str] = (".",)) -> dict[str, Path]:
    """Name -> file, for those that are there; the first place counts.

    Args:
        downloads: the folders that the user named.
        files: name -> path in a folder.
        folders: what may lie around the files inside a download.
    """
    places = [download / folder for download in downloads for folder in folders]
    found = {}
    for name, file in files.items():
        here = next((place / file for place in places if (place / file).is_file()), None)
        if here is not None:
            found[name] = here
    return found


def folder_meant(given: Path, holds: Callable[[Path], bool]) -> Path | None:
    """The folder above or below `given` that holds the data, where that can be told.

    Args:
        given: a folder that does not hold them.
        holds: whether a folder does.
    """
    return next((folder for folder in _around(given) if _readable(holds, folder)), None)


def _around(given: Path) -> Iterator[Path]:
    """Nearest first: the folders above, then those below."""
    yield from given.resolve().parents[:_LEVELS]
    for level in range(1, _LEVELS + 1):
        yield from sorted(given.glob("/".join("*" * level)))


def _readable(holds: Callable[[Path], bool], folder: Path) -> bool:
    try:
        return holds(folder)
    except OSError:  # a folder that may not be looked into
        return False
