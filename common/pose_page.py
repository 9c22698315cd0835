"""A clip as one HTML file to look at from all sides: time slider, play, hypotheses on and off, error over time.

The page needs nothing but a browser of 2023 or later (it unpacks itself): plotly.js, which draws and turns the poses,
and the poses are in it. Letters: H hypotheses, F frames, J joints.
"""

import base64
import gzip
import os
from functools import cache

import numpy as np
from plotly.offline import get_plotlyjs

from common.files import write_text
from common.scenes import (
    ELEVATION,
    GRID_SPACING,
    SIDE_COLOURS,
    Scene,
    choose_frames,
    floor_and_radius,
    joint_sides,
    keypoint_box,
)
from common.templates import fill


def write_page(path: str | os.PathLike, scene: Scene, *, limit: int = 0, downsample: int = 1, skip: int = 0) -> None:
    """Write `scene` as an .html page.

    The prediction stays in the middle, and the floor moves under it. The truth is put there with its root on the
    prediction's, so that what is between the two is the error. A page opened as page.html#frame=12 begins with the
    clip's frame 12, counted from 1.

    Args:
        path: the file to write; its folder is made if need be, an older file is replaced.
        scene: what to draw.
        limit, downsample, skip: which frames, as in `common.rendering.write_animation`.

    Raises:
        UsageError: no such frames.
        DataError: the file cannot be written.
    """
    write_text(path, page(scene, choose_frames(scene, limit, downsample, skip)))


def page(scene: Scene, frames: list[int]) -> str:
    """The page's text, of these frames of the scene."""
    skeleton, sides = scene.skeleton, joint_sides(scene.skeleton)
    floor, radius = floor_and_radius(scene, frames)
    prediction = np.asarray(scene.prediction, float)[frames]
    root = prediction[:, [skeleton.root]]
    ground = root * [1, 1, 0]
    arrays = {
        "prediction": prediction - ground,
        "ground": root[:, 0, :2],
        "keypoints": np.asarray(scene.keypoints_2d, float)[frames],
    }
    if scene.ground_truth is not None and scene.joint_errors_mm is not None:
        truth = np.asarray(scene.ground_truth, float)[frames]
        arrays["truth"] = truth - truth[:, [skeleton.root]] + root - ground
        arrays["errors"] = scene.joint_errors_mm[frames]
        floor = min(floor, arrays["truth"][..., 2].min())
    if scene.hypotheses is not None and scene.joint_spread_mm is not None:
        arrays["hypotheses"] = np.asarray(scene.hypotheses, float)[:, frames] - ground
        arrays["spread"] = scene.joint_spread_mm[frames]
    floor = min(floor, arrays["prediction"][..., 2].min())
    numbers_and_times = [scene.number_and_time(frame) for frame in frames]
    azimuth, elevation = np.radians([scene.azimuth, ELEVATION])
    return fill(
        "pose_page.html",
        scene={
            "joints": list(skeleton.joint_names),
            "bones": [[joint, parent, sides[joint]] for joint, parent in skeleton.bones],
            "colours": SIDE_COLOURS,
            "box": list(keypoint_box(scene, frames)),
            "floor": float(floor),
            "radius": float(radius),
            "grid": GRID_SPACING,
            "viewer": [
                float(np.cos(elevation) * np.cos(azimuth)),
                float(np.cos(elevation) * np.sin(azimuth)),
                float(np.sin(elevation)),
            ],
            "numbers": [number for number, _ in numbers_and_times],
            "seconds": [round(seconds, 3) for _, seconds in numbers_and_times],
            "arrays": {name: _packed(array) for name, array in arrays.items()},
        },
        title=scene.title,
        num_hypotheses=0 if scene.hypotheses is None else len(scene.hypotheses),
        has_truth=scene.ground_truth is not None,
        plotly=_packed_plotly(),
    )


def _packed(array: np.ndarray) -> dict:
    """An array as the page reads it: 16-bit steps of its greatest value, 0.03 mm for a metre."""
    step = float(np.abs(array).max()) / np.iinfo(np.int16).max or 1.0
    return {"shape": list(array.shape), "step": step, "data": _text(np.round(array / step).astype("<i2").tobytes())}


@cache
def _packed_plotly() -> str:
    return _text(get_plotlyjs().encode())


def _text(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()
