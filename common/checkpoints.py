"""Checkpoints: plain tensors, numbers and strings, enough to rebuild the network and to go on training.

They are read with weights_only, so that loading one runs no code of the file. The frozen text tower is not in them: a
checkpoint names it by its fingerprint.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from common.denoiser import DenoiserConfig
from common.errors import DataError, UsageError
from common.files import replacing
from common.skeleton import Skeleton
from common.text_prompts import PromptPart

FORMAT, VERSION = "DSGDiffu checkpoint", 1
BEST, LAST = "best_epoch_1_1.bin", "last.bin"
"""The names in a run's folder of the best epoch's weights, and of the last epoch with all it takes to go on."""
_NOT_IN_ALL = ("tower", "annotation")
"""What files of ours lack: every one the tower, older ones the annotation."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    network: DenoiserConfig
    skeleton: Skeleton
    prompt_parts: tuple[PromptPart, ...]
    num_timesteps: int
    scale: float | None
    """None where the file does not say: the public release's do not."""
    weights: dict[str, Tensor]
    """Without the text tower."""
    tower_fingerprint: str
    tower_source: str
    compat_release: bool
    options: dict
    """Those of the training run."""
    selection: str
    """On which subjects the epoch was chosen."""
    epoch: int
    training: dict | None = None
    """What it takes to go on: optimizer, learning rate, random states, history. None in a best_epoch file."""
    tower: dict[str, Tensor] | None = None
    """Only in files that the public release wrote: its copy of the tower."""
    annotation: str = ""
    """Which ground truth it was trained on, in a dataset that has several; "" where the file does not say."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    content = {entry.name: getattr(checkpoint, entry.name) for entry in fields(Checkpoint) if entry.name != "tower"}
    content["network"] = asdict(checkpoint.network)
    content["skeleton"] = asdict(checkpoint.skeleton)
    content["prompt_parts"] = [asdict(part) for part in checkpoint.prompt_parts]
    content["weights"] = {name: tensor.detach().cpu().clone() for name, tensor in checkpoint.weights.items()}
    with replacing(path) as part:
        try:
            torch.save({"format": FORMAT, "version": VERSION, **content}, part)
        except RuntimeError as error:  # what torch's writer makes of a full disk
            raise OSError(str(error).splitlines()[0]) from None


def find_checkpoint(name: str, folder: Path) -> Path:
    """The file `name` in the run's folder, or by its own path.

    Raises:
        DataError: there is none; the line lists those that there are.
    """
    for path in (folder / name, Path(name)):
        if path.is_file():
            return path
    there = ", ".join(sorted(path.name for path in folder.glob("*.bin"))) or "none"
    raise DataError(f"{folder / name} not found; checkpoints there: {there}")


def read_checkpoint(path: Path, skeleton: Skeleton, compat_release: bool) -> Checkpoint:
    """Read a checkpoint for data of a skeleton.

    Args:
        path: the file, ours or the public release's.
        skeleton: of the data.
        compat_release: whether the user asked for the release's variant.

    Raises:
        DataError: not readable, damaged, of another skeleton, or of the other variant.
    """
    content = _load(path)
    if content.get("format") == FORMAT:
        checkpoint = _ours(content, path)
    elif "model_pos" in content:
        from common.release_compat import read_release_checkpoint

        checkpoint = read_release_checkpoint(content, path, skeleton)
    else:
        keys = ", ".join(map(str, list(content)[:5]))
        raise DataError(f"{path} is no DSGDiffu checkpoint (it has {keys}); name one that main*.py wrote")
    if checkpoint.skeleton.parents != skeleton.parents:
        raise DataError(
            f"{path} was trained on the skeleton '{checkpoint.skeleton.name}' ({checkpoint.skeleton.num_joints} "
            f"joints); the data has '{skeleton.name}' ({skeleton.num_joints}); choose its dataset with -d"
        )
    if checkpoint.compat_release and not compat_release:
        raise DataError(f"{path} holds the public release's variant of the network; add --compat-release")
    if compat_release and not checkpoint.compat_release:
        raise DataError(f"{path} holds the corrected network; leave --compat-release out")
    return checkpoint


def _load(path: Path) -> dict:
    try:
        with open(path, "rb") as file:
            is_saved = file.read(2) in (b"PK", b"\x80\x02")  # by torch.save, now and before 1.6
        content = _plain_content(path) if is_saved else None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    except UnpicklingError:
        raise DataError(f"{path} holds more than tensors, numbers and strings: not read, it could run code") from None
    except Exception:  # a damaged file can raise anything in the reader, and say anything
        raise DataError(f"{path} is damaged or no checkpoint; name a file that main*.py wrote") from None
    if not is_saved:
        raise DataError(f"{path} is no checkpoint; name a file that main*.py wrote")
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, no checkpoint; name a file that main*.py wrote")
    return content


def _plain_content(path: Path):
    """Tensors, numbers and strings alone; in a file of the public release, also stand-ins for what it adds to them."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        from common.release_compat import load_release_file

        content = load_release_file(path)
        if "model_pos" not in content:
            raise
        return content


def _ours(content: dict, path: Path) -> Checkpoint:
    if content.get("version") != VERSION:
        raise DataError(f"{path} has version {content.get('version')}; this code reads {VERSION}: update one of them")
    try:
        values = {entry.name: content[entry.name] for entry in fields(Checkpoint) if entry.name not in _NOT_IN_ALL}
        values["annotation"] = content.get("annotation", "")
        values["network"] = _built(DenoiserConfig, values["network"])
        values["skeleton"] = _built(Skeleton, {name: _tuple(value) for name, value in values["skeleton"].items()})
        values["prompt_parts"] = tuple(_built(PromptPart, part) for part in values["prompt_parts"])
        if not all(isinstance(tensor, Tensor) for tensor in values["weights"].values()):
            raise TypeError("weights that are no tensors")
        return _built(Checkpoint, values)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise DataError(f"{path} lacks a part of a checkpoint ({error}); it may be damaged") from None


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


def _built(kind: type, values: dict):
    """The dataclass `kind` of the values of a file, whose plain fields are of the types that it declares.

    Raises:
        TypeError: one is not, or is missing or unknown.
    """
    plain = {
        bool: bool, int: int, float: (float, int), str: str, dict: dict,
        str | None: (str, type(None)), float | None: (float, int, type(None)),
    }  # fmt: skip
    for entry in fields(kind):
        if entry.type in plain and entry.name in values and not isinstance(values[entry.name], plain[entry.type]):
            raise TypeError(f"{entry.name} is a {type(values[entry.name]).__name__}")
    return kind(**values)
