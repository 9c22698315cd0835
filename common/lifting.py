"""2D keypoints of one person to 3D: `lift`, the whole way but for the files.

Letters: N frames of the input, M of the network's frame rate, B windows, K sampling steps, H hypotheses, F frames of a
window, J joints.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm import tqdm

from common.aggregation import DEPLOYED, aggregate, hypothesis_spread
from common.blending import blend_windows, overlapping_starts
from common.camera import Camera, normalize_screen_coordinates
from common.input_cameras import PinholeCamera
from common.keypoint_tracks import fill_gaps
from common.resampling import resample, same_rate
from common.root_position import solve_root
from common.sampler import window_noise
from common.skeleton import Skeleton
from common.windows import window_frames

_POSES_AT_ONCE = 200_000
"""Poses of one frame, over all hypotheses and steps, that a call of `sample` returns: some 40 MB."""
_FRAMES_AT_ONCE = 2000
"""Of all hypotheses, whose aggregation takes some 400 bytes a joint on the way."""


class Lifter(Protocol):
    """A network that draws hypotheses for windows of 2D poses, whatever it runs on."""

    @property
    def skeleton(self) -> Skeleton: ...

    @property
    def num_frames(self) -> int:
        """F, at most, of a window."""
        ...

    @property
    def fps(self) -> float:
        """Frames a second of the motion that it was trained on."""
        ...

    def sample(self, x_2d: Tensor, noise: Tensor) -> Tensor:
        """Hypotheses of a batch of windows.

        Args:
            x_2d: (B, F, J, 2) float32, screen coordinates.
            noise: (K, B, H, F, J, 3) float32, standard normal, see `common.sampler.sample_steps`.

        Returns:
            (B, K, H, F, J, 3) float32 on the CPU, camera space, root-relative, metres: every step's prediction.
        """
        ...


@dataclass(frozen=True)
class Lifted:
    """3D poses of one person, frame by frame as the keypoints were. Camera space: x right, y down, z ahead; metres."""

    poses_3d: np.ndarray
    """(N, J, 3) float32, relative to the root, which is 0."""
    root: np.ndarray
    """(N, 3) float32, where the root is, seen from the camera."""
    spread: np.ndarray
    """(N, J) float32, metres: the root mean square distance of the hypotheses from their mean. An uncertainty."""
    hypotheses: np.ndarray
    """(H, N, J, 3) float32, relative to the root."""
    keypoints: np.ndarray
    """(N, J, 2) float32, pixels: what was lifted, gaps filled."""
    resampled_to: float | None
    """Frames a second that the network saw, where the input had others."""


def lift(
    keypoints: ArrayLike,
    camera: Camera | PinholeCamera,
    model: Lifter,
    *,
    confidences: ArrayLike | None = None,
    fps: float | None = None,
    num_hypotheses: int = 10,
    sampling_timesteps: int = 2,
    overlap: int | None = None,
    aggregation: str = "R_Agg",
    seed: int = 1,
    name: str = "",
    progress: str | None = None,
) -> Lifted:
    """Lift one person's keypoints, of any length and frame rate.

    Windows overlap and are blended, hypothesis by hypothesis: neighbours share the noise of the frames they share.

    Args:
        keypoints: (N, J, 2), pixels as the camera sees them, the model's joints in their order. One is missing where a
            coordinate of it is NaN or infinite: filled linearly over time, held at both ends.
        camera: its image's size and its intrinsics; see `common.input_cameras` for one of your own, or a guess.
        model: the network, such as `common.trained_lifter.load_lifter` gives.
        confidences: (N, J), at least 0, how much each keypoint counts where the root is sought, a missing one not at
            all; None: all the same.
        fps: frames a second of the keypoints; None: the model's.
        num_hypotheses, sampling_timesteps: H and K, from 1 on; K is at most the timesteps that the model knows.
        overlap: frames that neighbouring windows share, less than F; None: half a window.
        aggregation: one of DEPLOYED, how hypotheses become one answer.
        seed, name: noise follows from these; see `window_noise`.
        progress: the name of a progress bar; None shows none.

    Raises:
        DataError: a joint is in no frame.
        ValueError: shapes, numbers or names that do not fit each other.
    """
    J = model.skeleton.num_joints
    keypoints = _float_array("keypoints", keypoints, "(N, J, 2), pixels")
    if keypoints.ndim != 3 or keypoints.shape[1:] != (J, 2) or not len(keypoints):
        raise ValueError(f"keypoints have shape {keypoints.shape}; expected (N, {J}, 2) of {model.skeleton.name}")
    if confidences is not None:
        confidences = _float_array("confidences", confidences, "(N, J)")
        if confidences.shape != keypoints.shape[:2]:
            raise ValueError(f"confidences have shape {confidences.shape}; expected {keypoints.shape[:2]}")
        confidences = np.where(np.isfinite(keypoints).all(axis=-1), confidences, 0)
        if not (np.isfinite(confidences) & (confidences >= 0)).all():
            raise ValueError("confidences have numbers below 0, or not finite; expected 0 or more for every keypoint")
    if fps is not None and not 0 < fps < np.inf:
        raise ValueError(f"fps is {fps}; expected frames a second, above 0")
    if num_hypotheses < 1:
        raise ValueError(f"num_hypotheses is {num_hypotheses}; expected 1 or more")
    most = getattr(model, "num_timesteps", np.inf)
    if not 1 <= sampling_timesteps <= most:
        more = "or more" if most == np.inf else f"to {most}, the timesteps that the model was trained with"
        raise ValueError(f"sampling_timesteps is {sampling_timesteps}; expected 1 {more}")
    if camera.intrinsics is None:
        raise ValueError(
            "the camera has no intrinsics; expected some: common.input_cameras.guessed_camera makes a guess"
        )
    if aggregation not in DEPLOYED:
        raise ValueError(f"aggregation is '{aggregation}'; expected one of {', '.join(DEPLOYED)}")
    overlap = model.num_frames // 2 if overlap is None else overlap
    if not 0 <= overlap < model.num_frames:
        raise ValueError(f"overlap is {overlap}; expected 0 to {model.num_frames - 1}, less than a window")
    keypoints = fill_gaps(keypoints, model.skeleton.joint_names, name or "keypoints")
    fps = model.fps if fps is None else fps
    # Alone, a frame has no rate.
    resampled_to = None if model.num_frames == 1 or same_rate(fps, model.fps) else model.fps

    pixels = camera.undistort(keypoints) if isinstance(camera, PinholeCamera) else keypoints
    screen = normalize_screen_coordinates(pixels, camera.width, camera.height).astype(np.float32)
    seen = screen if resampled_to is None else resample(screen, fps, model.fps)
    # As if an upright image were padded to a square, for networks know x and y within -1 and 1.
    x_2d = seen * np.float32(camera.width / max(camera.width, camera.height))
    shape = (sampling_timesteps, num_hypotheses, model.num_frames, J, 3)
    windows = _sampled_windows(model, x_2d, shape, overlap, seed, name)
    number = len(overlapping_starts(len(x_2d), model.num_frames, overlap))
    hidden = None if progress else True
    with tqdm(windows, total=number, unit="window", desc=progress, disable=hidden, leave=False) as bar:
        hypotheses = blend_windows(len(x_2d), bar)
    if resampled_to is not None:
        hypotheses = np.stack([resample(one, model.fps, fps, len(keypoints)) for one in hypotheses])

    weights = None if confidences is None else _weights(confidences)
    target, intrinsics = torch.from_numpy(screen), torch.from_numpy(camera.intrinsics)
    samples = torch.from_numpy(hypotheses)
    poses = torch.cat(
        [
            aggregate(
                aggregation, samples[:, part], target[part], intrinsics, None if weights is None else weights[part]
            )
            for part in torch.arange(len(screen)).split(_FRAMES_AT_ONCE)
        ]
    )
    return Lifted(
        poses_3d=poses.numpy(),
        root=solve_root(poses, target, intrinsics, weights).numpy(),
        spread=hypothesis_spread(hypotheses),
        hypotheses=hypotheses,
        keypoints=keypoints,
        resampled_to=resampled_to,
    )


def _float_array(name: str, values: ArrayLike, expected: str) -> np.ndarray:
    """As float32; what is too large for it is infinite."""
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values).astype(np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"{name} are no array of numbers ({type(values).__name__}); expected {expected}") from None


def _sampled_windows(
    model: Lifter, x_2d: np.ndarray, shape: tuple[int, ...], overlap: int, seed: int, name: str
) -> Iterator[tuple[int, np.ndarray]]:
    """(first frame, (H, F, J, 3)) of every window, the last step's."""
    K, H, F, _, _ = shape
    starts = overlapping_starts(len(x_2d), F, overlap)
    frames = window_frames(len(x_2d), F, starts)
    size = max(1, _POSES_AT_ONCE // (K * H * F))
    for begin in range(0, len(starts), size):
        batch = slice(begin, begin + size)
        noise = torch.stack([_noise_from(int(start), shape, seed, name) for start in starts[batch]], dim=1)
        samples = model.sample(torch.from_numpy(x_2d[frames[batch]]), noise)
        yield from zip(starts[batch].tolist(), samples[:, -1].numpy(), strict=True)


def _noise_from(start: int, shape: tuple[int, ...], seed: int, name: str) -> Tensor:
    """The noise (K, H, F, J, 3) of the frames from `start` on: a frame has the same in every window."""
    F = shape[2]
    pieces = [window_noise(seed, name, block, shape) for block in range(start // F, (start + F - 1) // F + 1)]
    return torch.cat(pieces, dim=2).narrow(2, start % F, F)


def _weights(confidences: np.ndarray) -> Tensor:
    """Where most joints of a frame were filled in, all count the same: few joints tell little of where the root is."""
    known = (confidences > 0).sum(axis=1, keepdims=True) * 2 > confidences.shape[1]
    return torch.from_numpy(np.where(known, confidences, 1).astype(np.float32))
