"""Keypoints of any length, rate and shape to 3D: windows without seams, rates in and out, gaps, the camera."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.blending import blend_windows, overlapping_starts
from common.camera import Camera, load_cameras, normalize_screen_coordinates, project_to_2d
from common.clip_text import random_text_tower
from common.datasets import DATASETS
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.errors import DataError
from common.evaluation import TextCache
from common.input_cameras import camera_from_fov, guessed_camera
from common.lifting import lift
from common.model import DSGDiffu
from common.resampling import resample, same_rate
from common.skeleton import H36M
from common.trained_lifter import TrainedLifter
from tests.conftest import awaken, motion

PELVIS = H36M.root


class FlatLifter:
    """Answers with the 2D itself, as a flat figure, and adds `offset(number of the window)` to its joints."""

    skeleton, num_frames, fps = H36M, 9, 50.0

    def __init__(self, offset=lambda number: 0.0, noise=0.0):
        self.offset, self.noise, self.seen = offset, noise, []

    def sample(self, x_2d, noise):
        first = sum(len(windows) for windows in self.seen)
        self.seen.append(x_2d)
        flat = torch.nn.functional.pad(x_2d - x_2d[..., [PELVIS], :], (0, 1))
        offsets = torch.tensor([self.offset(first + i) for i in range(len(x_2d))])
        poses = flat[None, :, None] + offsets[:, None, None, None, None] + self.noise * noise
        return poses.transpose(0, 1)


def walker(num_frames: int, width: int = 1000, height: int = 800) -> np.ndarray:
    """(N, 17, 2): somebody who sways in the image's middle, pixels."""
    poses = motion(num_frames, 17, 0)
    return (np.array([width / 2, height / 2 + 200]) + 200 * poses[..., :2]).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    """A network of the real kind, with weights that were not trained."""
    torch.manual_seed(0)
    config = DenoiserConfig(num_frames=9, width=16, depth=2, dropout=0.0)
    parts = DATASETS["h36m"].prompt_parts
    model = DSGDiffu.build(config, H36M, parts, random_text_tower(), GaussianDiffusion(1000, 1.0))
    awaken(model.denoiser)
    return TrainedLifter(model.eval(), TextCache(model), 9, 50.0, "", "h36m", None)


# --- windows ---


@pytest.mark.parametrize("num_frames", [1, 5, 9, 10, 17, 18, 100, 243])
@pytest.mark.parametrize("overlap", [0, 1, 4, 8])
def test_windows_cover_every_frame_and_share_what_was_asked_for(num_frames, overlap):
    starts = overlapping_starts(num_frames, 9, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, num_frames - 9)
    steps = np.diff(starts)
    assert (steps >= 1).all()
    assert (steps <= 9 - overlap).all()


def test_windows_that_agree_come_back_as_they_were():
    clip = np.random.default_rng(0).normal(size=(2, 40, 17, 3)).astype(np.float32)
    starts = overlapping_starts(40, 9, 4)
    found = blend_windows(40, ((int(start), clip[:, start : start + 9]) for start in starts))
    np.testing.assert_allclose(found, clip, atol=1e-6)


def test_a_window_longer_than_the_clip():
    window = np.arange(9, dtype=np.float32)[:, None, None] * np.ones((1, 17, 3), np.float32)
    np.testing.assert_allclose(blend_windows(4, [(0, window)]), window[:4])


@pytest.mark.parametrize("overlap", [1, 2, 3, 4])
def test_the_jump_at_a_seam_is_bounded(overlap):
    """Neighbouring windows that differ by d, M frames shared: no step is larger than d / (M + 1)."""
    d, num_frames = 0.3, 200
    keypoints = np.repeat(walker(1), num_frames, axis=0)
    lifter = FlatLifter(lambda number: d * (number % 2))
    lifted = lift(keypoints, guessed_camera(1000, 800), lifter, overlap=overlap, num_hypotheses=1)
    shared = 9 - int(np.diff(overlapping_starts(num_frames, 9, overlap)).max())
    steps = np.abs(np.diff(lifted.poses_3d, axis=0)).max()
    assert 0 < steps <= d / (shared + 1) + 1e-6


def test_without_an_overlap_the_same_windows_jump():
    keypoints = np.repeat(walker(1), 45, axis=0)
    lifted = lift(keypoints, guessed_camera(1000, 800), FlatLifter(lambda n: 0.3 * (n % 2)), overlap=0)
    assert np.abs(np.diff(lifted.poses_3d, axis=0)).max() == pytest.approx(0.3, abs=1e-5)


def test_a_real_network_s_seams_go(network):
    """Where windows side by side meet, the poses step farther than elsewhere; blended windows do not."""
    keypoints, camera = walker(150), guessed_camera(1000, 800)

    def moved(overlap):
        lifted = lift(keypoints, camera, network, overlap=overlap, num_hypotheses=2, sampling_timesteps=1)
        return np.linalg.norm(np.diff(lifted.hypotheses, axis=1), axis=-1).mean(axis=(0, 2))

    side_by_side, blended = moved(0), moved(4)
    seams = overlapping_starts(150, 9, 0)[1:] - 1
    assert side_by_side[seams].mean() > 1.1 * side_by_side.mean()
    assert blended[seams].mean() < 1.1 * blended.mean()
    assert blended[seams].mean() < 0.8 * side_by_side[seams].mean()


def test_a_frame_has_the_same_noise_in_every_window():
    """So hypothesis h of one window goes on as hypothesis h of the next: their noise is all that they differ in."""
    keypoints = np.repeat(walker(1), 60, axis=0)
    lifted = lift(keypoints, guessed_camera(1000, 800), FlatLifter(noise=0.1), num_hypotheses=3, sampling_timesteps=1)
    apart = lift(keypoints, guessed_camera(1000, 800), FlatLifter(noise=0.1), num_hypotheses=3, overlap=0)
    assert lifted.hypotheses[..., 1:, :].std() == pytest.approx(apart.hypotheses[..., 1:, :].std(), rel=0.05)
    assert lifted.spread.mean() > 0.05


@pytest.mark.parametrize("num_frames", [1, 2, 8, 9, 10])
def test_clips_as_short_as_they_come(network, num_frames):
    lifted = lift(walker(num_frames), guessed_camera(1000, 800), network, num_hypotheses=2, fps=25)
    assert lifted.poses_3d.shape == (num_frames, 17, 3)
    assert lifted.root.shape == (num_frames, 3)
    assert lifted.hypotheses.shape == (2, num_frames, 17, 3)
    assert lifted.spread.shape == (num_frames, 17)
    assert all(np.isfinite(array).all() for array in (lifted.poses_3d, lifted.root, lifted.spread))
    assert (lifted.poses_3d[:, PELVIS] == 0).all()


# --- rates ---


@pytest.mark.parametrize("fps", [24, 25, 30, 59.94, 100, 120])
def test_rates_go_there_and_back(fps):
    seconds = np.arange(round(3 * fps)) / fps
    values = np.stack([np.sin(2 * seconds), np.cos(5 * seconds)], axis=-1)
    there = resample(values, fps, 50)
    assert len(there) == pytest.approx(150, abs=3)
    held = np.minimum(np.arange(len(there)) / 50, seconds[-1])
    np.testing.assert_allclose(there[:, 0], np.sin(2 * held), atol=0.01)
    back = resample(there, 50, fps, len(values))
    np.testing.assert_allclose(back, values, atol=0.02)
    assert resample(values.astype(np.float32), fps, 50).dtype == np.float32


def test_the_network_sees_its_own_rate_and_the_answer_has_the_input_s():
    lifter = FlatLifter()
    lifted = lift(walker(75), guessed_camera(1000, 800), lifter, fps=25, num_hypotheses=1)
    assert lifted.resampled_to == 50
    starts = overlapping_starts(149, 9, 4)  # 3 seconds
    assert sum(len(windows) for windows in lifter.seen) == len(starts)
    expected = lift(walker(75), guessed_camera(1000, 800), FlatLifter(), num_hypotheses=1)
    assert expected.resampled_to is None
    np.testing.assert_allclose(lifted.poses_3d, expected.poses_3d, atol=1e-3)
    assert same_rate(49.5, 50)
    assert not same_rate(48, 50)


def test_a_network_of_single_frames_has_no_rate():
    lifter = FlatLifter()
    lifter.num_frames = 1
    lifted = lift(walker(7), guessed_camera(1000, 800), lifter, fps=5)
    assert lifted.resampled_to is None
    assert len(lifted.poses_3d) == 7


# --- keypoints and cameras ---


def test_gaps_are_filled_at_both_ends_and_between():
    keypoints = walker(30)
    gaps = keypoints.copy()
    gaps[:3] = gaps[10:14] = gaps[28:] = np.nan
    gaps[20, 5] = np.nan
    lifted = lift(gaps, guessed_camera(1000, 800), FlatLifter(), num_hypotheses=1)
    np.testing.assert_array_equal(lifted.keypoints[:3], np.repeat(keypoints[[3]], 3, axis=0))
    np.testing.assert_allclose(lifted.keypoints[11], keypoints[9] + (keypoints[14] - keypoints[9]) * 2 / 5, atol=1e-3)
    gaps[:, 5] = np.nan
    with pytest.raises(DataError, match="LKnee in no frame"):
        lift(gaps, guessed_camera(1000, 800), FlatLifter())


def test_a_portrait_image_is_seen_within_the_square_that_networks_know():
    for width, height in ((1000, 800), (720, 1280), (1080, 1920)):
        lifter = FlatLifter()
        keypoints = np.tile(np.array([[0, 0], [width, height]], np.float32), (9, 9, 1))[:, :17]
        lift(keypoints, guessed_camera(width, height), lifter, num_hypotheses=1)
        seen = torch.cat(lifter.seen)
        long = max(width, height)
        np.testing.assert_allclose(seen[0, 0, 1], [width / long, height / long], atol=1e-6)
        np.testing.assert_allclose(seen[0, 0, 0], [-width / long, -height / long], atol=1e-6)


def test_the_root_brings_the_pose_onto_the_keypoints():
    """A flat figure fits its keypoints wholly from one place."""
    for camera in (guessed_camera(1000, 800), load_cameras("h36m.json")["S9"][0]):
        keypoints = walker(20)
        lifted = lift(keypoints, camera, FlatLifter(), num_hypotheses=1)
        seen = torch.from_numpy(lifted.poses_3d + lifted.root[:, None])
        screen = project_to_2d(seen, torch.from_numpy(camera.intrinsics).expand(20, 9)).numpy()
        wanted = normalize_screen_coordinates(keypoints, camera.width, camera.height)
        error = np.abs(screen - wanted).max()
        assert error < (0.02 if isinstance(camera, Camera) else 1e-4)  # a lens bends the figure


def test_a_lens_is_undone_before_lifting():
    plain = camera_from_fov(1000, 800, 60, "")
    lens = replace(plain, distortion=(-0.2, 0.05, 0.001, -0.002, 0.0))
    straight = FlatLifter()
    lift(walker(9), plain, straight)
    bent = FlatLifter()
    lift(walker(9), lens, bent)
    expected = normalize_screen_coordinates(lens.undistort(walker(9)), 1000, 800)
    np.testing.assert_allclose(bent.seen[0][0], expected, atol=1e-5)
    assert (bent.seen[0] - straight.seen[0]).abs().max() > 1e-3


def test_the_answer_is_that_of_the_setting_and_the_seed_decides(network):
    camera = guessed_camera(1000, 800)
    one, again = (lift(walker(20), camera, network, num_hypotheses=3, aggregation="P_Agg") for _ in range(2))
    other = lift(walker(20), camera, network, num_hypotheses=3, aggregation="P_Agg", seed=2)
    np.testing.assert_array_equal(one.poses_3d, again.poses_3d)
    assert np.abs(one.poses_3d - other.poses_3d).max() > 1e-6
    np.testing.assert_allclose(one.poses_3d, one.hypotheses.mean(axis=0), atol=1e-6)
    spread = np.sqrt(((one.hypotheses - one.poses_3d) ** 2).sum(-1).mean(0))
    np.testing.assert_allclose(one.spread, spread, atol=1e-6)
    chosen = lift(walker(20), camera, network, num_hypotheses=3, aggregation="J_Agg_est")
    distance = np.linalg.norm(chosen.hypotheses - chosen.poses_3d, axis=-1).min(axis=0)
    assert distance.max() < 1e-6  # each joint is one of the hypotheses'
    weighted = lift(walker(20), camera, network, num_hypotheses=3)
    least, most = weighted.hypotheses.min(axis=0), weighted.hypotheses.max(axis=0)
    assert ((least - 1e-6 <= weighted.poses_3d) & (weighted.poses_3d <= most + 1e-6)).all()
    assert np.abs(weighted.poses_3d - one.poses_3d).max() > 1e-6


@pytest.mark.parametrize("aggregation", ["P_Agg", "J_Agg_est", "R_Agg"])
def test_a_long_clip_is_aggregated_in_parts_that_do_not_show(network, monkeypatch, aggregation):
    confidences = np.random.default_rng(0).uniform(size=(50, 17))
    arguments = {"confidences": confidences, "num_hypotheses": 2, "sampling_timesteps": 1, "aggregation": aggregation}
    whole = lift(walker(50), guessed_camera(1000, 800), network, **arguments)
    monkeypatch.setattr("common.lifting._FRAMES_AT_ONCE", 7)
    parts = lift(walker(50), guessed_camera(1000, 800), network, **arguments)
    np.testing.assert_allclose(parts.poses_3d, whole.poses_3d, atol=1e-4)


def test_what_does_not_fit_is_said():
    camera = guessed_camera(1000, 800)
    with pytest.raises(ValueError, match=r"keypoints have shape \(9, 16, 2\); expected \(N, 17, 2\) of h36m"):
        lift(walker(9)[:, :16], camera, FlatLifter())
    with pytest.raises(ValueError, match=r"confidences have shape \(8, 17\)"):
        lift(walker(9), camera, FlatLifter(), confidences=np.ones((8, 17)))
    with pytest.raises(ValueError, match="overlap is 9; expected 0 to 8"):
        lift(walker(9), camera, FlatLifter(), overlap=9)
    with pytest.raises(ValueError, match="aggregation is 'J_Best'; expected one of P_Agg, J_Agg_est, R_Agg"):
        lift(walker(9), camera, FlatLifter(), aggregation="J_Best")
    with pytest.raises(ValueError, match="the camera has no intrinsics"):
        lift(walker(9), Camera("c", 1000, 800), FlatLifter())


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_joint_is_missing_where_any_of_its_coordinates_is_no_number(axis, odd):
    keypoints, camera = walker(30).astype(float), guessed_camera(1000, 800)
    gaps, whole = keypoints.copy(), keypoints.copy()
    gaps[20, 5] = np.nan
    whole[20, 5, axis] = odd
    expected, found = (lift(points, camera, FlatLifter(), num_hypotheses=2) for points in (gaps, whole))
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)
    assert all(np.isfinite(array).all() for array in (found.poses_3d, found.root, found.spread, found.hypotheses))


def test_what_was_missing_does_not_count_where_the_root_is_sought():
    camera, keypoints, confidences = guessed_camera(1000, 800), walker(20), np.ones((20, 17))
    keypoints[4, 5] = np.nan
    told = confidences.copy()
    told[4, 5] = 0
    confidences[4, 5] = np.nan
    found, expected = (lift(keypoints, camera, FlatLifter(noise=0.1), confidences=c) for c in (confidences, told))
    np.testing.assert_array_equal(found.root, expected.root)


def test_lists_do_as_well_as_arrays():
    camera = guessed_camera(1000, 800)
    expected = lift(walker(9), camera, FlatLifter(), confidences=np.ones((9, 17)))
    found = lift(walker(9).tolist(), camera, FlatLifter(), confidences=np.ones((9, 17)).tolist())
    np.testing.assert_array_equal(found.poses_3d, expected.poses_3d)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"fps": 0}, "fps is 0; expected frames a second, above 0"),
        ({"fps": -25.0}, "fps is -25.0"),
        ({"fps": np.nan}, "fps is nan"),
        ({"num_hypotheses": 0}, "num_hypotheses is 0; expected 1 or more"),
        ({"sampling_timesteps": 0}, "sampling_timesteps is 0; expected 1 to 1000, the timesteps"),
        ({"sampling_timesteps": 1001}, "sampling_timesteps is 1001; expected 1 to 1000"),
        ({"confidences": np.full((9, 17), np.nan)}, "confidences have numbers below 0, or not finite"),
        ({"confidences": np.full((9, 17), -1)}, "confidences have numbers below 0"),
        ({"keypoints": [[1, 2], [3]]}, r"keypoints are no array of numbers \(list\); expected \(N, J, 2\)"),
        ({"keypoints": None}, r"keypoints have shape \(\); expected \(N, 17, 2\)"),
        ({"keypoints": {}}, r"keypoints are no array of numbers \(dict\)"),
        ({"keypoints": []}, r"keypoints have shape \(0,\)"),
    ],
)
def test_numbers_that_cannot_be_meant(network, arguments, fault):
    arguments = dict(arguments)
    keypoints = arguments.pop("keypoints", walker(9))
    with pytest.raises(ValueError, match=fault) as caught:
        lift(keypoints, guessed_camera(1000, 800), network, **arguments)
    assert "\n" not in str(caught.value)
    if "sampling_timesteps" in arguments and arguments["sampling_timesteps"] < 1:  # of a model that does not say
        with pytest.raises(ValueError, match="sampling_timesteps is 0; expected 1 or more"):
            lift(keypoints, guessed_camera(1000, 800), FlatLifter(), **arguments)
