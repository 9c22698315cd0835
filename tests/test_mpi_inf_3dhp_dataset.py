"""MPI-INF-3DHP's files to clips: what is read, what is picked, the cameras, and one clear line for what is odd."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.camera import image_coordinates, project_to_2d
from common.datasets import load_dataset
from common.errors import DataError, UsageError
from common.mpi_inf_3dhp_dataset import CALIBRATIONS
from common.npz_files import read_npz, write_npz
from common.release_compat import release_cameras
from common.scenes import clip_scene
from common.skeleton import MPI_INF_3DHP
from common.text_prompts import NEUTRAL_VERB
from tests.conftest import project

SHARED = Path(__file__).parents[2] / "shared" / "data"


def load(files, **options):
    return load_dataset("3dhp", files.folder, "ori", **options)


def test_clips_hold_the_files_numbers(mpi_files):
    mpi_files.test["TS5"]["valid"][3:5] = 0
    dataset = load(mpi_files.save())
    assert [clip.name for clip in dataset.train] == [
        f"{sequence} camera {camera}" for sequence in ("S1 Seq1", "S1 Seq2", "S2 Seq1") for camera in (0, 2)
    ]
    assert [clip.row for clip in dataset.test] == ["TS1", "TS2", "TS5", "TS6"]
    assert {clip.verb for clip in dataset.train + dataset.test} == {NEUTRAL_VERB}
    clip = dataset.test[2]
    assert clip.size == (1920, 1080)
    assert (clip.valid.dtype, np.flatnonzero(~clip.valid).tolist()) == (bool, [3, 4])
    assert not clip.poses_3d[:, 14].any()
    stored = mpi_files.test["TS5"]
    np.testing.assert_allclose(1000 * (clip.poses_3d + clip.root[:, None]), stored["data_3d"], atol=1e-2)
    pixels = image_coordinates(clip.poses_2d, *clip.size)
    np.testing.assert_allclose(pixels, stored["data_2d"], atol=1e-3)
    again = project((clip.poses_3d + clip.root[:, None]).astype(np.float64), clip.camera)
    np.testing.assert_allclose(again, stored["data_2d"], atol=1e-2)
    training = image_coordinates(dataset.train[0].poses_2d, 2048, 2048)
    np.testing.assert_allclose(training, mpi_files.train["S1 Seq1"][0]["0"]["data_2d"], atol=1e-3)


def test_the_test_cameras_are_the_published_ones():
    focal, centre = np.array([8.770747185, 8.770747185 * 0.993236]) * 192, np.array([960, 540])
    centre = centre + 192 * np.array([-0.104908645, 0.104899704])
    point = np.array([[0.3, -0.4, 3.0]])
    expected = focal * point[:, :2] / point[:, 2:] + centre
    np.testing.assert_allclose(project(point, CALIBRATIONS["TS6"].camera("0")), expected, atol=1e-3)
    focal, centre = 7.32506 * 204.8, 1024 + 204.8 * np.array([-0.0322884, 0.0929296])
    expected = focal * point[:, :2] / point[:, 2:] + centre
    np.testing.assert_allclose(project(point, CALIBRATIONS["TS4"].camera("0")), expected, atol=1e-3)


def reprojection_error(clip):
    """Mean distance in pixels between the clip's 2D and its 3D seen by its camera, valid frames."""
    points = torch.from_numpy(clip.poses_3d + clip.root[:, None])[None]
    screen = project_to_2d(points, torch.from_numpy(clip.camera.intrinsics)[None])[0].numpy()
    pixels = (image_coordinates(of_clip, *clip.size) for of_clip in (screen, clip.poses_2d))
    return np.linalg.norm(np.subtract(*pixels), axis=-1)[clip.counted].mean()


def test_fault_15_the_pixel_aspect_is_switched_back_by_the_release_alone(mpi_files):
    clips = {clip.subject: clip for clip in load(mpi_files.save(), training=False).test}
    theirs = {clip.subject: clip for clip in release_cameras(list(clips.values()))}
    assert reprojection_error(clips["TS5"]) < 0.01
    assert reprojection_error(theirs["TS5"]) > 0.1
    for name, clip in theirs.items():
        assert clip.camera.intrinsics[0] == pytest.approx(clip.camera.intrinsics[1])
        assert (clip.camera is clips[name].camera) == (name in ("TS1", "TS2"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
def test_fault_15_on_the_real_sequence():
    (clip,) = load_dataset("3dhp", SHARED / "cmu_3dhp", "ori", subjects_test=["TS5"], training=False).test
    assert reprojection_error(clip) < 0.35
    assert 1.4 < reprojection_error(release_cameras([clip])[0]) < 1.6


def test_subjects_sequences_and_held_out_ones(mpi_files):
    mpi_files.train["S11 Seq1"] = mpi_files.train["S2 Seq1"]
    mpi_files.save()
    dataset = load(mpi_files, subjects_train=["S1"], subjects_test=["TS1", "TS5"])
    assert {clip.row for clip in dataset.train} == {"S1 Seq1", "S1 Seq2"}
    assert [clip.row for clip in dataset.test] == ["TS1", "TS5"]
    dataset = load(mpi_files, actions=["Seq1"], val_subjects=["S2"], downsample=2)
    assert {clip.row for clip in dataset.train} == {"S1 Seq1", "S11 Seq1"}
    assert {clip.row for clip in dataset.validation} == {"S2 Seq1"}
    assert {clip.row for clip in dataset.test} == {"TS1", "TS2", "TS5", "TS6"}  # -ste alone picks these
    assert dataset.test[0].num_frames == len(dataset.test[0].valid) == 10


def test_activity_annotation_and_matlabs_columns(mpi_files):
    assert load(mpi_files.save(), training=False).test[0].annotation == "annot3, presumably (the file does not say)"
    mpi_files.members["annotation"] = "univ_annot3"
    activity = np.arange(1.0, 22) % 7 + 1
    activity[5] = 0  # nothing is said of a frame that does not count
    stored = mpi_files.test["TS5"]
    stored["valid"][5] = 0
    stored |= {"valid": stored["valid"][:, None], "activity": activity[:, None]}
    clip = load(mpi_files.save(), training=False).test[2]
    assert clip.annotation == "univ_annot3"
    np.testing.assert_array_equal(clip.activity, activity)
    assert clip.activity.dtype == np.int64
    assert not clip.valid[5]
    assert clip.arrays()["activity"] is clip.activity
    write_npz(mpi_files.path_test, data=mpi_files.test, annotation=np.array("annot3"))
    assert load(mpi_files, training=False).test[0].annotation == "annot3"


def test_training_needs_the_test_file_too_and_evaluation_not_the_training_file(mpi_files):
    mpi_files.save().path_train.unlink()
    assert len(load(mpi_files, training=False).test) == 4
    with pytest.raises(DataError, match=r"data_train_3dhp_ori.npz not found; data/README.md"):
        load(mpi_files)


def test_it_is_drawn_with_a_level_camera(mpi_files):
    clip = load(mpi_files.save(), training=False).test[0]
    scene = clip_scene(clip, clip.poses_3d[None], MPI_INF_3DHP)
    np.testing.assert_allclose(np.ptp(scene.prediction[..., 2]), np.ptp(clip.poses_3d[..., 1]), rtol=1e-5)


def spoil(files, kind):
    """Make one thing wrong; returns what the message must say."""
    test, views = files.test["TS5"], files.train["S1 Seq2"][0]
    if kind == "no data_3d":
        del test["data_3d"]
        return "TS5 has no data_3d, only data_2d, valid"
    if kind == "no valid":
        del test["valid"]
        return "TS5 has no valid"
    if kind == "no dict":
        files.test["TS5"] = test["data_2d"]
        return "TS5 is ndarray; expected a dict of data_2d, data_3d, valid"
    if kind == "unknown sequence":
        files.test["TS7"] = test
        return "TS7 is no test sequence whose camera is known; known: TS1"
    if kind == "no sequence in the name":
        files.train["Seq3"] = files.train["S1 Seq2"]
        return "data has 'Seq3'; expected a subject and a sequence"
    if kind == "no list":
        files.train["S1 Seq2"] = views
        return "S1 Seq2 is dict; expected a list that begins with a dict of cameras"
    if kind == "no camera":
        files.train["S1 Seq2"] = [{}, 50]
        return "expected a list that begins with a dict of cameras"
    if kind == "no data_2d in a camera":
        views["2"] = {"data_3d": views["2"]["data_3d"]}
        return "S1 Seq2 camera 2 has no data_2d"
    if kind == "joints":
        test["data_2d"] = test["data_2d"][:, :16]
        return r"TS5 data_2d has shape \(21, 16, 2\); expected \(N, 17, 2\) pixels"
    if kind == "28 joints":
        views["2"] = {"data_2d": views["2"]["data_2d"], "data_3d": np.zeros((21, 28, 3))}
        return r"S1 Seq2 camera 2 data_3d has shape \(21, 28, 3\)"
    if kind == "NaN":
        test["data_3d"][7, 2, 1] = np.nan
        return "TS5 data_3d is not a finite number in frame 7"
    if kind == "lengths":
        test["data_3d"] = test["data_3d"][:-1]
        return "TS5 has 21 frames of 2D for 20 of 3D"
    if kind == "length of valid":
        test["valid"] = test["valid"][:-1]
        return r"TS5 valid has shape \(20,\) for 21 frames"
    if kind == "valid is text":
        test["valid"] = "all"
        return r"TS5 valid is str; expected an array \(21,\) of 0 or 1"
    if kind == "valid is frame numbers":
        test["valid"] = np.arange(21)
        return "TS5 valid is 2 in frame 2; expected 0 or 1"
    if kind == "activity":
        test["activity"] = np.full(21, 8)
        return "TS5 activity is 8 in frame 0; expected 1 to 7"
    if kind == "metres":
        test["data_3d"] /= 1000
        return r"TS5 data_3d has no joint farther than .* expected mm \(is it metres\?\)"
    if kind == "metres in training":
        views["2"] = {**views["2"], "data_3d": views["2"]["data_3d"] / 1000}
        return "S1 Seq2 camera 2 data_3d has no joint farther"
    if kind == "micrometres":
        test["data_3d"] *= 1000
        return "TS5 data_3d has the number .*e.06; expected mm"
    if kind == "hundredths of mm":
        test["data_3d"] *= 100
        return "TS5 data_3d has a joint .* from the root; expected mm$"
    if kind == "screen coordinates":
        test["data_2d"] = test["data_2d"] / 2000
        return "TS5 data_2d has no number above .*; expected pixels"
    if kind == "root-relative":
        test["data_3d"] -= test["data_3d"][:, 14:15]
        return "behind the camera in frame 0; expected camera space, not root-relative"
    if kind == "annotation":
        files.members["annotation"] = "annot2"
        return "annotation is 'annot2'; expected annot3 or univ_annot3"
    if kind == "no frames":
        files.test["TS5"] = {"data_2d": np.zeros((0, 17, 2)), "data_3d": np.zeros((0, 17, 3)), "valid": np.zeros(0)}
        return "TS5 data_2d has no frames"
    raise ValueError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "no data_3d", "no valid", "no dict", "unknown sequence", "no sequence in the name", "no list", "no camera",
        "no data_2d in a camera", "joints", "28 joints", "NaN", "lengths", "length of valid", "valid is text",
        "valid is frame numbers", "activity", "metres", "metres in training", "micrometres", "hundredths of mm",
        "screen coordinates", "root-relative",
        "annotation", "no frames",
    ],
)  # fmt: skip
def test_odd_files_are_one_clear_line(mpi_files, kind):
    expected = spoil(mpi_files, kind)
    with pytest.raises(DataError, match=expected) as caught:
        load(mpi_files.save())
    assert "\n" not in str(caught.value)
    assert "_3dhp_ori.npz: " in str(caught.value)


def test_wrong_keys_and_absent_sequences(mpi_files):
    mpi_files.save()
    with pytest.raises(UsageError, match=r"no subject 'TS3' in .*test_3dhp_ori.npz; it has TS1, TS2, TS5, TS6"):
        load(mpi_files, subjects_test=["TS3"])
    with pytest.raises(UsageError, match=r"no subject 'S3' in .*train_3dhp_ori.npz; it has S1, S2"):
        load(mpi_files, subjects_train=["S3"])
    with pytest.raises(UsageError, match="no action begins with 'Seq4' among -str's: Seq1, Seq2"):
        load(mpi_files, actions=["Seq4"])
    with pytest.raises(UsageError, match=r"'TS1' is not a training subject \(S1, S2\)"):
        load(mpi_files, val_subjects=["TS1"])
    with pytest.raises(DataError, match=r"data_test_3dhp_gt.npz not found; there is data_test_3dhp_ori.npz"):
        load_dataset("3dhp", mpi_files.folder, "gt")
    for content in ({}, [1], {1: {}}):
        write_npz(mpi_files.path_test, data=content)
        with pytest.raises(DataError, match="data is no dict of named sequences"):
            load(mpi_files)
    write_npz(mpi_files.path_test, poses=np.zeros(3))
    with pytest.raises(DataError, match="has no member 'data'"):
        load(mpi_files)


def test_optional_members_are_left_out_where_they_are_not(mpi_files):
    found = read_npz(mpi_files.save().path_test, ["data"], ["annotation"])
    assert list(found) == ["data"]
