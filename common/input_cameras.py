"""The camera of a user's own video: from a calibration file, a field of view, or a stated guess."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.camera import normalize_screen_coordinates
from common.errors import DataError
from common.files import read_json

DEFAULT_FOV = 55.0
"""Degrees across the longer side: between Human3.6M's cameras (47) and a phone's (65 to 70)."""


@dataclass(frozen=True)
class PinholeCamera:
    """A camera of a user's: pixels of an upright image, x right, y down, from its upper left corner."""

    width: int
    height: int
    focal: tuple[float, float]
    """Horizontal and vertical, pixels."""
    centre: tuple[float, float]
    """Pixels."""
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """OpenCV's k1, k2, p1, p2, k3."""
    source: str = ""
    """Where these numbers are from, for the reader of a result."""

    @property
    def intrinsics(self) -> np.ndarray:
        """(9,) float32, as `common.camera.Camera.intrinsics`, for keypoints that `undistort` went over."""
        focal = np.array(self.focal) / self.width * 2
        centre = normalize_screen_coordinates(np.array(self.centre), self.width, self.height)
        return np.concatenate([focal, centre, np.zeros(5)]).astype(np.float32)

    def undistort(self, pixels: np.ndarray) -> np.ndarray:
        """Where the keypoints (..., 2), pixels, would be without the lens' distortion.

        OpenCV's model (its manual, "Camera Calibration and 3D Reconstruction") is inverted by fixed-point iteration,
        as it proposes itself.
        """
        k1, k2, p1, p2, k3 = self.distortion
        if not any(self.distortion):
            return pixels
        seen = (pixels.astype(np.float64) - self.centre) / self.focal
        x, y = np.moveaxis(seen, -1, 0)
        for _ in range(50):
            r2 = x**2 + y**2
            radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
            shift_x = 2 * p1 * x * y + p2 * (r2 + 2 * x**2)
            shift_y = p1 * (r2 + 2 * y**2) + 2 * p2 * x * y
            x, y = (seen[..., 0] - shift_x) / radial, (seen[..., 1] - shift_y) / radial
        return (np.stack([x, y], axis=-1) * self.focal + self.centre).astype(pixels.dtype)


def camera_from_fov(width: int, height: int, degrees: float, source: str) -> PinholeCamera:
    """Square pixels, the centre in the image's middle, so many degrees across its longer side."""
    focal = max(width, height) / 2 / math.tan(math.radians(degrees) / 2)
    return PinholeCamera(width, height, (focal, focal), (width / 2, height / 2), source=source)


def guessed_camera(width: int, height: int) -> PinholeCamera:
    """What is taken where nobody says."""
    source = f"a guess: {DEFAULT_FOV:g} degrees across the image's longer side (--fov or --intrinsics says otherwise)"
    return camera_from_fov(width, height, DEFAULT_FOV, source)


def read_intrinsics(path: str | Path, image_size: tuple[int, int] | None) -> PinholeCamera | None:
    """A calibration for images of a size (width, height); where that is not known, for those that were calibrated.

    None if neither is known.

    The file is JSON: `camera_matrix` (3 rows of 3, pixels) or `fx`, `fy`, `cx`, `cy`; optionally `distortion`
    (OpenCV's k1, k2, p1, p2[, k3]) and the `width` and `height` that were calibrated. For an image of another size, but
    the same shape, the numbers are scaled.

    Raises:
        DataError: one line.
    """
    path = Path(path)
    content = read_json(path, "--intrinsics takes fx, fy, cx, cy, or camera_matrix")
    if not isinstance(content, dict):
        raise DataError(f"--intrinsics {path} is no JSON object; expected fx, fy, cx, cy, or camera_matrix")
    matrix = content.get("camera_matrix")
    if matrix is not None:
        matrix = _numbers(matrix, (3, 3), path, "camera_matrix")
        fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    else:
        fx, fy, cx, cy = _numbers(
            [content.get(name) for name in ("fx", "fy", "cx", "cy")], (4,), path, "fx, fy, cx, cy"
        )
    distortion = np.atleast_1d(_numbers(content.get("distortion", [0.0] * 5), None, path, "distortion")).ravel()
    if len(distortion) not in (4, 5):
        raise DataError(f"--intrinsics {path}: distortion has {len(distortion)} numbers; expected k1, k2, p1, p2[, k3]")
    calibrated = [content.get(name) for name in ("width", "height")]
    if calibrated == [None, None]:
        if image_size is None:
            return None
        calibrated = list(image_size)
    size = _numbers(calibrated, (2,), path, "width, height")
    if min(fx, fy, *size) <= 0:
        raise DataError(f"--intrinsics {path}: fx, fy, width and height must be above 0; they are pixels")
    width, height = image_size or (round(size[0]), round(size[1]))
    scale = np.array([width, height]) / size
    if abs(scale[0] / scale[1] - 1) > 0.01:
        raise DataError(
            f"--intrinsics {path} is for {size[0]:g}x{size[1]:g} images; the input has {width}x{height}, another "
            "shape: calibrate in the same mode, or crop alike"
        )
    return PinholeCamera(
        width,
        height,
        (float(fx * scale[0]), float(fy * scale[1])),
        (float(cx * scale[0]), float(cy * scale[1])),
        tuple(float(value) for value in (*distortion, 0.0)[:5]),
        source=f"{path.name}",
    )


def _numbers(values: object, shape: tuple[int, ...] | None, path: Path, what: str) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.array(np.nan)
    if not np.isfinite(array).all() or (shape is not None and array.shape != shape):
        raise DataError(f"--intrinsics {path}: {what} are not the finite numbers that were expected, in pixels")
    return array
