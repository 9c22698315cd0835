"""What the scripts that prepare data share: what is done is kept until all is, so that an interrupted run goes on."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from common.errors import DataError
from common.npz_files import read_npz, write_npz


class SequenceCache:
    """A folder of finished sequences beside the files that are being made.

    A sequence is taken from there if its sources have the size and the time of change that they had, and the options
    are the same; else it is made again. What cannot be read counts as absent.

    Args:
        folder: made when the first sequence is kept, and removed by `remove`.
        options: all that a sequence depends on besides its sources; of what JSON can say.
    """

    def __init__(self, folder: Path, options: dict):
        self.folder = folder
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
        return json.dumps([self.options, files], sort_keys=True)


def _read(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        members = read_npz(path, ["stamp", "sequence"])
    except DataError:
        return None
    return {"stamp": str(members["stamp"]), "sequence": members["sequence"]}
