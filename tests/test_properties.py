"""What must hold whatever the numbers are: hypothesis looks for a case that does not."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from common.aggregation import mean_hypothesis, nearest_reprojection, reprojection_mean, take_hypothesis
from common.camera import (
    Camera,
    camera_to_world,
    image_coordinates,
    load_cameras,
    normalize_screen_coordinates,
    project_to_2d,
    world_to_camera,
    world_to_image,
)
from common.clip_text import TextTowerConfig, random_text_tower
from common.clips import Clip
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.metrics import joint_errors, p_mpjpe
from common.model import DSGDiffu
from common.oracles import best_joint
from common.protocols import mean_errors, setting_poses
from common.sampler import window_noise
from common.skeleton import H36M, HUMANEVA15, Skeleton, mirror
from common.text_prompts import ACTION_PROMPT
from common.windows import TrainingWindows, evaluation_starts, first_occurrences, training_starts, window_frames
from tests.conftest import awaken

SKELETONS = (H36M, HUMANEVA15)
VERBS = ("Walking", "Sitting", "Eating")

seeds = st.integers(0, 2**32 - 1)
numbers = st.floats(-1e3, 1e3, width=32)
patient = settings(deadline=None)
few = settings(deadline=None, max_examples=15)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- mirror images ---


@patient
@given(st.sampled_from(SKELETONS), st.sampled_from((2, 3)), st.lists(numbers, min_size=1, max_size=6), st.data())
def test_a_mirror_image_of_a_mirror_image_is_the_pose(skeleton, dimensions, values, data):
    pose = np.resize(np.float32(values), (2, skeleton.num_joints, dimensions))
    joint = data.draw(st.integers(0, skeleton.num_joints - 1))
    pose[0, joint] = 7  # so that no two joints need be alike
    once = mirror(pose, skeleton)
    np.testing.assert_array_equal(mirror(once, skeleton), pose)
    assert torch.equal(mirror(mirror(torch.from_numpy(pose), skeleton), skeleton), torch.from_numpy(pose))
    other = skeleton.mirror_order[joint]
    np.testing.assert_array_equal(once[0, other], [-7, *[7] * (dimensions - 1)])
    for joint, parent in skeleton.bones:  # a bone's mirror image is a bone
        assert skeleton.parents[skeleton.mirror_order[joint]] == skeleton.mirror_order[parent]


# --- cameras ---


def camera(seed: int, intrinsics: np.ndarray | None = None) -> Camera:
    random = np.random.default_rng(seed)
    quaternion = random.normal(size=4)
    return Camera(
        "any",
        int(random.integers(1, 4000)),
        int(random.integers(1, 4000)),
        orientation=quaternion / np.linalg.norm(quaternion),
        translation=random.normal(size=3) * 5,
        intrinsics=intrinsics,
    )


@patient
@given(seeds)
def test_world_to_camera_and_back(seed):
    points = normal(seed, 4, 17, 3).numpy() * 10
    view = camera(seed)
    seen = world_to_camera(points, view)
    np.testing.assert_allclose(camera_to_world(seen, view), points, atol=1e-9)
    np.testing.assert_allclose(world_to_camera(camera_to_world(points, view), view), points, atol=1e-9)
    between = [np.linalg.norm(there[:, 1:] - there[:, :-1], axis=-1) for there in (seen, points)]
    np.testing.assert_allclose(*between, atol=1e-9)  # nothing is stretched


@patient
@given(st.lists(st.tuples(numbers, numbers), min_size=1), st.integers(1, 8000), st.integers(1, 8000))
def test_pixels_to_screen_and_back(pixels, width, height):
    pixels = np.array(pixels)
    screen = normalize_screen_coordinates(pixels, width, height)
    np.testing.assert_allclose(image_coordinates(screen, width, height), pixels, atol=1e-9 * max(width, height))
    corners = normalize_screen_coordinates(np.array([[0, 0], [width, height]]), width, height)
    np.testing.assert_allclose(corners, [[-1, -height / width], [1, height / width]], atol=1e-9)


@patient
@given(seeds, st.sampled_from([view for views in load_cameras("h36m.json").values() for view in views]))
def test_a_point_that_was_projected_lies_on_its_ray(seed, view):
    """Undistorted by iteration, with the depth, pixels are the point again."""
    random = np.random.default_rng(seed)
    depth = random.uniform(2, 8, size=5)
    ray = random.uniform(-0.4, 0.4, size=(5, 2))
    points = np.column_stack([ray * depth[:, None], depth])
    pixels, ahead = world_to_image(camera_to_world(points, view), view)
    np.testing.assert_allclose(ahead, depth, atol=1e-9)
    focal, centre, radial, tangential = np.split(view.intrinsics.astype(float), [2, 4, 7])
    goal = (normalize_screen_coordinates(pixels, view.width, view.height) - centre) / focal
    found = goal
    for _ in range(100):
        r2 = (found**2).sum(axis=-1, keepdims=True)
        factor = 1 + np.concatenate([r2, r2**2, r2**3], axis=-1) @ radial + found @ tangential
        found = (goal - tangential * r2) / factor[:, None]
    np.testing.assert_allclose(found, ray, atol=1e-6)
    straight = np.float32([*focal, *centre, 0, 0, 0, 0, 0])
    screen = project_to_2d(torch.from_numpy(points)[None], torch.from_numpy(straight).double()[None])[0].numpy()
    np.testing.assert_allclose((screen - straight[2:4]) / straight[:2], ray, atol=1e-6)


# --- windows ---


@pytest.mark.parametrize("window", [1, 2, 3, 9, 27, 81, 243, 351, 1000])
def test_a_clip_of_every_length_is_whole_again_after_windows(window):
    for length in range(1, 1001):
        clip = np.arange(length) * 3
        for starts in (evaluation_starts(length, window), training_starts(length, window)):
            frames = window_frames(length, window, starts)
            assert frames.shape == (-(-length // window), window)
            np.testing.assert_array_equal(clip[frames][first_occurrences(frames)], clip)
            assert frames.min() == 0
            assert frames.max() == length - 1
            assert set(np.unique(np.diff(frames, axis=1))) <= {0, 1}  # time runs on, or stands at an edge
        frames = window_frames(length, window, evaluation_starts(length, window))
        if length >= window:
            assert (np.diff(frames, axis=1) == 1).all()  # nothing is made up
            assert (frames[:-1] == np.arange(length // window * window)[: frames[:-1].size].reshape(-1, window)).all()


@patient
@given(st.integers(1, 1000), st.integers(1, 1000))
def test_a_clip_of_any_length_and_any_window(length, window):
    frames = window_frames(length, window, evaluation_starts(length, window))
    assert frames.shape == (-(-length // window), window)
    np.testing.assert_array_equal(frames[first_occurrences(frames)], np.arange(length))


@few
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(1, 30), st.integers(1, 8), seeds)
def test_an_epoch_has_every_window_and_its_mirror_image_once(lengths, window, batch_windows, seed):
    clips = []
    for number, length in enumerate(lengths):
        poses = normal(seed + number, length, 17, 3).numpy().astype(np.float32)
        clips.append(Clip("S1", "Walking", None, poses[..., :2], poses, None, (1000, 1000)))
    windows = TrainingWindows(clips, window, H36M, batch_windows, mirrored=True, seed=seed % 1000)
    batches = [windows.batch(chosen) for chosen in windows.order(1)]
    found = sorted(pose.tobytes() for batch in batches for pose in batch.x_start.numpy())
    wanted = []
    for clip in clips:
        frames = window_frames(clip.num_frames, window, training_starts(clip.num_frames, window))
        wanted += [pose.tobytes() for pose in (*clip.poses_3d[frames], *mirror(clip.poses_3d[frames], H36M))]
    assert found == sorted(wanted)
    for batch in batches:
        assert torch.equal(batch.x_2d, batch.x_start[..., :2])  # an input stays with its truth


# --- aggregation and errors ---


def hypotheses(seed: int, size: tuple[int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples (B, K, H, F, 17, 3) around a truth (B, F, 17, 3), of a size (B, K, H, F)."""
    target = normal(seed, size[0], size[3], 17, 3)
    return target[:, None, None] + 0.3 * normal(seed + 1, *size, 17, 3), target


def some_valid(seed: int, target: torch.Tensor) -> torch.Tensor:
    valid = normal(seed + 2, *target.shape[:2]) > 0
    valid[0, 0] = True
    return valid


sizes = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 6), st.integers(1, 4))


@patient
@given(seeds, sizes, st.booleans(), st.data())
def test_the_order_of_the_hypotheses_means_nothing(seed, size, align, data):
    B, _, H, F = size
    samples, target = hypotheses(seed, size)
    order = data.draw(st.permutations(range(H)))
    valid, every = some_valid(seed, target), torch.ones(B, F, dtype=torch.bool)
    x_2d = target[..., :2] + 0.1

    def answers(samples):
        reprojected = samples[..., :2]  # a camera far away
        means = {"P_Agg": mean_hypothesis(samples), "R_Agg": reprojection_mean(samples, reprojected, x_2d)}
        chosen = {"J_Agg": nearest_reprojection(reprojected, x_2d)}
        return setting_poses(samples, target, valid, means, chosen, align)

    plain, shuffled = answers(samples), answers(samples[:, :, order])
    for setting, poses in plain.items():
        torch.testing.assert_close(shuffled[setting], poses, rtol=0, atol=1e-9, msg=setting)
    torch.testing.assert_close(mean_hypothesis(samples), mean_hypothesis(samples[:, :, order]))
    errors = mean_errors(plain, target, every)
    for setting, error in mean_errors(shuffled, target, every).items():
        torch.testing.assert_close(error, errors[setting])


@patient
@given(seeds, sizes, st.booleans(), st.floats(0, 2))
def test_no_choice_is_better_than_that_of_each_joint(seed, size, align, offset):
    """J-Best <= P-Best and J-Agg, in every frame and joint; P-Best <= every hypothesis by the frames that choose."""
    B, _, H, F = size
    samples, target = hypotheses(seed, size)
    samples = samples + offset
    valid = some_valid(seed, target)
    x_2d = normal(seed + 3, B, F, 17, 2)
    chosen = {"J_Agg": nearest_reprojection(samples[..., :2], x_2d)}
    poses = setting_poses(samples, target, valid, {}, chosen, align)
    best = joint_errors(poses["J_Best"], target[:, None])
    for setting in ("P_Best", "J_Agg"):
        assert (best <= joint_errors(poses[setting], target[:, None]) + 1e-12).all()
    errors = mean_errors(poses, target, valid)
    assert (errors["J_Best"] <= errors["P_Best"] + 1e-12).all()
    for number in range(H):
        one = setting_poses(samples[:, :, [number]], target, valid, {}, {}, align)["P_Best"]
        others = mean_errors({"": one}, target, valid)[""]
        assert (errors["P_Best"].mean(dim=-1) <= others.mean(dim=-1) + 1e-12).all()


@patient
@given(seeds, st.integers(1, 30), st.floats(0, 2))
def test_j_best_is_not_above_p_agg_where_the_mean_is_one_of_many(seed, num_hypotheses, offset):
    """The mean itself can be nearer than every hypothesis; never by more than they are apart from it."""
    samples, target = hypotheses(seed, (1, 1, num_hypotheses, 2))
    samples = samples + offset
    means, every = {"P_Agg": mean_hypothesis(samples)}, torch.ones(1, 2, dtype=torch.bool)
    poses = setting_poses(samples, target, every, means, {}, align=False)
    with_mean = torch.cat([samples, mean_hypothesis(samples)[:, :, None]], dim=2)
    best = take_hypothesis(with_mean, best_joint(joint_errors(with_mean, target[:, None, None])))
    p_agg = joint_errors(poses["P_Agg"], target[:, None])
    assert (joint_errors(best, target[:, None]) <= p_agg + 1e-12).all()
    spread = joint_errors(samples, mean_hypothesis(samples)[:, :, None]).amin(dim=2)
    assert (joint_errors(poses["J_Best"], target[:, None]) <= p_agg + spread + 1e-12).all()
    mean_of_errors = joint_errors(samples, target[:, None, None]).mean(dim=2)
    assert (p_agg <= mean_of_errors + 1e-12).all()  # the norm is convex


@patient
@given(seeds, st.floats(0.01, 100), st.floats(-1e3, 1e3), st.integers(4, 20))
def test_p_mpjpe_does_not_see_similarity_transforms(seed, scale, shift, num_joints):
    target, predicted = normal(seed, 3, num_joints, 3), normal(seed + 1, 3, num_joints, 3)
    turn = torch.from_numpy(Rotation.from_quat(normal(seed + 2, 4).numpy()).as_matrix())
    moved = scale * predicted @ turn.T + shift
    error = p_mpjpe(predicted, target)
    torch.testing.assert_close(p_mpjpe(moved, target), error, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        p_mpjpe(scale * target @ turn.T + shift, target), torch.zeros_like(error), atol=1e-6, rtol=0
    )
    turned = p_mpjpe(predicted, target @ turn.T + shift)  # and the truth's own place and turn mean nothing
    torch.testing.assert_close(turned, error, rtol=1e-6, atol=1e-9)
    assume((error > 1e-3).all())
    flipped = target * torch.tensor([-1.0, 1, 1])
    assert (p_mpjpe(flipped, target) > 1e-6).all()  # a mirror image is another pose


# --- the whole network ---


def small_model(skeleton: Skeleton) -> DSGDiffu:
    torch.manual_seed(0)
    tower = random_text_tower(config=TextTowerConfig(width=32, layers=1, heads=4))
    model = DSGDiffu.build(DenoiserConfig(4, 16, 2), skeleton, ACTION_PROMPT, tower, GaussianDiffusion())
    awaken(model.denoiser)
    return model.eval()


@pytest.fixture(scope="module")
def models():
    return {skeleton.name: small_model(skeleton) for skeleton in SKELETONS}


@few
@given(
    st.sampled_from(SKELETONS),
    st.lists(st.sampled_from(VERBS), min_size=1, max_size=4),
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 4)),
    st.integers(1, 20),
    seeds,
    st.data(),
)
def test_a_windows_answer_does_not_depend_on_its_batch(models, skeleton, verbs, size, chunk, seed, data):
    """Sampled alone, in a batch of others in any order, and with fewer hypotheses, in chunks of any size."""
    model, B, J = models[skeleton.name], len(verbs), skeleton.num_joints
    H, K, F = size
    x_2d = normal(seed, B, F, J, 2).float()
    noise = torch.stack([window_noise(seed, "clip", number, (K, H, F, J, 3)) for number in range(B)], dim=1)
    together = model.sample(x_2d, model.encode(verbs), noise)
    assert together.shape == (B, K, H, F, J, 3)
    order = data.draw(st.permutations(range(B)))
    model.chunk = chunk
    shuffled = model.sample(x_2d[order], model.encode([verbs[i] for i in order]), noise[:, order])
    torch.testing.assert_close(shuffled, together[order], rtol=1e-4, atol=1e-5)
    model.chunk = 0  # what the device takes
    for window in range(B):
        kept = data.draw(st.integers(1, H))
        alone = model.sample(x_2d[[window]], model.encode([verbs[window]]), noise[:, [window], :kept])
        torch.testing.assert_close(alone[0], together[window, :, :kept], rtol=1e-4, atol=1e-5)


def test_the_network_does_answer_something_else_for_another_input(models):
    """Or the test above would hold of a network that looks at nothing."""
    model = models[H36M.name]
    noise = window_noise(0, "clip", 0, (1, 1, 4, 17, 3))[:, None]
    x_2d = normal(0, 1, 4, 17, 2).float()
    answer = model.sample(x_2d, model.encode(["Walking"]), noise)
    for other in (
        model.sample(x_2d + 0.5, model.encode(["Walking"]), noise),
        model.sample(x_2d, model.encode(["Sitting"]), noise),
        model.sample(x_2d, model.encode(["Walking"]), noise + 0.5),
    ):
        assert (other - answer).abs().max() > 1e-3
