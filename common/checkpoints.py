"""Checkpoints: plain tensors, numbers and strings, enough to rebuild the network and to go on training.

They are read as data, so that loading one runs no code of the file. The frozen text tower is not in them: a
checkpoint names it by its fingerprint.
"""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.arguments import Options
from common.denoiser import DenoiserConfig
from common.diffusion import MOST_TIMESTEPS
from common.errors import DataError, UsageError
from common.files import find_in_run, replacing
from common.plain_pickle import NamesCodeError, RefusedError
from common.skeleton import Skeleton
from common.text_prompts import PromptPart
from common.torch_files import read_torch_file

FORMAT, VERSION = "DSGDiffu checkpoint", 1
BEST, BEST_EMA, LAST = "best_epoch_1_1.bin", "best_ema_1_1.bin", "last.bin"
"""The names in a run's folder of the best epoch's weights, of the best averaged ones (`--ema`), and of the place that
the training is at, with all it takes to go on."""
AUTO = "auto"
"""`--resume auto`: go on from LAST if there is one, else begin."""
UNITS = "2D in half image widths from the middle, 3D in metres from the root"
"""Of the poses that every reader gives and the network works on."""
_NOT_IN_ALL = ("tower", "annotation", "ema", "units")
"""What files of ours lack: every one the tower, older ones the others."""
_MOST_EPOCHS = 10**9


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
    ema: float = 0.0
    """The decay of the moving average that the weights are; 0: they are those of one step."""
    annotation: str = ""
    """Which ground truth it was trained on, in a dataset that has several; "" where the file does not say."""
    units: str = UNITS
    """Of the poses that it was trained on; files that do not say were trained on these."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write whole or not at all, and only what can be gone on with.

    Raises:
        DataError: the file cannot be written, or a weight is no finite number.
    """
    if not all(tensor.isfinite().all() for tensor in checkpoint.weights.values()):
        raise DataError(
            f"the weights are no finite numbers any more; {path} is left as it was: train again with a lower -lr, with "
            "--warmup or --clip-grad"
        )
    content = {entry.name: getattr(checkpoint, entry.name) for entry in fields(Checkpoint) if entry.name != "tower"}
    content["network"] = asdict(checkpoint.network)
    content["skeleton"] = asdict(checkpoint.skeleton)
    content["prompt_parts"] = [asdict(part) for part in checkpoint.prompt_parts]
    content["weights"] = {name: tensor.detach().cpu().clone() for name, tensor in checkpoint.weights.items()}
    with replacing(path) as part:
        try:
            with open(part, "wb") as file:
                torch.save({"format": FORMAT, "version": VERSION, **content}, file)
        except RuntimeError as error:  # what torch's writer makes of a full disk; what the system said is behind it
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_epoch(path: Path) -> int | None:
    """Of a checkpoint of ours; None where there is none."""
    return _load(path).get("epoch") if path.is_file() else None


def is_of_release(path: Path) -> bool:
    """Whether the network in a checkpoint is the public release's variant, whoever wrote the file.

    Raises:
        DataError: not readable.
    """
    content = _load(path)
    return "model_pos" in content or content.get("compat_release") is True


def find_checkpoint(name: str, folder: Path) -> Path:
    """See `find_in_run`."""
    return find_in_run(name, folder, "checkpoints", "*.bin")


def read_checkpoint(path: Path, skeleton: Skeleton | None, compat_release: bool, force: bool = False) -> Checkpoint:
    """Read a checkpoint for data of a skeleton.

    Args:
        path: the file, ours or the public release's.
        skeleton: of the data; None: the file's own, which the release's files do not name.
        compat_release: whether the user asked for the release's variant.
        force: whether another skeleton of as many joints, or other units, will do.

    Raises:
        UsageError: without a skeleton, a file that names none.
        DataError: not readable, damaged, with weights that are no finite numbers, of another skeleton or other units,
            or of the other variant.
    """
    content = _load(path)
    if content.get("format") == FORMAT:
        checkpoint = _ours(content, path)
    elif "model_pos" in content:
        if skeleton is None:
            raise UsageError(f"{path} does not say which data it was trained on; say -d h36m or -d 3dhp")
        from common.release_compat import read_release_checkpoint

        checkpoint = read_release_checkpoint(content, path, skeleton)
    else:
        keys = ", ".join(str(key)[:40] for key in list(content)[:5])
        raise DataError(f"{path} is no DSGDiffu checkpoint (it has {keys}); name one that main*.py wrote")
    for tensors in (checkpoint.weights, checkpoint.tower or {}):
        _check_weights(tensors, path)
    if skeleton is not None and tree(checkpoint.skeleton) != tree(skeleton):
        can_run = checkpoint.skeleton.num_joints == skeleton.num_joints
        what = (
            f"{path} was trained on the skeleton '{checkpoint.skeleton.name}' ({checkpoint.skeleton.num_joints} "
            f"joints); the data has '{skeleton.name}' ({skeleton.num_joints})"
        )
        refuse_or_note(what, "choose its dataset with -d", force and can_run, can_run)
    if checkpoint.units != UNITS:
        refuse_or_note(f"{path} was trained on '{checkpoint.units}'; the data is in '{UNITS}'", "convert it", force)
    if checkpoint.compat_release and not compat_release:
        raise DataError(f"{path} holds the public release's variant of the network; add --compat-release")
    if compat_release and not checkpoint.compat_release:
        raise DataError(f"{path} holds the corrected network; leave --compat-release out")
    return checkpoint


def refuse_or_note(what: str, remedy: str, force: bool, can_be_forced: bool = True) -> None:
    """Say that a checkpoint does not fit the data.

    Args:
        what: found and expected.
        remedy: what to do.
        force: whether to go on all the same (--force).
        can_be_forced: whether --force would help.

    Raises:
        DataError: not to go on.
    """
    if not force:
        raise DataError(f"{what}; {remedy}{', or go on all the same with --force' if can_be_forced else ''}")
    print(f"note: {what}")


def tree(skeleton: Skeleton) -> tuple:
    """What joints are to the network; their names it does not see."""
    return skeleton.parents, skeleton.joints_left, skeleton.joints_right


def _load(path: Path) -> dict:
    try:
        content = read_torch_file(path)
    except NamesCodeError:
        raise DataError(f"{path} holds more than tensors, numbers and strings: not read, it could run code") from None
    except RefusedError as error:
        raise DataError(f"{path} {error.found}; {error.remedy}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, no checkpoint; name a file that main*.py wrote")
    return content


def _ours(content: dict, path: Path) -> Checkpoint:
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise DataError(f"{path} has version {str(version)[:40]}; this code reads {VERSION}: update one of them")
    try:
        values = {entry.name: content[entry.name] for entry in fields(Checkpoint) if entry.name not in _NOT_IN_ALL}
        values |= {name: content[name] for name in ("annotation", "ema", "units") if name in content}
        values["network"] = _built(DenoiserConfig, values["network"])
        values["skeleton"] = _built(Skeleton, {name: _tuple(value) for name, value in values["skeleton"].items()})
        values["prompt_parts"] = tuple(_built(PromptPart, part) for part in values["prompt_parts"])
        checkpoint = _built(Checkpoint, values)
        if not 1 <= checkpoint.num_timesteps <= MOST_TIMESTEPS:
            raise ValueError(f"num_timesteps is not from 1 to {MOST_TIMESTEPS}")
        if checkpoint.scale is not None and not (math.isfinite(checkpoint.scale) and checkpoint.scale > 0):
            raise ValueError("scale is no number above 0")
        if not 0 <= checkpoint.epoch <= _MOST_EPOCHS:
            raise ValueError(f"epoch is not from 0 to {_MOST_EPOCHS}")
        if not 0 <= checkpoint.ema < 1:
            raise ValueError("ema is not from 0 to less than 1")
        for name in ("tower_source", "selection", "annotation", "units"):  # they are printed
            if not getattr(checkpoint, name).isprintable():
                raise ValueError(f"{name} is not one line of text")
        for name in ("dataset", "subjects_train", "val_subjects"):  # which results are comparable hangs on them
            if name not in checkpoint.options:
                raise KeyError(f"the option {name}")
        Options().over(checkpoint.options).check()
        for name, value in checkpoint.options.items():
            if isinstance(value, str) and not value.isprintable():
                raise ValueError(f"the option {str(name)[:40]!r} is not one line of text")
        check_denoiser(checkpoint.network, checkpoint.weights)
        return checkpoint
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, UsageError) as error:
        raise DataError(f"{path} lacks a part of a checkpoint ({error}); it may be damaged") from None


def check_denoiser(network: DenoiserConfig, weights: dict[str, Tensor]) -> None:
    """What would take the memory for a network is of the weights' size, before the network is built.

    Raises:
        KeyError, ValueError, AttributeError: it is not.
    """
    found = tuple(weights["denoiser.temporal_position"].shape)
    if found != (1, network.num_frames, network.width):
        raise ValueError(f"weights of another network: {found} for {network}")
    greatest = "denoiser.temporal_blocks.{}.mlp.fc1.weight"
    check_blocks(weights, greatest, network.depth, (2 * network.width, network.width))


def check_blocks(weights: dict[str, Tensor], name: str, number: int, shape: tuple[int, int]) -> None:
    """Each of so many blocks has one of its greatest weights, whole: the rest that is built is not far greater.

    Args:
        weights: a file's.
        name: of the weight, the block's number left open.
        number: of blocks.
        shape: of the weight.

    Raises:
        KeyError, ValueError, AttributeError: one has not.
    """
    storages = set()
    for block in range(number):
        weight = weights[name.format(block)]
        if tuple(weight.shape) != shape:
            raise ValueError(f"{name.format(block)} is {tuple(weight.shape)}, not {shape}")
        storages.add(weight.untyped_storage().data_ptr())
    if len(storages) != number:
        raise ValueError(f"{number} blocks share the numbers of {len(storages)}")


def _check_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Named tensors of finite real numbers, as many as the file has: what a network can be given.

    Raises:
        DataError: they are something else.
    """
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise DataError(f"{path}: a weight is no tensor with a name; it may be damaged")
        if not holds_real_numbers(tensor):
            raise DataError(f"{path}: the weight {name[:80]} is no plain tensor of real numbers; it may be damaged")
        if not tensor.float().isfinite().all():
            raise DataError(
                f"{path}: the weight {name[:80]} has values that are no finite numbers; the training went wrong or the "
                "file is damaged: take an earlier epoch's"
            )


def holds_real_numbers(tensor: Tensor) -> bool:
    """Whether it is dense and floating, and has all of its values in memory, none standing for many."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.is_floating_point()
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


def _built(kind: type, values: dict):
    """The dataclass `kind` of the values of a file, whose plain fields are of the types that it declares.

    Raises:
        TypeError: one is not, or is missing or unknown.
    """
    plain: dict[Any, Any] = {
        bool: bool, int: int, float: (float, int), str: str, dict: dict,
        str | None: (str, type(None)), float | None: (float, int, type(None)), dict | None: (dict, type(None)),
        dict[str, Tensor]: dict,
    }  # fmt: skip
    for entry in fields(kind):
        if entry.type in plain and entry.name in values and not isinstance(values[entry.name], plain[entry.type]):
            raise TypeError(f"{entry.name} is a {type(values[entry.name]).__name__}")
    return kind(**values)
