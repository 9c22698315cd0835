"""The images of videos and folders: order, size, rotation, and one line for what is none."""

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from common.errors import DataError
from common.video_frames import open_images
from tests.test_rendering import write_video

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]


def brightest(image: np.ndarray) -> int:
    return int(image.reshape(-1, 3).mean(axis=0).argmax())


def test_a_video_s_frames_come_in_order_and_again(tmp_path):
    write_video(tmp_path / "a.mp4", COLOURS[:3])
    images = open_images(tmp_path / "a.mp4")
    assert (images.size, images.fps) == ((64, 48), 10)
    for _ in range(2):
        frames = list(images)
        assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3
        assert [brightest(frame) for frame in frames] == [0, 1, 2]


def test_a_telephone_s_video_is_upright(tmp_path):
    write_video(tmp_path / "wide.mp4", COLOURS)
    tool = imageio_ffmpeg.get_ffmpeg_exe()
    turned = tmp_path / "turned.mp4"
    command = [tool, "-display_rotation", "90", "-i", tmp_path / "wide.mp4", "-c", "copy", turned]
    subprocess.run(command, check=True, capture_output=True)
    images = open_images(turned)
    assert images.size == (48, 64)
    assert next(iter(images)).shape == (64, 48, 3)


def test_a_folder_in_the_order_of_its_numbers(tmp_path):
    for number, colour in zip((10, 9, 2), COLOURS, strict=False):
        Image.new("RGB", (64, 48), colour).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    images = open_images(tmp_path)
    assert (images.size, images.fps, len(images.files)) == ((64, 48), None, 3)
    assert [brightest(image) for image in images] == [2, 1, 0]


def test_a_photograph_that_says_how_it_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif)
    assert open_images(tmp_path).size == (48, 64)


def test_what_is_no_video(tmp_path):
    sound = tmp_path / "sound.wav"
    tool = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([tool, "-f", "lavfi", "-i", "sine=duration=0.1", str(sound)], check=True, capture_output=True)
    (tmp_path / "text.mp4").write_bytes(b"this is no video" * 100)
    (tmp_path / "empty.mp4").touch()
    for path in (sound, tmp_path / "text.mp4", tmp_path / "empty.mp4"):
        with pytest.raises(DataError, match="cannot be read; expected a file that ffmpeg can decode"):
            open_images(path)
    with pytest.raises(DataError, match="not found"):
        open_images(tmp_path / "none.mp4")


def test_what_is_no_folder_of_frames(tmp_path):
    with pytest.raises(DataError, match=r"has no images \(.jpg, "):
        open_images(tmp_path)
    Image.new("RGB", (64, 48)).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2\.png is no image that can be read"):
        list(open_images(tmp_path))
    Image.new("RGB", (48, 64)).save(tmp_path / "2.png")
    with pytest.raises(DataError, match=r"2\.png has 48x64 pixels, 1\.png 64x48; expected the frames of one video"):
        list(open_images(tmp_path))
