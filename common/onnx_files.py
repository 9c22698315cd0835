"""A trained network as an ONNX file: what it says of itself, and reading one that may be odd or hostile.

The graph is the denoiser of one prompt, which is in it as numbers (`INPUTS`, `OUTPUT`; B windows, H hypotheses and F
frames are free). The metadata are all else that it takes to lift. `onnx` and `onnxruntime` are imported when used.
"""

import importlib
import json
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from common.datasets import DATASETS
from common.diffusion import MOST_TIMESTEPS
from common.errors import DataError, UsageError
from common.skeleton import Skeleton

FORMAT, VERSION = "DSGDiffu denoiser", 1
BEST_ONNX = "best_epoch_1_1.onnx"
"""The name in a run's folder of the network that its best epoch's checkpoint was exported as."""
INPUTS, OUTPUT = {"x_2d": 4, "x_t": 5, "t": 1}, {"x_start": 5}
"""How many axes each has: x_2d (B, F, J, 2), x_t and x_start (B, H, F, J, 3), float32; t (B,) int64."""
REMEDY = "name a file that python -m common.export_onnx wrote"
_MOST_BYTES = 1 << 30
"""Of a file. The published network takes 140 MB."""
_MOST_FRAMES = 100_000


@dataclass(frozen=True)
class OnnxDescription:
    """What a file says of the network in it; text that is there to be read names where it is from."""

    dataset: str
    """What it was trained on."""
    keypoints: str
    """The 2D input that it was trained on."""
    annotation: str
    """Which ground truth, in a dataset that has several."""
    units: str
    """Of the poses."""
    skeleton: Skeleton
    num_frames: int
    """F, at most, of a window."""
    fps: float
    """Frames a second of the motion that it was trained on."""
    width: int
    """D, of the network."""
    schedule: str
    """Of the diffusion: "cosine" (Nichol & Dhariwal 2021)."""
    num_timesteps: int
    """T, of the diffusion."""
    scale: float
    """Of poses against noise."""
    verb: str
    """The action word of the prompt in the graph; "" says nothing."""
    text_tower: str
    """Where the weights were from that the prompt was encoded with."""
    checkpoint: str
    """The name of the file that was exported."""
    checkpoint_sha256: str
    epoch: int

    def as_metadata(self) -> dict[str, str]:
        """Every value as JSON, by name."""
        return {"format": json.dumps(FORMAT), "version": json.dumps(VERSION)} | {
            name: json.dumps(value) for name, value in asdict(self).items()
        }

    def check(self) -> None:
        """Refuse what no export writes.

        Raises:
            ValueError: a value that cannot be.
        """
        if self.dataset not in DATASETS:
            raise ValueError("dataset is none that is known")
        known = DATASETS[self.dataset].skeleton
        if self.skeleton != known:
            raise ValueError(
                f"the skeleton is '{self.skeleton.name}' with {self.skeleton.num_joints} joints; {self.dataset} has "
                f"'{known.name}' with {known.num_joints}"
            )
        if self.schedule != "cosine":
            raise ValueError("schedule is not 'cosine'")
        for name, most in (("num_frames", _MOST_FRAMES), ("num_timesteps", MOST_TIMESTEPS), ("width", 1 << 20)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is not from 1 to {most}")
        for name in ("fps", "scale"):
            if not 0 < getattr(self, name) <= sys.float_info.max:  # JSON's whole numbers may be larger
                raise ValueError(f"{name} is no number above 0")
        if not 0 <= self.epoch <= 10**9:
            raise ValueError("epoch is not from 0 to 1000000000")
        for entry in fields(self):
            if entry.type is str and not getattr(self, entry.name).isprintable():
                raise ValueError(f"{entry.name} is not one line of text")


def require(name: str) -> ModuleType:
    """A package that ONNX files take: onnx, onnxscript (to write them) or onnxruntime.

    Raises:
        UsageError: it is not installed, or does not work here.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"ONNX needs the package {name}, which is not here ({error}); pip install -r requirements-predict.txt"
        ) from None


def read_onnx(path: Path) -> tuple[bytes, OnnxDescription]:
    """A file's bytes, which ONNX Runtime may be given, and what it says of itself.

    What is refused: other files than the export writes; whatever names another file (weights beside the file), an
    operator outside of ONNX's own (some of other domains read files), or a graph in a graph (which may run for ever).

    Raises:
        UsageError: onnx is not installed.
        DataError: not readable, no ONNX file, or not one of ours.
    """
    onnx = require("onnx")
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise DataError(f"{path} is no regular file; {REMEDY}")
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    if len(content) > _MOST_BYTES:
        raise DataError(f"{path} has more than {_MOST_BYTES >> 20} MB; {REMEDY}")
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, RecursionError):
        raise DataError(f"{path} is no ONNX file; {REMEDY}") from None
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if metadata.get("format") != json.dumps(FORMAT):
        raise DataError(f"{path} is no network of ours (it does not say '{FORMAT}'); {REMEDY}")
    if metadata.get("version") != json.dumps(VERSION):
        raise DataError(
            f"{path} has version {metadata.get('version', 'none')[:40]}; this code reads {VERSION}: export it again"
        )
    try:
        description = _described(metadata)
        _check_graph(model, description.skeleton.num_joints)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = str(error)[:200]
        raise DataError(f"{path} is not as the export writes it ({reason}); it may be damaged: {REMEDY}") from None
    return content, description


def _described(metadata: dict[str, str]) -> OnnxDescription:
    """
    Raises:
        KeyError, TypeError, ValueError: what is missing or odd.
    """
    kinds: dict[Any, Any] = {str: str, int: int, float: (int, float), Skeleton: dict}
    values: dict[str, Any] = {}
    for entry in fields(OnnxDescription):
        value = json.loads(metadata[entry.name])
        if not isinstance(value, kinds[entry.type]) or isinstance(value, bool):
            raise TypeError(f"{entry.name} is a {type(value).__name__}")
        values[entry.name] = value
    parts: dict[str, Any] = {
        name: tuple(part) if isinstance(part, list) else part for name, part in values["skeleton"].items()
    }
    description = OnnxDescription(**{**values, "skeleton": Skeleton(**parts)})
    description.check()
    return description


def _check_graph(model: Any, num_joints: int) -> None:
    """
    Raises:
        ValueError: what is not as the export writes it.
    """
    graph = model.graph
    if model.functions or graph.sparse_initializer or model.training_info:
        raise ValueError("it has functions, sparse weights or a training")
    tensors = [*graph.initializer]
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise ValueError(f"the operator {node.op_type[:40]!r} of the domain {node.domain[:40]!r}")
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise ValueError(f"a graph within the operator {node.op_type[:40]!r}")
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise ValueError("sparse weights")
            tensors += [attribute.t, *attribute.tensors]
    if any(tensor.external_data or tensor.data_location for tensor in tensors):
        raise ValueError("its weights are in another file")
    found = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.input}
    if found != INPUTS or {value.name: len(value.type.tensor_type.shape.dim) for value in graph.output} != OUTPUT:
        raise ValueError(f"its inputs are {', '.join(name[:40] for name in found)[:100]}; expected {', '.join(INPUTS)}")
    joints = {value.name: value.type.tensor_type.shape.dim[-2].dim_value for value in graph.input if value.name != "t"}
    if set(joints.values()) != {num_joints}:
        raise ValueError(f"its inputs have {joints} joints, and the skeleton {num_joints}")
