"""Hypotheses whose errors are known: every setting finds what it must, and frames are counted as published."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.camera import project_to_2d
from common.clip_text import TextTowerConfig, random_text_tower
from common.datasets import load_dataset
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.evaluation import Sampling, average, batch_answers, evaluate, predict_clip
from common.model import DSGDiffu
from common.settings import SETTINGS, TRUE_ROOT
from common.skeleton import H36M
from common.text_prompts import ACTION_PROMPT


class Oracle(DSGDiffu):
    """Answers with the truth of the clip it is asked about, each hypothesis with its own offset added."""

    def answer(self, clips, offsets):
        """`offsets`: (H, J, 3), or with a clip's frames (H, N, J, 3); metres."""
        self.clips, self.offsets = clips, offsets if offsets.ndim == 4 else offsets[:, None]

    def sample(self, x_2d, prompts, noise):
        K, _, H, F = noise.shape[:4]
        known = {
            clip.poses_2d[frame].tobytes(): torch.from_numpy(clip.poses_3d[frame])
            + self.offsets[:, min(frame, self.offsets.shape[1] - 1)]
            for clip in self.clips
            for frame in range(len(clip.root))
        }
        samples = torch.stack(
            [torch.stack([known[pose.numpy().tobytes()] for pose in window], dim=1) for window in x_2d]
        )  # (B, H, F, J, 3)
        return samples[:, None].expand(-1, K, H, F, -1, -1).clone()


@pytest.fixture
def case(h36m_files):
    clips = load_dataset("h36m", h36m_files.save().folder, "gt", subjects_train=["S1"], subjects_test=["S9"]).test
    tower = random_text_tower(config=TextTowerConfig(width=32, layers=1, heads=4))
    model = Oracle.build(DenoiserConfig(9, 16, 1), H36M, ACTION_PROMPT, tower, GaussianDiffusion())
    return model, clips


def test_each_setting_finds_what_it_must(case):
    model, clips = case
    offsets = torch.zeros(3, 17, 3)
    offsets[0, 1:9] = 0.1  # hypothesis 0 is right about half of the joints, 1 about the others, 2 about none
    offsets[1, 9:] = 0.1
    offsets[2] = 0.3
    model.answer(clips, offsets)
    found = evaluate(model, clips, Sampling(9, 3, 2, 4)).average("")[1]
    distance = 1000 * 3**0.5
    np.testing.assert_allclose(found["J_Best"], 0, atol=1e-2)
    np.testing.assert_allclose(found["P_Best"], [0.1 * distance * 8 / 17] * 2, rtol=1e-4)
    np.testing.assert_allclose(found["P_Agg"], [distance * (16 * 0.4 / 3 + 0.3 / 3) / 17] * 2, rtol=1e-4)
    np.testing.assert_allclose(found["J_Agg"], 0, atol=1e-2)  # pixels without noise name the right hypothesis
    assert list(found) == list(SETTINGS)


def test_p_best_is_chosen_once_for_each_batch_of_windows(case):
    model, clips = case
    offsets = torch.zeros(2, clips[0].num_frames, 17, 3)
    offsets[0, 9:] = 0.2  # the best in the first of the windows 0..8, 9..17, 11..19, the worse in the others
    offsets[1] = 0.1
    model.answer(clips[:1], offsets)
    for batch_windows, expected in ((3, 0.1), (1, (0 + 0.1 + 0.1) / 3)):
        found = evaluate(model, clips[:1], Sampling(9, 2, 1, batch_windows)).average("")[1]
        np.testing.assert_allclose(found["P_Best"], expected * 1000 * 3**0.5, rtol=1e-4)


def test_j_agg_reprojects_each_frame_from_where_its_root_is(case):
    clip = case[1][0]
    root = np.float32([0, 0, 5]) + np.arange(clip.num_frames, dtype=np.float32)[:, None] * np.float32([0.1, 0, 0.05])
    absolute = torch.from_numpy(clip.poses_3d + root[:, None])[None]
    x_2d = project_to_2d(absolute, torch.from_numpy(clip.camera.intrinsics)[None])[0].numpy()
    clip = replace(clip, root=root, poses_2d=x_2d)
    frames = np.arange(18).reshape(2, 9)
    truth = torch.from_numpy(clip.poses_3d[frames])
    walked = torch.from_numpy(
        (root[frames] - root[frames[:, :1]])[:, :, None]
    )  # seen right from the first frame's root
    answers = batch_answers(clip, frames, torch.stack([truth + walked, truth], dim=1)[:, None], p2=False)
    torch.testing.assert_close(answers[1]["J_Agg"][:, 0], truth)


def test_the_deployable_settings_do_not_see_the_true_root(case):
    clip = case[1][0]
    frames = np.arange(18).reshape(2, 9)
    torch.manual_seed(0)
    samples = torch.from_numpy(clip.poses_3d[frames])[:, None, None] + 0.05 * torch.randn(2, 1, 4, 9, 17, 3)
    lost = replace(clip, root=clip.root + np.float32([2, 0, 0]))
    found, again = (batch_answers(of_clip, frames, samples, p2=True) for of_clip in (clip, lost))
    for protocol in (1, 2):
        for setting in found[protocol]:
            same = torch.equal(found[protocol][setting], again[protocol][setting])
            assert same == (SETTINGS[setting].kind != TRUE_ROOT)


def test_confidences_weigh_the_joints_that_the_root_is_solved_from(case):
    clip = case[1][0]
    frames = np.arange(18).reshape(2, 9)
    poses_2d, trust = clip.poses_2d.copy(), np.ones((clip.num_frames, 17), np.float32)
    poses_2d[:, 3:6] += 0.3  # far off, and the detector may know it: else the root goes there, and the joints with it
    truth = torch.from_numpy(clip.poses_3d[frames])
    samples = torch.stack([truth - torch.tensor([0.05, 0, 0]) * (torch.arange(17) > 9)[:, None], truth], dim=1)[:, None]
    chosen = {}
    for confidence in (1, 0):
        trust[:, 3:6] = confidence
        marked = replace(clip, poses_2d=poses_2d, confidences=trust)
        poses = batch_answers(marked, frames, samples, p2=False)[1]["J_Agg_est"][:, 0]
        chosen[confidence] = (poses[:, :, 10:, 0] == truth[:, :, 10:, 0]).float().mean().item()
    assert chosen[0] == 1
    assert chosen[1] < 0.5
    unmarked = batch_answers(replace(clip, poses_2d=poses_2d), frames, samples, p2=False)[1]
    filled = replace(clip, poses_2d=poses_2d, confidences=np.zeros_like(trust))  # nobody found: all there is
    for setting, poses in batch_answers(filled, frames, samples, p2=False)[1].items():
        assert torch.equal(poses, unmarked[setting])


def test_a_similar_pose_has_no_protocol_2_error(case):
    model, clips = case
    model.answer(clips, torch.zeros(1, 17, 3) + 0.2)
    found = evaluate(model, clips, Sampling(9, 1, 1, 4, p2=True)).average("")
    np.testing.assert_allclose(found[2]["P_Agg"], 0, atol=1e-2)
    np.testing.assert_allclose(found[1]["P_Agg"], 200 * 3**0.5, rtol=1e-4)


def test_frames_are_counted_as_published(case):
    model, clips = case
    model.answer(clips, torch.zeros(1, 17, 3))
    found = evaluate(model, clips, Sampling(9, 1, 1, 4))
    assert found.rows("")["Walking"].num_frames == 4 * (27 + 27)  # 20 and 21 frames: three windows of 9 each
    assert evaluate(model, clips, Sampling(50, 1, 1, 4)).num_frames == 4 * 3 * 50  # a short clip is one padded window


def test_actions_count_the_same_whatever_their_length():
    errors = [{1: {"P_Agg": np.array([10.0])}}, {1: {"P_Agg": np.array([30.0])}}]
    assert average(errors)[1]["P_Agg"] == 20


def test_a_clip_is_put_together_from_its_windows(case):
    model, clips = case
    model.answer(clips, torch.zeros(2, 17, 3))
    hypotheses = predict_clip(model, clips[0], Sampling(9, 2, 1, 2))
    assert hypotheses.shape == (2, 20, 17, 3)
    np.testing.assert_array_equal(hypotheses[1], clips[0].poses_3d)


def test_the_model_is_left_in_the_mode_it_was_in(case):
    model, clips = case
    model.answer(clips, torch.zeros(1, 17, 3))
    evaluate(model.train(), clips[:1], Sampling(9))
    assert model.training


def test_joints_and_clips_have_their_own_errors(case):
    model, clips = case
    offsets = torch.zeros(1, clips[0].num_frames, 17, 3)
    offsets[0, :, 5, 0] = 0.1  # one joint is 100 mm off, in one frame 300
    offsets[0, 13, 5, 0] = 0.3
    model.answer(clips, offsets)
    found = evaluate(model, clips, Sampling(9, 1, 2, 2, p2=True), by_subject=True)
    (table, *_) = found.rows("S9").values()
    joints = table.joint_errors[1]["P_Agg"]
    assert joints.shape == (2, 17)
    np.testing.assert_allclose(np.delete(joints, 5, axis=1), 0, atol=1e-3)
    np.testing.assert_allclose(table.errors[1]["P_Agg"], joints.mean(axis=1))
    assert [result.clip for result in found.clips] == list(clips)
    clip = found.clips[0]
    # 20 frames in the windows 0..8, 9..17 and 11..19: frame 13 counts twice.
    assert clip.errors.errors[1]["P_Agg"][-1] == pytest.approx((25 * 100 + 2 * 300) / 27 / 17, rel=1e-4)
    assert list(clip.shown) == [0, 10, 13, 19]
    for frame, hypotheses in clip.shown.items():
        np.testing.assert_allclose(hypotheses[0], clip.clip.poses_3d[frame] + offsets[0, frame].numpy(), atol=1e-6)
