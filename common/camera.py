"""World, camera and image coordinates (the camera model of Human3.6M, as VideoPose3D has it).

Screen coordinates: x/w*2-1 and y/w*2-h/w of a pixel, so that x spans [-1, 1] whatever the image's size.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

CAMERA_FOLDER = Path(__file__).parent / "cameras"
LEVEL = Rotation.from_matrix([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Camera to world for a camera that nothing is known of: level, looking along the world's y axis."""


@dataclass(frozen=True)
class Camera:
    """One view, as far as it is calibrated."""

    name: str
    width: int
    height: int
    azimuth: float = 70.0
    """Degrees, for drawing only."""
    orientation: np.ndarray | None = None
    """(4,) unit quaternion w, x, y, z, camera to world; None where unknown."""
    translation: np.ndarray | None = None
    """(3,) the camera's place in the world, metres; None where unknown."""
    intrinsics: np.ndarray | None = None
    """(9,): focal length 2, centre 2 (screen units), radial 3, tangential 2; None where unknown."""
    pixel_aspect: float = 1.0
    """Where the calibration has one focal length and this: vertical over horizontal focal length, in pixels, of the
    intrinsics above."""

    @property
    def rotation(self) -> Rotation:
        """Camera to world; `LEVEL` where the orientation is not known."""
        return LEVEL if self.orientation is None else Rotation.from_quat(self.orientation, scalar_first=True)


def load_cameras(file_name: str) -> dict[str, list[Camera]]:
    """The cameras of each subject, in the order of the 2D files."""
    calibration = json.loads((CAMERA_FOLDER / file_name).read_text())
    return {
        subject: [_camera(inner, outer) for inner, outer in zip(calibration["intrinsics"], views, strict=True)]
        for subject, views in calibration["extrinsics"].items()
        if all("orientation" in view for view in views)  # test subjects that were never released have none
    }


def _camera(inner: dict, outer: dict) -> Camera:
    width, height = inner["res_w"], inner["res_h"]
    intrinsics = None
    if "focal_length" in inner:
        focal = np.array(inner["focal_length"]) / width * 2
        centre = normalize_screen_coordinates(np.array(inner["center"]), width, height)
        intrinsics = np.concatenate([focal, centre, inner["radial_distortion"], inner["tangential_distortion"]])
    return Camera(
        name=inner["id"],
        width=width,
        height=height,
        azimuth=inner["azimuth"],
        orientation=np.array(outer["orientation"]),
        translation=np.array(outer["translation"]) / 1000,
        intrinsics=None if intrinsics is None else intrinsics.astype(np.float32),
    )


def normalize_screen_coordinates(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """(..., 2) pixels -> screen coordinates."""
    return pixels / width * 2 - np.array([1, height / width])


def image_coordinates(screen: np.ndarray, width: int, height: int) -> np.ndarray:
    """(..., 2) screen coordinates -> pixels."""
    return (screen + np.array([1, height / width])) * width / 2


def world_to_camera(points: np.ndarray, camera: Camera) -> np.ndarray:
    """(..., 3) world, metres -> camera space (x right, y down, z forward), metres."""
    flat = (points - camera.translation).reshape(-1, 3)
    return camera.rotation.inv().apply(flat).reshape(points.shape)


def camera_to_world(points: np.ndarray, camera: Camera) -> np.ndarray:
    """(..., 3) camera space, metres -> world, metres."""
    return camera.rotation.apply(points.reshape(-1, 3)).reshape(points.shape) + camera.translation


def project_to_2d(points: Tensor, intrinsics: Tensor) -> Tensor:
    """Camera space to screen coordinates, with radial and tangential distortion; x/z and y/z are clamped to +-1.

    Args:
        points: (B, ..., 3), camera space, metres (absolute, not root-relative).
        intrinsics: (B, 9), see `Camera.intrinsics`.

    Returns:
        (B, ..., 2), screen coordinates.
    """
    focal, centre, radial, tangential = _parameters(intrinsics, points.ndim)
    xy = (points[..., :2] / points[..., 2:]).clamp(-1, 1)
    factor, r2 = _distortion(xy, radial, tangential)
    return focal * (xy * factor + tangential * r2) + centre


def _parameters(intrinsics: Tensor, ndim: int) -> tuple[Tensor, ...]:
    """(B, 9) -> focal length, centre, radial and tangential distortion, (B, 1, ..., 2 or 3) of `ndim` dimensions."""
    return intrinsics.reshape(-1, *[1] * (ndim - 2), 9).split([2, 2, 3, 2], dim=-1)


def _distortion(xy: Tensor, radial: Tensor, tangential: Tensor) -> tuple[Tensor, Tensor]:
    """Of x/z and y/z (..., 2): the factor that they are distorted by and their squared length, both (..., 1)."""
    r2 = xy.square().sum(-1, keepdim=True)
    radial_factor = 1 + (radial * torch.cat([r2, r2**2, r2**3], dim=-1)).sum(-1, keepdim=True)
    tangential_factor = (tangential * xy).sum(-1, keepdim=True)
    return radial_factor + tangential_factor, r2


def projection_jacobian(points: Tensor, intrinsics: Tensor) -> Tensor:
    """The derivative of `project_to_2d` by the points: (B, ..., 3) and (B, 9) -> (B, ..., 2, 3), screen units a metre.

    Where x/z or y/z is clamped, nothing depends on it.
    """
    focal, _, radial, tangential = _parameters(intrinsics, points.ndim)
    ratio = points[..., :2] / points[..., 2:]
    xy = ratio.clamp(-1, 1)
    factor, r2 = _distortion(xy, radial, tangential)
    slope = (radial * torch.cat([torch.ones_like(r2), 2 * r2, 3 * r2**2], dim=-1)).sum(-1, keepdim=True)
    turn = 2 * slope * xy + tangential  # the factor's derivative by x/z and y/z
    scale = focal / points[..., 2:]

    def by(axis: int) -> Tensor:
        """(B, ..., 2), by the points' x or y."""
        change = xy * turn[..., axis : axis + 1] + 2 * tangential * xy[..., axis : axis + 1]
        change[..., axis] += factor[..., 0]
        return scale * change * (ratio == xy)[..., axis : axis + 1]

    by_x, by_y = by(0), by(1)
    return torch.stack([by_x, by_y, -(by_x * xy[..., :1] + by_y * xy[..., 1:])], dim=-1)


_UNDISTORTING_STEPS = 5


def rays_of(screen: Tensor, intrinsics: Tensor) -> Tensor:
    """`project_to_2d` undone but for the depth: screen coordinates (B, ..., 2) and (B, 9) -> x/z and y/z (B, ..., 2).

    Distortion is undone by fixed-point iteration: to 1e-5 for the cameras of our datasets. It is taken at x/z and y/z
    clamped to +-1, as `project_to_2d` clamps them, and never as a factor of less than 1/2, so that whatever lies on the
    screen has a finite ray.
    """
    focal, centre, radial, tangential = _parameters(intrinsics, screen.ndim)
    distorted = (screen - centre) / focal
    rays = distorted
    for _ in range(_UNDISTORTING_STEPS):
        factor, r2 = _distortion(rays.clamp(-1, 1), radial, tangential)
        rays = (distorted - tangential * r2) / factor.clamp(min=0.5)
    return rays


def world_to_image(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The whole camera: world to pixels, distorted.

    Args:
        points: (..., 3), world, metres.
        camera: one whose intrinsics are known.

    Returns:
        (..., 2) pixels, and (...) the distances ahead of the camera, metres.
    """
    assert camera.intrinsics is not None, f"camera {camera.name} is not calibrated"
    seen = world_to_camera(points, camera)
    intrinsics = torch.from_numpy(camera.intrinsics.astype(np.float64))
    screen = project_to_2d(torch.from_numpy(seen)[None], intrinsics[None])[0].numpy()
    return image_coordinates(screen, camera.width, camera.height), seen[..., 2]
