"""HumanEva's preparation, on small files as ConvertHumanEva.m makes them."""

import shutil

import numpy as np
import pytest
from scipy.io import savemat

from common.datasets import load_dataset
from common.npz_files import read_npz
from data import prepare_humaneva as prepare
from tests.conftest import motion

FRAMES = 30


@pytest.fixture
def short(monkeypatch):
    """Sequences of 30 frames instead of the data set's 352 and more."""
    for actions in prepare.FRAMES.values():
        for action in actions:
            monkeypatch.setitem(actions, action, FRAMES)


@pytest.fixture
def converted(tmp_path, short):
    (tmp_path / "converted_15j").mkdir()
    return tmp_path / "converted_15j"


@pytest.fixture
def run(tmp_path, converted, outcome):
    def run(*options, folder=converted):
        return outcome(prepare.main, [str(folder), "--out", str(tmp_path / "out"), *options])

    return run


def save(converted, subject, action, failed=(), **spoilt):
    """A file, with `failed` frames; gives poses_3d in mm and poses_2d."""
    poses_3d = motion(FRAMES, 15, 1).astype(np.float64) * 1000
    poses_2d = np.stack([300 + poses_3d[..., :2] / 10 + camera for camera in range(3)])
    poses_3d[list(failed)] = np.nan
    poses_2d[:, list(failed)] = np.nan
    path = converted / subject / f"{action}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"poses_3d": poses_3d, "poses_2d": poses_2d, **spoilt})
    return poses_3d, poses_2d


def test_frames_of_the_release():
    """Once more, by subject: the frames of Walking, Jog, ThrowCatch, Gestures and Box."""
    assert {subject: list(actions.values()) for subject, actions in prepare.FRAMES.items()} == {
        "Train/S1": [613, 373, 472, 406, 404],
        "Train/S2": [438, 397, 578, 401, 352],
        "Train/S3": [491, 441, 534, 569, 509],
        "Validate/S1": [585, 362, 468, 390, 380],
        "Validate/S2": [433, 393, 545, 495, 377],
        "Validate/S3": [443, 396, 488, 528, 507],
    }
    names = ["Walking 1", "Jog 1", "ThrowCatch 1", "Gestures 1", "Box 1"]
    assert all(list(actions) == names for actions in prepare.FRAMES.values())


def test_files_that_the_dataset_reads(run, converted, tmp_path):
    poses_3d, poses_2d = save(converted, "Train/S1", "Walking_1", failed=[10, 11, 20])
    save(converted, "Validate/S1", "Jog_1", failed=[0])
    code, out, err = run()
    assert code == 0, err
    dataset = load_dataset(
        "humaneva15", tmp_path / "out", "gt", subjects_train=("Train/S1",), subjects_test=("Validate/S1",)
    )
    actions = ["Walking 1 chunk0", "Walking 1 chunk2", "Walking 1 chunk4"]
    assert [clip.action for clip in dataset.train[::3]] == actions
    assert [clip.action for clip in dataset.test] == ["Jog 1 chunk1"] * 3
    stored_3d = read_npz(tmp_path / "out" / "data_3d_humaneva15.npz")["positions_3d"]["Train/S1"]
    stored_2d = read_npz(tmp_path / "out" / "data_2d_humaneva15_gt.npz")["positions_2d"]["Train/S1"]
    for action, frames in zip(actions, (slice(0, 10), slice(12, 20), slice(21, 30)), strict=True):
        np.testing.assert_allclose(stored_3d[action], poses_3d[frames] / 1000, atol=1e-6)
        np.testing.assert_allclose(np.stack(stored_2d[action]), poses_2d[:, frames], rtol=1e-6)
    assert "Train/S1: 27 of 150 frames, in 3 pieces" in out
    assert "missing, left out: Train/S1/Jog_1.mat" in out


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"poses_3d": np.zeros((30, 20, 3))}, "poses_3d has shape (30, 20, 3); expected (30, 15, 3)"),
        ({"poses_3d": np.zeros((29, 15, 3))}, "poses_3d has shape (29, 15, 3); expected (30, 15, 3)"),
        ({"poses_2d": np.zeros((30, 3, 15, 2))}, "poses_2d has shape (30, 3, 15, 2); expected (3, 30, 15, 2)"),
    ],
)
def test_odd_files(run, converted, tmp_path, spoilt, message):
    save(converted, "Train/S2", "Box_1", **spoilt)
    code, _, err = run()
    assert code == 1
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_there(run, converted):
    code, out, err = run()
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "no Train/S1/Walking_1.mat" in err
    save(converted, "Train/S1", "Walking_1", failed=range(FRAMES))
    code, _, err = run()
    assert (code, err.count("\n")) == (1, 1)
    assert "every frame of its 1 sequences failed" in err
    shutil.rmtree(converted / "Train")
    converted.rmdir()
    code, _, err = run()
    assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("given", ["Train", "Train/S1", ".."])
def test_a_folder_above_or_below(run, converted, given):
    save(converted, "Train/S1", "Walking_1")
    code, out, err = run(folder=converted / given)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "converted_15j has: give that" in err


def test_less_does_not_replace_more(run, converted, tmp_path):
    save(converted, "Train/S1", "Walking_1", failed=[5])
    save(converted, "Validate/S2", "Box_1")
    assert run()[0] == 0
    assert run()[0] == 0, "the same again is no loss"
    path = tmp_path / "out" / "data_3d_humaneva15.npz"
    before = path.read_bytes()
    (converted / "Validate/S2/Box_1.mat").unlink()
    code, _, err = run()
    assert (code, err.count("\n")) == (1, 1)
    assert f"{path} is there and has Validate/S2 Box 1 chunk0, which would be lost" in err
    assert path.read_bytes() == before
    path.unlink()
    code, _, err = run()
    assert code == 1
    assert "data_2d_humaneva15_gt.npz is there and has Validate/S2 Box 1 chunk0" in err
    assert run("--overwrite")[0] == 0
    assert list(read_npz(path)["positions_3d"]) == ["Train/S1"]
