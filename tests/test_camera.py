"""Round trips, and the projection against the shipped sample's pixels."""

from pathlib import Path

import numpy as np

from common.camera import (
    camera_to_world,
    image_coordinates,
    load_cameras,
    normalize_screen_coordinates,
    world_to_camera,
    world_to_image,
)
from common.npz_files import read_npz

DATA = Path(__file__).parents[1] / "data"
KEPT = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]


def test_round_trips():
    points = np.random.default_rng(0).normal(size=(5, 17, 3))
    for camera in load_cameras("h36m.json")["S9"]:
        np.testing.assert_allclose(camera_to_world(world_to_camera(points, camera), camera), points, atol=1e-9)
        pixels = points[..., :2] * 300
        screen = normalize_screen_coordinates(pixels, camera.width, camera.height)
        np.testing.assert_allclose(image_coordinates(screen, camera.width, camera.height), pixels, atol=1e-9)


def test_humaneva_has_no_intrinsics():
    assert all(camera.intrinsics is None for camera in load_cameras("humaneva.json")["S1"])


def test_projects_the_sample_onto_its_pixels():
    world = read_npz(DATA / "data_3d_sample.npz")["positions_3d"]["S9"]["Walking"][:, KEPT].astype(np.float64)
    pixels = read_npz(DATA / "data_2d_sample_gt.npz")["positions_2d"]["S9"]["Walking"]
    for camera, expected in zip(load_cameras("h36m.json")["S9"], pixels, strict=True):
        projected, ahead = world_to_image(world, camera)
        assert np.abs(projected - expected).max() < 0.01
        np.testing.assert_array_equal(ahead, world_to_camera(world, camera)[..., 2])
