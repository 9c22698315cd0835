"""What is fuzzed: each reader of files from elsewhere, the inputs it begins with, and what must hold of every answer.

An input is a whole file, or the part of one that is worth changing: what is inside a zip file or a compressed variable
has a checksum around it, which a random change would never get past, so it is packed when it is read.
"""

import io
import json
import pickle
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from scipy.io import savemat

from common.arguments import Options
from common.checkpoints import UNITS, Checkpoint, read_checkpoint, write_checkpoint
from common.datasets import load_dataset
from common.denoiser import DenoiserConfig
from common.errors import DataError, UsageError
from common.keypoint_formats import read_detections
from common.mat_files import read_mat
from common.npz_files import read_npz
from common.onnx_files import INPUTS, OUTPUT, OnnxDescription, read_onnx
from common.pose_files import layout_metadata
from common.skeleton import H36M
from common.text_prompts import ACTION_PROMPT
from tests.test_mat_files import save_v73

MOST_MEGABYTES = 256
"""That a small file may make its reader take."""
MOST_SECONDS = 20
"""Of the processor's time that it may take."""
LONGEST_LINE = 1500
"""Of what is said of a file."""
FINDINGS = Path(__file__).parent / "fuzz_findings"
"""A folder a target: inputs that once did harm."""


@dataclass(frozen=True)
class Target:
    """A reader."""

    file: str
    """The file's name, as the reader must see it."""
    read: Callable[[Path], object]
    seeds: Callable[[], Iterable[bytes]]
    """Inputs to begin with: one of each kind that it reads."""
    pack: Callable[[bytes], bytes] = bytes
    """From an input to the file."""
    words: tuple[str, ...] = ()
    """What such files have in them."""


def check(target: Target, data: bytes, folder: Path) -> bool:
    """Read the input; returns whether it was read, and not refused.

    Raises:
        AssertionError: it was refused in more than a line, or took too long or more memory than its size.
    """
    path = folder / target.file
    path.write_bytes(target.pack(data))
    before = _megabytes("VmRSS")
    begin = time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    try:
        target.read(path)
        was_read = True
    except (DataError, UsageError) as error:
        was_read = False
        line = str(error)
        assert line.isprintable(), f"not one line: {line!r}"
        assert 0 < len(line) <= LONGEST_LINE, f"{len(line)} letters: {line[:200]}"
    seconds = time.process_time() - begin
    assert seconds <= MOST_SECONDS, f"{seconds:.0f} s for {len(data)} bytes"
    taken = _megabytes("VmHWM") - before
    assert taken <= MOST_MEGABYTES, f"{taken:.0f} MB for {len(data)} bytes"
    return was_read


def _megabytes(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


# --- files to begin with ---


def _saved(write: Callable, *arguments: object, name: str = "seed", **named: object) -> bytes:
    """What `write(path, ...)` leaves in its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, *arguments, **named)
        return path.read_bytes()


def _poses(num_frames: int = 3) -> np.ndarray:
    return 100 + 30 * np.random.default_rng(0).random((num_frames, 17, 2)).astype(np.float32)


def _custom_members() -> dict[str, object]:
    sizes = {"v": {"w": 640, "h": 480, "fps": 25.0}}
    return {
        "positions_2d": {"v": {"walk": [_poses()]}},
        "metadata": {**layout_metadata(H36M), "video_metadata": sizes},
    }


def _npy(value: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(value), allow_pickle=True)
    return file.getvalue()


def _zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _with_metadata(data: bytes) -> bytes:
    return _zipped({"positions_2d.npy": data, "metadata.npy": _npy(_custom_members()["metadata"])})


def _npy_seeds() -> Iterable[bytes]:
    poses = _custom_members()["positions_2d"]
    yield _npy(poses)
    yield _npy(_poses())
    yield _npy(np.array(["a", "é"]))
    yield _npy({"a": 1, "b": [2.5, None, True, (1, 2)], "c": np.float64(3), "d": 2**70, "e": np.array([{}, "x"])})
    for protocol in (2, 3, 4, 5):  # which np.save does not choose
        header = _npy(poses).partition(b"\n")[0] + b"\n"
        yield header + pickle.dumps(np.array(poses), protocol=protocol)


def _keypoint_npz_seeds() -> Iterable[bytes]:
    three = np.concatenate([_poses(), np.ones((3, 17, 1), np.float32)], axis=2)
    yield _saved(np.savez, keypoints=three, layout="coco17", name="x.npz")
    boxes = np.empty(2, object)
    keypoints = np.empty(2, object)
    for frame in range(2):
        boxes[frame] = [[], np.array([[0, 0, 200, 200, 0.9]])]
        keypoints[frame] = [[], np.ones((1, 4, 17)) * 50]
    yield _saved(np.savez, boxes=boxes, keypoints=keypoints, metadata={"w": 640, "h": 480}, name="x.npz")
    yield _saved(np.savez_compressed, **_custom_members(), name="x.npz")


def _keypoint_seeds() -> Iterable[bytes]:
    flat = [float(value) for joint in range(17) for value in (100 + joint, 200 - joint, 0.9)]
    points, scores = [[100.0 + joint, 50.0] for joint in range(17)], [0.9] * 17
    person = {"image_id": "1.jpg", "keypoints": flat, "score": 2.5, "idx": 1, "box": [1, 2, 3, 4]}
    instances = [{"keypoints": points, "keypoint_scores": scores, "bbox_score": 0.9, "track_id": 1}]
    frames = [{"frame_id": 0, "instances": instances}, {"frame_id": 1, "instances": []}]
    for content in (
        [person, {**person, "image_id": "2.jpg", "idx": [[2.0]]}],
        {"1.jpg": [{"keypoints": [value for point in points for value in point], "scores": scores, "idx": 3}]},
        {
            "1.jpg": {"people": [{"pose_keypoints_2d": flat, "person_id": [-1]}]},
            "2.jpg": {"bodies": [{"joints": flat}]},
        },
        {"meta_info": {"dataset_name": "coco"}, "instance_info": frames},
        frames,
        [{"frame_id": 4, "keypoints": [points], "scores": [scores]}, {"keypoints": points, "scores": scores}],
        {"people": [{"pose_keypoints_2d": flat}]},
    ):
        yield json.dumps(content).encode()


def _variables() -> dict[str, object]:
    return {"poses": np.arange(6.0).reshape(2, 3), "text": "annot3", "cells": [np.ones((2, 2)), np.zeros((0, 0))]}


def _cells(values: list) -> np.ndarray:
    array = np.empty((len(values), 1), object)
    array[:, 0] = values
    return array


def _mat_v5(compress: bool = False, names: Iterable[str] = ()) -> bytes:
    variables = {**_variables(), "cells": _cells(_variables()["cells"]), "small": np.array([[1, 2]], np.uint8)}
    variables |= {"struct": {"a": 1.0}, "complex": np.array([1j])}
    chosen = {name: variables[name] for name in names or variables}
    return _saved(savemat, chosen, do_compression=compress, name="x.mat")


_OCTAVE = b"""# Created by Octave 8.4.0
# name: poses
# type: matrix
# rows: 2
# columns: 3
 1 2 3
 4 NaN -Inf


# name: cells
# type: cell
# rows: 2
# columns: 1
# name: <cell-element>
# type: int32 matrix
# ndims: 3
 1 2 1
 1
 2


# name: <cell-element>
# type: matrix
# rows: 0
# columns: 0



# name: other
# type: scalar struct
# ndims: 2
 1 1
# length: 1
# name: x
# type: scalar
1


# name: text
# type: string
# elements: 1
# length: 6
annot3
"""

_HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"


def _compressed(data: bytes) -> bytes:
    content = zlib.compress(data, 1)
    return _HEADER + np.array([15, len(content)], "<u4").tobytes() + content


def _v73() -> bytes:
    return _saved(save_v73, **_variables(), name="x.mat")


def _checkpoint() -> bytes:
    options = Options(keypoints="gt").as_data()
    training = {"learning_rate": 1e-3, "history": [{"epoch": 1}], "random_state": torch.get_rng_state()[:32].clone()}
    weights = {
        "denoiser.temporal_position": torch.zeros(1, 1, 8),
        "half": torch.ones(16).half(),
        "t": torch.ones(2, 4).T,
        "denoiser.temporal_blocks.0.mlp.fc1.weight": torch.zeros(16, 8),
    }
    network = DenoiserConfig(1, 8, 1)
    checkpoint = Checkpoint(
        network, H36M, ACTION_PROMPT, 1000, 1.0, weights, "00", "random", False, options, "S9", 1, training
    )
    return _saved(write_checkpoint, checkpoint)


def _release_checkpoint() -> bytes:
    state = {"module.Spatial_pos_embed": torch.zeros(1, 2, 4), "module.Temporal_pos_embed": torch.zeros(1, 1, 2, 4)}
    content = {"epoch": 3, "lr": 1e-4, "random_state": np.random.RandomState(0), "optimizer": {}, "model_pos": state}
    return _saved(lambda path: torch.save(content, path))


def _torchscript() -> bytes:
    module = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 4, bias=False), torch.nn.LayerNorm(8)))
    return _saved(lambda path: torch.jit.save(module, path))


def _onnx() -> bytes:
    """A network of no weights and all that is said of one."""
    import onnx
    from onnx import TensorProto, helper

    said = OnnxDescription(
        "h36m", "gt", "", UNITS, H36M, 9, 50.0, 8, "cosine", 1000, 1.0, "walking", "random", "a.bin", "00", 1
    )
    x_2d, x_t, x_start = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (
            ("x_2d", ["B", "F", 17, 2]), ("x_t", ["B", "H", "F", 17, 3]), ("x_start", ["B", "H", "F", 17, 3])
        )
    )  # fmt: skip
    t = helper.make_tensor_value_info("t", TensorProto.INT64, ["B"])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x_t", "zero"], ["x_start"])], "g", [x_2d, x_t, t], [x_start], [zero]
    )
    model = helper.make_model(graph)
    helper.set_model_props(model, said.as_metadata())
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _pickle_in(file: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        return next(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))


def _torch_packed(data: bytes) -> bytes:
    """The pickle, with storages beside it; all tensors of the files above have 32 bytes, but for one."""
    sizes = [32] * 8
    sizes[3] = 16 * 8 * 4
    return _zipped({"a/data.pkl": data, **{f"a/data/{number}": bytes(size) for number, size in enumerate(sizes)}})


def _checkpoints() -> list[bytes]:
    return [_checkpoint(), _release_checkpoint(), _torchscript()]


def _read_checkpoint(path: Path) -> None:
    read_checkpoint(path, H36M, compat_release=False)


_NAMES = ["poses", "text", "cells"]
_MAT_WORDS = (*_NAMES, "MATLAB_class", "double", "char", "cell", "IM", "MI")
_PICKLE_WORDS = (
    "cnumpy.core.multiarray\n_reconstruct\n", "cnumpy\nndarray\n", "cnumpy\ndtype\n", "c_codecs\nencode\n",
    "cnumpy.core.multiarray\nscalar\n", "ccollections\nOrderedDict\n", "ctorch._utils\n_rebuild_tensor_v2\n",
    "ctorch\nFloatStorage\n", "ctorch\nSize\n", "numpy.random._pickle", "storage", "latin1", "cbuiltins\neval\n",
)  # fmt: skip
_ONNX_WORDS = (*(entry.name for entry in fields(OnnxDescription)), *INPUTS, *OUTPUT, "ai.onnx", "Loop", "Add")
_JSON_WORDS = (
    "image_id", "keypoints", "scores", "score", "idx", "people", "bodies", "joints", "pose_keypoints_2d", "frame_id",
    "instances", "instance_info", "meta_info", "dataset_name", "keypoint_scores", "bbox_score", "track_id", "person_id",
    "NaN", "Infinity", "null", "true", "1e308", "1e999", "99999999999999999999", "-1", "[[[[", "{}", "[]",
)  # fmt: skip


def _read_mat(path: Path) -> None:
    read_mat(path, _NAMES)


def _read_custom(path: Path) -> None:
    load_dataset("custom", path.parent, "mine", training=False)


TARGETS = {
    "npz": Target("x.npz", read_npz, _keypoint_npz_seeds),
    "npy": Target("data_2d_custom_mine.npz", _read_custom, _npy_seeds, _with_metadata, _PICKLE_WORDS),
    "keypoint_npz": Target("x.npz", read_detections, _keypoint_npz_seeds),
    "keypoints": Target("x.json", read_detections, _keypoint_seeds, words=_JSON_WORDS),
    "keypoint_frames": Target(
        "1_keypoints.json", lambda path: read_detections(path.parent), _keypoint_seeds, words=_JSON_WORDS
    ),
    "mat": Target("x.mat", _read_mat, lambda: [_mat_v5(compress=True), _mat_v5()], words=_MAT_WORDS),
    "mat_compressed": Target(
        "x.mat", _read_mat, lambda: [_mat_v5(names=[name])[128:] for name in _NAMES], _compressed, _MAT_WORDS
    ),
    "mat_octave": Target("x.mat", _read_mat, lambda: [_OCTAVE], words=("# name: ", "# type: ", "# ndims: ")),
    "mat_v73": Target("x.mat", _read_mat, lambda: [_v73()], words=_MAT_WORDS),
    "checkpoint": Target("x.bin", _read_checkpoint, _checkpoints, words=_PICKLE_WORDS),
    "onnx": Target("x.onnx", read_onnx, lambda: [_onnx()], words=_ONNX_WORDS),
    "checkpoint_pickle": Target(
        "x.bin", _read_checkpoint, lambda: map(_pickle_in, _checkpoints()), _torch_packed, _PICKLE_WORDS
    ),
}
