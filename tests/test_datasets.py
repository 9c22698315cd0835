"""Files to clips: what is read, what is picked, and one clear line for everything that is odd."""

from dataclasses import replace

import numpy as np
import pytest

from common.datasets import DATASETS, load_dataset
from common.errors import DataError, UsageError
from common.npz_files import read_npz, write_npz
from common.pose_files import layout_metadata
from common.skeleton import H36M
from common.text_prompts import NEUTRAL_VERB
from tests.conftest import ROOT, project


def load(files, **options):
    subjects = list(files.positions_3d)
    options = {"subjects_train": subjects[:1], "subjects_test": subjects[1:], **options}
    return load_dataset(files.dataset, files.folder, "gt", **options)


def test_clips_hold_the_files_numbers(h36m_files):
    dataset = load(h36m_files.save())
    assert [len(dataset.train), len(dataset.test)] == [12, 12]
    clip = dataset.test[1]
    assert (clip.subject, clip.action, clip.action_class, clip.camera.name) == ("S9", "Walking", "Walking", "55011271")
    assert not clip.poses_3d[:, 0].any()
    pixels = project((clip.poses_3d + clip.root[:, None]).astype(np.float64), clip.camera)
    np.testing.assert_allclose(pixels, h36m_files.positions_2d["S9"]["Walking"][1], atol=0.01)
    assert clip.poses_2d.min() >= -1
    assert clip.poses_2d.max() <= 1


def test_2d_longer_than_3d_is_cut(h36m_files):
    views = h36m_files.positions_2d["S9"]["Walking"]
    views[0] = np.concatenate([views[0], views[0][:3]])
    dataset = load(h36m_files.save())
    assert all(clip.num_frames == len(clip.poses_3d) == 20 for clip in dataset.test if clip.action == "Walking")


def with_confidences(files, change=lambda views: views):
    """Write the files, every joint of a view with its own confidence."""
    random = np.random.default_rng(0)
    trust = {
        subject: {
            action: change([random.random(poses.shape[:2]).astype(np.float32) for poses in views])
            for action, views in actions.items()
        }
        for subject, actions in files.positions_2d.items()
    }
    files.save()
    path = files.folder / f"data_2d_{files.dataset}_gt.npz"
    write_npz(path, **read_npz(path), confidences=trust)
    return trust


def test_confidences_come_with_the_2d(h36m_files):
    trust = with_confidences(h36m_files)
    dataset = load(h36m_files, downsample=2)
    for clip, expected in zip(dataset.test[4:8], trust["S9"]["Walking 1"], strict=True):
        assert clip.action == "Walking 1"
        np.testing.assert_array_equal(clip.confidences, expected[::2])
    assert load(h36m_files.save()).test[0].confidences is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda views: views[:3], "confidences of S1 Walking has 3 cameras; expected a list over 4 cameras"),
        (lambda views: None, "confidences of S1 Walking has a single NoneType"),
        (lambda views: [view[:9] for view in views], "confidences: 9 frames for 20 of 3D; expected at least as many"),
        (lambda views: [view[:, :5] for view in views], r"confidences has shape \(20, 5\); expected \(N, 17\)"),
        (lambda views: [-view for view in views], "confidences: the least is -[0-9.]+; expected none below 0"),
        (lambda views: [view * np.nan for view in views], "confidences is not a finite number in frame 0"),
    ],
)
def test_odd_confidences(h36m_files, change, message):
    with_confidences(h36m_files, change)
    with pytest.raises(DataError, match=message):
        load(h36m_files)


def test_actions_downsample_subset_and_validation_subjects(h36m_files):
    h36m_files.positions_3d["S5"] = h36m_files.positions_3d["S1"]
    h36m_files.positions_2d["S5"] = h36m_files.positions_2d["S1"]
    dataset = load(
        h36m_files.save(),
        subjects_train=["S1", "S5"],
        subjects_test=["S9"],
        val_subjects=["S5"],
        actions=["Walk"],
        downsample=2,
        subset=0.5,
    )
    assert {clip.subject for clip in dataset.train} == {"S1"}
    assert {clip.subject for clip in dataset.validation} == {"S5"}
    assert {clip.action_class for clip in dataset.train + dataset.test} == {"Walking"}
    assert {clip.num_frames for clip in dataset.test} == {10, 11}
    assert {clip.num_frames for clip in dataset.train} == {5, 6}


def test_a_subset_is_a_stretch_from_the_middle_of_every_clip(h36m_files):
    h36m_files.save()
    for whole, part in zip(load(h36m_files).train, load(h36m_files, subset=0.2).train, strict=True):
        first = {20: 8, 21: 8, 22: 9}[whole.num_frames]
        for name, array in part.arrays().items():
            np.testing.assert_array_equal(array, whole.arrays()[name][first : first + 4])


def test_the_test_clips_choose_the_epoch_unless_subjects_are_held_out(h36m_files):
    dataset = load(h36m_files.save())
    assert dataset.validation is dataset.test


def test_humaneva_has_15_joints_and_no_intrinsics(humaneva_files):
    dataset = load(humaneva_files.save())
    assert [len(dataset.train), len(dataset.test)] == [6, 6]
    assert dataset.train[0].poses_3d.shape == (20, 15, 3)
    assert dataset.train[0].camera.intrinsics is None
    assert dataset.train[0].verb == "Walking"


def test_every_h36m_joint_comes_from_its_slot(h36m_files):
    slots = np.arange(32 * 3, dtype=np.float32).reshape(1, 32, 3) / 100
    h36m_files.positions_3d["S9"]["Walking"] = slots.repeat(20, axis=0)
    clip = next(clip for clip in load(h36m_files.save()).test if clip.action == "Walking")
    dropped = [4, 5, 9, 10, 11, 16, 20, 21, 22, 23, 24, 28, 29, 30, 31]
    kept = np.delete(slots[0], dropped, axis=0)
    world = clip.camera.rotation.apply(clip.poses_3d[0])
    np.testing.assert_allclose(world, kept - kept[0], atol=1e-5)


def test_the_sample_ships():
    dataset = load_dataset("sample", ROOT / "data", "gt")
    assert {clip.subject for clip in dataset.train} == {"S1"}
    assert {clip.subject for clip in dataset.test} == {"S9"}
    assert sum(clip.num_frames for clip in dataset.train) == 4 * 1101


def write_custom(folder, **changes):
    poses = np.full((12, 17, 2), 100, np.float32)
    content = {
        "positions_2d": {"street.mp4": {"custom": [poses]}},
        "metadata": {**layout_metadata(H36M), "video_metadata": {"street.mp4": {"w": 200, "h": 100}}},
    }
    write_npz(folder / "data_2d_custom_mine.npz", **{**content, **changes})


def test_custom_has_2d_alone(tmp_path):
    write_custom(tmp_path)
    dataset = load_dataset("custom", tmp_path, "mine", training=False)
    (clip,) = dataset.test
    assert clip.poses_3d is None
    np.testing.assert_allclose(clip.poses_2d[0, 0], [0, 0.5])
    with pytest.raises(UsageError, match="no 3D poses to train on"):
        load_dataset("custom", tmp_path, "mine")


@pytest.mark.parametrize("size", [{"w": np.inf, "h": 10}, {"w": np.nan, "h": 10}, {"w": 10}, {"w": 0, "h": 10}, None])
def test_a_video_without_a_size(tmp_path, size):
    write_custom(tmp_path, metadata={**layout_metadata(H36M), "video_metadata": {"street.mp4": size}})
    with pytest.raises(DataError, match=r"no w and h for the video 'street.mp4'|is 0x10 pixels") as caught:
        load_dataset("custom", tmp_path, "mine", training=False)
    assert "\n" not in str(caught.value)


def test_a_videos_frames_a_second(tmp_path):
    for fps, expected in ((25, 25), (None, 50)):
        video = {"w": 200, "h": 100} | ({} if fps is None else {"fps": fps})
        write_custom(tmp_path, metadata={**layout_metadata(H36M), "video_metadata": {"street.mp4": video}})
        (clip,) = load_dataset("custom", tmp_path, "mine", training=False, downsample=5).test
        assert clip.fps == expected / 5
    for fps in ("fast", 0, np.inf):
        video = {"w": 200, "h": 100, "fps": fps}
        write_custom(tmp_path, metadata={**layout_metadata(H36M), "video_metadata": {"street.mp4": video}})
        with pytest.raises(DataError, match="frames a second; expected a number above 0"):
            load_dataset("custom", tmp_path, "mine", training=False)


def test_normalised_2d_is_not_taken_for_pixels(tmp_path, h36m_files):
    write_custom(tmp_path, positions_2d={"street.mp4": {"custom": [np.full((12, 17, 2), 0.7, np.float32)]}})
    with pytest.raises(DataError, match=r"expected pixels .is it normalised"):
        load_dataset("custom", tmp_path, "mine", training=False)
    for views in h36m_files.positions_2d["S9"].values():
        views[1] = views[1] / 500 - 1
    with pytest.raises(DataError, match=r"S9 Walking camera 55011271 .*expected pixels"):
        load(h36m_files.save())


def test_a_video_without_a_list_of_views(tmp_path):
    for views, found in ((np.array(5.0), "a single ndarray"), ([], "an empty list"), ("text", "a single str")):
        write_custom(tmp_path, positions_2d={"street.mp4": {"custom": views}})
        with pytest.raises(DataError, match=f"street.mp4 custom is {found}; expected a list"):
            load_dataset("custom", tmp_path, "mine", training=False)


def test_a_world_without_cameras_is_a_mistake_of_the_description(h36m_files):
    h36m_files.save()
    without = replace(DATASETS["h36m"], camera_file=None)
    with pytest.raises(ValueError, match="needs a camera_file"):
        without.read(without, h36m_files.folder, "gt", ("S1",), ("S9",))


def test_custom_is_told_no_action_unless_the_file_names_one(tmp_path):
    write_custom(tmp_path)
    assert load_dataset("custom", tmp_path, "mine", training=False).test[0].verb == NEUTRAL_VERB
    write_custom(tmp_path, positions_2d={"street.mp4": {"Walking 1": [np.full((12, 17, 2), 100, np.float32)]}})
    assert load_dataset("custom", tmp_path, "mine", training=False).test[0].verb == "Walking"


def test_custom_without_its_size(tmp_path):
    write_custom(tmp_path)
    write_custom(tmp_path, metadata=layout_metadata(H36M))
    with pytest.raises(DataError, match=r"no w and h for the video 'street\.mp4'"):
        load_dataset("custom", tmp_path, "mine", training=False)


def spoil(files, kind):
    """Make one thing wrong; returns what the message must name."""
    world, views = files.positions_3d["S9"], files.positions_2d["S9"]
    if kind == "subject missing in 2D":
        del files.positions_2d["S9"]
        return "no subject 'S9'"
    if kind == "action missing in 2D":
        del views["Sitting"]
        return "no action 'Sitting'"
    if kind == "action missing in 3D":
        del world["Sitting"]
        return "no action 'Sitting'"
    if kind == "three cameras":
        views["Sitting"] = views["Sitting"][:3]
        return "3 cameras; expected a list over 4 cameras"
    if kind == "2D shorter":
        views["Sitting"][2] = views["Sitting"][2][:-1]
        return "21 frames of 2D for 22 of 3D"
    if kind == "NaN in 2D":
        views["Sitting"][2][5, 3, 1] = np.nan
        return "not a finite number in frame 5"
    if kind == "NaN in 3D":
        world["Sitting"][7, 3, 1] = np.inf
        return "not a finite number in frame 7"
    if kind == "joints in 2D":
        views["Sitting"][2] = views["Sitting"][2][:, :15]
        return r"\(22, 15, 2\); expected \(N, 17, 2\)"
    if kind == "joints in 3D":
        world["Sitting"] = world["Sitting"][:, :17]
        return r"\(22, 17, 3\); expected \(N, 32, 3\)"
    if kind == "millimetres":
        world["Sitting"] *= 1000
        return "is it millimetres"
    if kind == "no array":
        views["Sitting"][1] = "text"
        return "is str; expected an array"
    if kind == "no frames":
        world["Sitting"] = world["Sitting"][:0]
        return "no frames"
    if kind == "COCO layout":
        files.metadata.update(layout_name="coco", keypoints_symmetry=[[1, 3, 5], [2, 4, 6]])
        return "layout 'coco'"
    if kind == "no symmetry":
        del files.metadata["keypoints_symmetry"]
        return "no keypoints_symmetry"
    if kind == "no subjects":
        files.positions_3d.clear()
        return "positions_3d has no subjects"
    if kind == "array as number of joints":
        files.metadata["num_joints"] = np.arange(17)
        return "num_joints is of type ndarray; expected a whole number"
    if kind == "array as layout":
        files.metadata["layout_name"] = np.eye(17)
        return "layout_name is of type ndarray; expected text"
    if kind == "layout of two lines":
        files.metadata.update(layout_name="a\nb", num_joints=16)
        return r"layout 'a\?b' \(16 joints\)"
    if kind == "no list of cameras":
        views["Sitting"] = np.array(5.0)
        return "a single ndarray; expected a list over 4 cameras"
    if kind == "2D far away":
        views["Sitting"][1] *= 1e9
        return "Sitting camera 55011271 has the number .*; expected pixels"
    if kind == "3D far away":
        world["Sitting"] += np.float32(1e30)
        return "Sitting has the number 1e[+]30; expected metres"
    if kind == "2D all zero":
        views["Sitting"][1] *= 0
        return "no number above 0; expected pixels"
    if kind == "3D all zero":
        world["Sitting"] *= 0
        return "no joint farther than 0 from the root; expected a person, in metres"
    if kind == "unknown camera":
        files.positions_3d["S77"], files.positions_2d["S77"] = world, views
        return "no camera is known for subject 'S77'"
    raise ValueError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "subject missing in 2D", "action missing in 2D", "action missing in 3D", "three cameras", "2D shorter",
        "NaN in 2D", "NaN in 3D", "joints in 2D", "joints in 3D", "millimetres", "no array", "no frames",
        "COCO layout", "no symmetry", "unknown camera", "no subjects", "array as number of joints", "array as layout",
        "layout of two lines", "no list of cameras", "2D far away", "3D far away", "2D all zero", "3D all zero",
    ],
)  # fmt: skip
def test_odd_files_are_one_clear_line(h36m_files, kind):
    expected = spoil(h36m_files, kind)
    test = ["S77"] if kind == "unknown camera" else ["S9"]
    with pytest.raises(DataError, match=expected) as caught:
        load(h36m_files.save(), subjects_train=["S1"], subjects_test=test)
    assert "\n" not in str(caught.value)
    assert "data_" in str(caught.value)


def test_wrong_keys_and_absent_files(h36m_files):
    h36m_files.save()
    write_npz(h36m_files.path_3d, poses=np.zeros(3))
    with pytest.raises(DataError, match="positions_3d"):
        load(h36m_files)
    h36m_files.path_3d.unlink()
    with pytest.raises(DataError, match=r"data_3d_h36m.npz not found; data/README.md"):
        load(h36m_files)
    h36m_files.save()
    h36m_files.path_2d.rename(h36m_files.folder / "data_2d_h36m_cpn.npz")
    with pytest.raises(DataError, match=r"data_2d_h36m_gt.npz not found; there is data_2d_h36m_cpn.npz"):
        load(h36m_files)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"subjects_test": ["S2"]}, "no subject 'S2' in .*; it has S1, S9"),
        ({"actions": ["Fly"]}, "no action begins with 'Fly'"),
        ({"val_subjects": ["S9"]}, "'S9' is not a training subject"),
        ({"val_subjects": ["S1"]}, "holds out every training subject"),
    ],
)
def test_what_is_not_in_the_data_is_a_usage_error(h36m_files, options, expected):
    with pytest.raises(UsageError, match=expected):
        load(h36m_files.save(), **options)


def test_descriptions_agree_with_their_skeletons():
    for description in DATASETS.values():
        if description.has_truth:
            assert len(description.kept_joints) == description.skeleton.num_joints
            assert max(description.kept_joints) < description.num_file_joints
