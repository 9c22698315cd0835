"""What the scripts that prepare data share.

What is done is kept until all is, so that an interrupted run goes on; and what is there is not replaced by less.
"""

import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from common.errors import DataError
from common.npz_files import read_npz, write_npz

GOES_ON = "run it again: it goes on with what is left"
"""What helps after Ctrl-C where a SequenceCache has kept what was done."""

_MOST_SHOWN = 8


class SequenceCache:
    """A folder of finished sequences beside the files that are being made.

    A sequence is taken from there if its sources have the size and the time of change that they had, and conversion
    and options are the same; else it is made again. What cannot be read counts as absent.

    Args:
        folder: made when the first sequence is kept, and removed by `remove`.
        conversion: the number of the conversion, one more whenever it makes something else of the same sources.
        options: all that a sequence depends on besides its sources; of what JSON can say.
    """

    def __init__(self, folder: Path, conversion: int, options: dict):
        self.folder = folder
        self.conversion = conversion
        self.options = options

    def get(self, name: str, sources: Iterable[Path], make: Callable[[], dict]) -> dict:
        """The sequence, made anew only if need be.

        Args:
            name: tells it from the others, such as "S1/Seq1".
            sources: the files that it is made of.
            make: makes it: a dict of what write_npz takes.
        """
        stamp = self._stamp(sources)
        path = self.folder / f"{name.replace('/', '_')}.npz"
        kept = _read(path)
        if kept is not None and kept["stamp"] == stamp:
            return kept["sequence"]
        sequence = make()
        write_npz(path, stamp=stamp, sequence=sequence)
        return sequence

    def remove(self) -> None:
        """Delete the finished sequences, once they are in the files that were to be made."""
        for path in self.folder.glob("*.npz*"):
            path.unlink()
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _stamp(self, sources: Iterable[Path]) -> str:
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
        return json.dumps([self.conversion, self.options, files], sort_keys=True)


def _read(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        members = read_npz(path, ["stamp", "sequence"])
    except DataError:
        return None
    return {"stamp": str(members["stamp"]), "sequence": members["sequence"]}


def check_nothing_is_lost(path: Path, member: str, levels: int, names: Collection[str]) -> None:
    """A file that is there has no sequence that the file to write in its place would lack.

    Args:
        path: the file to write.
        member: of the file: a dict of sequences.
        levels: 1 for name -> sequence, 2 for subject -> action -> sequence.
        names: of the sequences to write: "S1 Seq1", or subject and action, "S9 Walking 1".

    Raises:
        DataError: it has, or it cannot be read.
    """
    if not path.exists():
        return
    try:
        tree = read_npz(path, [member])[member]
        if not isinstance(tree, dict):
            raise DataError(f"{member} is no dict of sequences; move it away")
    except DataError as error:
        found = str(error).removeprefix(f"{path}: ")
        raise DataError(
            f"{path} is there and would be replaced, but {found}; or give --overwrite or another --out"
        ) from None
    lost = [name for name in _names(tree, levels) if name not in set(names)]
    if lost:
        shown = ", ".join(lost[:_MOST_SHOWN]) + (f" and {len(lost) - _MOST_SHOWN} more" if lost[_MOST_SHOWN:] else "")
        raise DataError(
            f"{path} is there and has {shown}, which would be lost; give what those are made of too, or --overwrite or "
            "another --out"
        )


def _names(tree: object, levels: int) -> list[str]:
    if levels == 0 or not isinstance(tree, dict):
        return [""]
    return [f"{name} {rest}".strip() for name, below in tree.items() for rest in _names(below, levels - 1)]
