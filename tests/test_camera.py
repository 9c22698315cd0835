"""Round trips, and the projection against the shipped sample's pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.camera import (
    camera_to_world,
    image_coordinates,
    load_cameras,
    normalize_screen_coordinates,
    project_to_2d,
    projection_jacobian,
    rays_of,
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


@pytest.mark.parametrize("scale", [1, 3])  # the second: some x/z and y/z are clamped
def test_the_derivative_of_the_projection(scale):
    points = torch.from_numpy(np.random.default_rng(0).normal(scale=scale, size=(2, 5, 3))) + torch.tensor([0, 0, 10.0])
    intrinsics = torch.from_numpy(np.stack([camera.intrinsics for camera in load_cameras("h36m.json")["S9"][:2]]))
    expected = torch.autograd.functional.jacobian(lambda points: project_to_2d(points, intrinsics.double()), points)
    expected = torch.stack([torch.stack([expected[b, j, :, b, j] for j in range(5)]) for b in range(2)])
    torch.testing.assert_close(projection_jacobian(points, intrinsics.double()), expected)


def test_rays_undo_the_projection():
    rays = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, size=(4, 100, 2)))
    intrinsics = torch.from_numpy(np.stack([camera.intrinsics for camera in load_cameras("h36m.json")["S9"]])).double()
    points = 4 * torch.cat([rays, torch.ones_like(rays[..., :1])], dim=-1)
    torch.testing.assert_close(rays_of(project_to_2d(points, intrinsics), intrinsics), rays, rtol=0, atol=1e-5)
