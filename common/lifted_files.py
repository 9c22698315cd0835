"""What lifting found, as files: npz for programs, CSV for tables. N frames, J joints."""

import csv
import io
import json
import os

import numpy as np

from common.files import write_text
from common.lifting import Lifted
from common.npz_files import write_npz
from common.skeleton import Skeleton

AXES = "metres; camera space: x right, y down, z ahead of the camera"


def write_lifted(
    path: str | os.PathLike,
    lifted: Lifted,
    skeleton: Skeleton,
    confidences: np.ndarray,
    frames: np.ndarray,
    seconds: np.ndarray,
    fps: float,
    camera: dict,
    options: dict,
    about: dict,
) -> None:
    """Write an .npz that `numpy.load` reads without pickle; docs/PREDICT.md lists its members.

    Args:
        path: the file to write.
        lifted: one person's poses.
        skeleton: whose joints these are.
        confidences: (N, J); 0 where the keypoint was filled in.
        frames, seconds: (N,), their numbers in the input and when they are.
        fps: frames a second.
        camera, options, about: the camera, what was asked for, and what was done, plain values.

    Raises:
        DataError: the file cannot be written.
    """
    write_npz(
        path,
        poses_3d=lifted.poses_3d,
        root=lifted.root,
        spread=lifted.spread,
        keypoints_2d=lifted.keypoints,
        confidences=confidences,
        frames=frames,
        seconds=seconds,
        fps=np.float64(fps),
        joint_names=np.array(skeleton.joint_names),
        parents=np.array(skeleton.parents),
        axes=np.array(
            f"poses_3d: {AXES}; relative to the root ({skeleton.joint_names[skeleton.root]}). root: the same, from "
            "the camera. spread: metres, root mean square distance of the hypotheses from their mean. keypoints_2d: "
            "pixels, x right, y down"
        ),
        camera=np.array(json.dumps(camera)),
        options=np.array(json.dumps(options)),
        about=np.array(json.dumps(about)),
    )


def write_csv(
    path: str | os.PathLike, lifted: Lifted, skeleton: Skeleton, frames: np.ndarray, seconds: np.ndarray
) -> None:
    """Write a .csv, a row a frame: its number, the time, and every joint's x, y, z from the camera, metres (see AXES).

    Raises:
        DataError: the file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["frame", "seconds", *(f"{name}_{axis}" for name in skeleton.joint_names for axis in "xyz")])
    positions = lifted.poses_3d + lifted.root[:, None]
    rows = positions.reshape(len(positions), -1).tolist()
    for frame, second, joints in zip(frames.tolist(), seconds.tolist(), rows, strict=True):
        table.writerow([frame, f"{second:.4f}", *(f"{value:.5f}" for value in joints)])
    write_text(path, text.getvalue())
