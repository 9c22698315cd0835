"""The images of a video or of a folder, one after another."""

import contextlib
import itertools
import os
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class ImageSequence:
    """Iterating gives each image, (height, width, 3) uint8, RGB; every iteration begins anew."""

    path: Path
    size: tuple[int, int]
    """Width and height, pixels, as seen: a phone's rotation is applied."""
    fps: float | None
    """None where nobody says: a folder, or a video without one."""
    files: tuple[Path, ...] = ()
    """Of a folder, in order; none: a video."""
    first_frame: int = 0
    """The image that an iteration begins with."""

    def __iter__(self) -> Generator[np.ndarray, None, None]:
        with contextlib.closing(self._images() if self.files else self._video()) as images:
            yield from itertools.islice(images, 0 if self.files else self.first_frame, None)

    def _video(self) -> Generator[np.ndarray, None, None]:
        width, height = self.size
        with _video_errors(self.path), contextlib.closing(imageio_ffmpeg.read_frames(str(self.path))) as reader:
            next(reader)
            for data in reader:
                yield np.frombuffer(data, np.uint8).reshape(height, width, 3)

    def _images(self) -> Generator[np.ndarray, None, None]:
        for file in self.files[self.first_frame :]:
            image = _read_image(file)
            if image.shape[1::-1] != self.size:
                width, height = self.size
                raise DataError(
                    f"{file} has {image.shape[1]}x{image.shape[0]} pixels, {self.files[0].name} {width}x{height}; "
                    "expected the frames of one video"
                )
            yield image


Video = str | os.PathLike | ImageSequence
"""A path for `open_images`, or what it gave."""


def open_images(path: str | os.PathLike) -> ImageSequence:
    """A video that ffmpeg can read, or a folder of images, in the order of the numbers in their names.

    Raises:
        DataError: absent, or neither.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted((file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES), key=_natural_order)
        if not files:
            raise DataError(f"{path} has no images ({', '.join(IMAGE_SUFFIXES)}); give a video, or their folder")
        height, width = _read_image(files[0]).shape[:2]
        return ImageSequence(path, (width, height), None, tuple(files))
    if not path.is_file():
        raise DataError(f"video {path} not found; give the path of the clip's video file")
    with _video_errors(path), contextlib.closing(imageio_ffmpeg.read_frames(str(path))) as reader:
        described = next(reader)
        if next(reader, None) is None:
            raise ValueError("no frames")
    return ImageSequence(path, tuple(described["size"]), described.get("fps") or None)


@contextlib.contextmanager
def _video_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, StopIteration) as error:
        raise DataError(f"video {path} cannot be read; expected a file that ffmpeg can decode") from error


def _natural_order(path: Path) -> list:
    """frame2 before frame10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path.name)]


def _read_image(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{file} is no image that can be read ({type(error).__name__}); mend it, or move it away"
        ) from None
