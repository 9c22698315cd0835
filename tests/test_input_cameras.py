"""Cameras of one's own: a field of view, a calibration file, a lens, and one line for what is odd."""

import json
import math

import numpy as np
import pytest
import torch

from common.camera import image_coordinates, project_to_2d
from common.errors import DataError
from common.input_cameras import DEFAULT_FOV, PinholeCamera, camera_from_fov, guessed_camera, read_intrinsics

GOOD = {"fx": 1200.0, "fy": 1210.0, "cx": 960.0, "cy": 530.0, "width": 1920, "height": 1080}


def write(folder, content):
    path = folder / "camera.json"
    path.write_text(json.dumps(content))
    return path


def project(points: np.ndarray, camera) -> np.ndarray:
    """By the project's own camera model."""
    screen = project_to_2d(torch.from_numpy(points)[None], torch.from_numpy(camera.intrinsics).double()[None])[0]
    return image_coordinates(screen.numpy(), camera.width, camera.height)


def test_a_field_of_view_spans_the_longer_side():
    for width, height in ((1920, 1080), (1080, 1920)):
        camera = camera_from_fov(width, height, 90, "")
        assert camera.focal == pytest.approx((960, 960))
        edge = [1, 0, 1] if width > height else [0, 1, 1]  # 45 degrees to the side
        np.testing.assert_allclose(
            project(np.array([edge], float), camera)[0],
            [width, height / 2] if width > height else [width / 2, height],
            atol=1e-3,
        )
    guess = guessed_camera(1920, 1080)
    assert guess.focal[0] == pytest.approx(960 / math.tan(math.radians(DEFAULT_FOV / 2)))
    assert guess.source.startswith("a guess: 55 degrees")


def test_a_calibration_by_numbers_or_by_matrix(tmp_path):
    camera = read_intrinsics(write(tmp_path, GOOD), (1920, 1080))
    matrix = [[1200.0, 0, 960], [0, 1210.0, 530], [0, 0, 1]]
    assert read_intrinsics(write(tmp_path, {"camera_matrix": matrix}), (1920, 1080)) == camera
    points = np.array([[0.3, -0.2, 2.0], [-0.5, 0.4, 3.0]])
    expected = points[:, :2] / points[:, 2:] * [1200, 1210] + [960, 530]
    np.testing.assert_allclose(project(points, camera), expected, atol=1e-3)


def test_a_calibration_of_a_larger_image_is_scaled(tmp_path):
    camera = read_intrinsics(write(tmp_path, GOOD), (960, 540))
    assert (camera.focal, camera.centre) == (pytest.approx((600, 605)), pytest.approx((480, 265)))
    with pytest.raises(DataError, match="is for 1920x1080 images; the input has 1080x1920, another shape"):
        read_intrinsics(write(tmp_path, GOOD), (1080, 1920))


def test_a_calibration_says_how_large_the_image_is_where_nothing_else_does(tmp_path):
    assert read_intrinsics(write(tmp_path, GOOD), None) == read_intrinsics(write(tmp_path, GOOD), (1920, 1080))
    assert read_intrinsics(write(tmp_path, {name: GOOD[name] for name in ("fx", "fy", "cx", "cy")}), None) is None


@pytest.mark.parametrize("distortion", [[-0.3, 0.1, 0.001, -0.002], [0.2, -0.05, 0.0, 0.003, 0.01]])
def test_a_lens_is_undone_as_opencv_made_it(tmp_path, distortion):
    cv2 = pytest.importorskip("cv2", reason="OpenCV, which comes with requirements-predict.txt, is the reference")
    camera = read_intrinsics(write(tmp_path, {**GOOD, "distortion": distortion}), (1920, 1080))
    points = np.random.default_rng(0).uniform([-1, -0.6, 2.5], [1, 0.6, 4], (50, 3))
    matrix = np.array([[1200.0, 0, 960], [0, 1210.0, 530], [0, 0, 1]])
    seen = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(distortion))[0][:, 0]
    np.testing.assert_allclose(
        camera.undistort(seen), points[:, :2] / points[:, 2:] * [1200, 1210] + [960, 530], atol=0.01
    )
    assert np.isnan(camera.undistort(np.full((1, 2), np.nan))).all()


def test_no_lens_changes_nothing():
    pixels = np.random.default_rng(0).normal(size=(5, 2))
    assert PinholeCamera(10, 10, (5, 5), (5, 5)).undistort(pixels) is pixels


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "is no whole JSON"),
        ("[" * 100_000, "--intrinsics takes fx, fy, cx, cy, or camera_matrix"),
        ("[1]", "is no JSON object"),
        ("{}", "fx, fy, cx, cy are not the finite numbers"),
        ({**GOOD, "fx": "wide"}, "fx, fy, cx, cy are not the finite numbers"),
        ({**GOOD, "fx": -1}, "must be above 0"),
        ({**GOOD, "width": 0}, "must be above 0"),
        ({**GOOD, "distortion": [1]}, "distortion has 1 numbers; expected k1, k2, p1, p2"),
        ({**GOOD, "distortion": "much"}, "distortion are not the finite numbers"),
        ({"camera_matrix": [[1, 2], [3]]}, "camera_matrix are not the finite numbers"),
        ({"camera_matrix": [1, 2, 3]}, "camera_matrix are not the finite numbers"),
    ],
)
def test_a_calibration_that_is_odd_is_one_line(tmp_path, content, fault):
    path = tmp_path / "camera.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=fault) as caught:
        read_intrinsics(path, (1920, 1080))
    assert "\n" not in str(caught.value)


def test_a_calibration_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\)"):
        read_intrinsics(tmp_path / "none.json", (1920, 1080))
