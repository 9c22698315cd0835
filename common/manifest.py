"""What a run was made of, for whoever wants its numbers again: manifest.json in its folder."""

import datetime
import importlib.metadata
import platform
import re
import subprocess
import sys
from pathlib import Path

import torch

from common import processes
from common.arguments import Options
from common.checkpoints import UNITS
from common.clip_text import TextTower
from common.errors import DataError
from common.files import read_json, sha256, write_json

MANIFEST = "manifest.json"
ROOT = Path(__file__).parents[1]


def write_manifest(
    folder: Path, options: Options, device: torch.device, tower: TextTower, annotation: str, epoch: int | None
) -> None:
    """Add a start of the run to its manifest, a list with an entry for each.

    Args:
        folder: the run's.
        options: the run's.
        device: that it trains on.
        tower: the text tower.
        annotation: which ground truth it is trained on, in a dataset that has several.
        epoch: the last one that was done, where it goes on; None: it begins.

    Raises:
        DataError: the manifest that is there is none, or cannot be written.
    """
    path = folder / MANIFEST
    starts: object = []
    if path.exists():
        starts = read_json(path, "it is no manifest that a run wrote: move it elsewhere")
    if not isinstance(starts, list):
        raise DataError(f"{path} is no manifest that a run wrote; move it elsewhere")
    start = {
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "goes_on_after_epoch": epoch,
        "options": options.as_data(),
        **made_with(options, device, tower, annotation),
    }
    write_json(path, [*starts, start])


def made_with(options: Options, device: torch.device, tower: TextTower, annotation: str) -> dict[str, object]:
    """What a training or an evaluation was made of, beside its options; arguments as those of `write_manifest`."""
    return {
        "command": sys.argv,
        "seeds": {"weights, order, noise": options.seed},
        "deterministic": options.deterministic or device.type == "cpu",
        "device": device_facts(device),
        "processes": processes.count(),
        "packages": package_versions(),
        "code": code_facts(ROOT),
        "data": {
            "dataset": options.dataset,
            "source_2d": options.keypoints,
            "annotation": annotation,
            "units": UNITS,
            "sha256": {path.name: sha256(path) for path in data_files(options)},
        },
        "text_tower": {"source": tower.source, "fingerprint": tower.fingerprint},
    }


def data_files(options: Options) -> list[Path]:
    """Those that the options' dataset is read from."""
    dataset, source = options.dataset, options.keypoints
    names = [f"data_3d_{dataset}.npz", *(f"data_{part}_{dataset}_{source}.npz" for part in ("2d", "train", "test"))]
    return [path for path in (Path(options.data_dir) / name for name in names) if path.is_file()]


def package_versions() -> dict[str, str | None]:
    """Python's, and of each package that the requirements name; None where it is not installed."""
    names = re.findall(r"^[\w-]+", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def device_facts(device: torch.device) -> dict[str, object]:
    """What decides the last bits of its sums."""
    if device.type == "cuda":
        return {"name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {
        "name": f"CPU ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})",
        "threads": torch.get_num_threads(),
    }


def code_facts(root: Path) -> dict[str, object]:
    """The git commit of the code, and whether it was changed since; None where it is not in git or git is not there."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return {"git_commit": None, "changed": None}  # a repository around it, of something else
        return {"git_commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": None, "changed": None}
