"""Human3.6M's preparation, on small files in the data set's own format: .cdf, and archives of them."""

import io
import os
import sys
import tarfile

import cdflib
import numpy as np
import pytest

from common.camera import load_cameras, world_to_camera
from common.datasets import load_dataset
from common.npz_files import read_npz
from data import prepare_h36m as prepare
from tests.conftest import motion, project

KEPT = list(prepare.H36M.kept_joints)


def save_cdf(path, poses):
    """(N, 32, 3) metres as D3_Positions has them: one record (N, 96), mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = cdflib.cdfwrite.CDF(path, delete=True)
    rows = (poses.reshape(len(poses), -1) * 1000).astype(np.float32)
    spec = {
        "Variable": "Pose",
        "Data_Type": file.CDF_FLOAT,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Dim_Sizes": list(rows.shape),
    }
    file.write_var(spec, var_data=rows[None])
    file.close()
    return path


def recordings(download, subject, *actions, seed=0):
    """Files of a subject as they are after extraction; gives action, as the files have it -> poses."""
    poses = {}
    for number, action in enumerate(actions):
        poses[action] = motion(20 + number, 32, seed + number)
        save_cdf(download / subject / "MyPoseFeatures" / "D3_Positions" / f"{action}.cdf", poses[action])
    return poses


@pytest.fixture
def download(tmp_path):
    (tmp_path / "download").mkdir()
    return tmp_path / "download"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def run(download, out, outcome):
    """Run the script; gives its exit code, what it printed and what it complained of."""

    def run(*downloads):
        return outcome(prepare.main, [*map(str, downloads or [download]), "--out", str(out)])

    return run


def test_files_that_the_dataset_reads(run, download, out):
    poses = {subject: recordings(download, subject, "Walking", "Walking 1", seed=9) for subject in ("S1", "S9")}
    code, printed, err = run()
    assert code == 0, err
    assert sorted(path.name for path in out.iterdir()) == ["data_2d_h36m_gt.npz", "data_3d_h36m.npz"]
    dataset = load_dataset("h36m", out, "gt", subjects_train=("S1",), subjects_test=("S9",))
    assert [(clip.subject, clip.action) for clip in dataset.train] == [("S1", "Walking")] * 4 + [
        ("S1", "Walking 1")
    ] * 4
    stored = read_npz(out / "data_2d_h36m_gt.npz")["positions_2d"]
    for clips in (dataset.train, dataset.test):
        for number, clip in enumerate(clips):
            world = poses[clip.subject][clip.action][:, KEPT].astype(np.float64)
            camera = load_cameras("h36m.json")[clip.subject][number % 4]
            seen = world_to_camera(world, camera)
            np.testing.assert_allclose(clip.poses_3d + clip.root[:, None], seen, atol=1e-5)
            pixels = stored[clip.subject][clip.action][number % 4]
            assert pixels.dtype == np.float32
            np.testing.assert_allclose(pixels, project(seen, camera), atol=0.02)
    assert "S1: 2 sequences, 41 frames; " in printed
    assert "missing, left out: S5 (Poses_D3_Positions_S5.tgz)\n" in printed
    assert "missing, left out: S9 Eating, 2 of 2 files\n" in printed
    assert "S1 Walking," not in printed


def test_all_32_joints_in_metres(run, download, out):
    poses = recordings(download, "S5", "Sitting 2")["Sitting 2"]
    assert run()[0] == 0
    world = read_npz(out / "data_3d_h36m.npz")["positions_3d"]["S5"]["Sitting 2"]
    assert world.dtype == np.float32
    np.testing.assert_allclose(world, poses, atol=1e-5)


def test_names_and_what_is_left_out(run, download, out):
    recordings(download, "S1", "TakingPhoto", "WalkingDog 1", "WalkTogether", "SittingDown", "Juggling")
    recordings(download, "S11", "Directions", "Directions 1")
    recordings(download, "S2", "Walking")  # without ground truth in the field's files
    path = download / "S6" / "MyPoseFeatures" / "D3_Positions_mono" / "Walking.cdf"
    save_cdf(path, motion(5, 32, 0))
    code, printed, _ = run()
    assert code == 0
    positions = read_npz(out / "data_3d_h36m.npz")["positions_3d"]
    assert {subject: list(actions) for subject, actions in positions.items()} == {
        "S1": ["Photo", "SittingDown", "WalkDog 1", "WalkTogether"],
        "S11": ["Directions 1"],
    }
    assert "S11 Directions," not in printed
    assert "S1 Photo, 1 of 2 files" in printed


def test_a_whole_subject_misses_nothing(run, download):
    recordings(download, "S1", *(name + number for name in prepare.CLASSES for number in ("", " 1")))
    _, printed, _ = run()
    assert "missing, left out: S1 " not in printed
    assert "S1: 30 sequences" in printed


def pack(archive, files, mode="w:gz"):
    with tarfile.open(archive, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive


@pytest.mark.parametrize(
    "inside", ["S1/MyPoseFeatures/D3_Positions", "MyPoseFeatures/D3_Positions", "../../S1/D3_Positions"]
)
def test_archives_are_read_as_they_are(run, download, out, tmp_path, inside):
    cdf = save_cdf(tmp_path / "made" / "Walking.cdf", motion(7, 32, 1)).read_bytes()
    pack(download / "Poses_D3_Positions_S1.tgz", {f"{inside}/Walking.cdf": cdf, f"{inside}/Eating 2.cdf": cdf})
    before = set(tmp_path.rglob("*"))
    code, _, err = run()
    assert code == 0, err
    written = {path.name for path in set(tmp_path.rglob("*")) - before}
    assert written == {"out", "data_2d_h36m_gt.npz", "data_3d_h36m.npz"}
    positions = read_npz(out / "data_3d_h36m.npz")["positions_3d"]
    assert {subject: list(actions) for subject, actions in positions.items()} == {"S1": ["Eating 2", "Walking"]}
    np.testing.assert_allclose(positions["S1"]["Walking"], motion(7, 32, 1), atol=1e-5)


def test_links_in_an_archive_are_passed_over(run, download, tmp_path):
    secret = save_cdf(tmp_path / "made" / "Walking.cdf", motion(7, 32, 1))
    with tarfile.open(download / "Poses_D3_Positions_S1.tgz", "w:gz") as tar:
        info = tarfile.TarInfo("S1/D3_Positions/Walking.cdf")
        info.type, info.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(info)
    code, _, err = run()
    assert code == 1
    assert "no D3_Positions/*.cdf" in err


def test_an_archive_is_named_by_itself_too(run, download, out, tmp_path):
    cdf = save_cdf(tmp_path / "made" / "Walking.cdf", motion(7, 32, 1)).read_bytes()
    archive = pack(tmp_path / "SubjectSpecific_1.tgz", {"S7/MyPoseFeatures/D3_Positions/Walking.cdf": cdf})
    assert run(archive)[0] == 0
    assert list(read_npz(out / "data_3d_h36m.npz")["positions_3d"]) == ["S7"]


def test_cut_off_archive(run, download, out, tmp_path):
    noise = np.random.default_rng(0).normal(size=(400, 32, 3)).astype(np.float32)
    cdf = save_cdf(tmp_path / "made" / "Walking.cdf", noise).read_bytes()
    archive = pack(download / "Poses_D3_Positions_S1.tgz", {"S1/D3_Positions/Walking.cdf": cdf})
    archive.write_bytes(archive.read_bytes()[:-5000])
    code, _, err = run()
    assert code == 1
    assert f"{archive} is damaged" in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_a_finished_sequence_is_not_read_again(run, download, out):
    poses = recordings(download, "S1", "Eating", "Walking")
    done, damaged = (download / "S1/MyPoseFeatures/D3_Positions" / f"{name}.cdf" for name in poses)
    good = damaged.read_bytes()
    damaged.write_bytes(good[: len(good) // 2])
    code, _, err = run()
    assert code == 1
    assert f"{damaged} is damaged" in err
    assert err.count("\n") == 1
    assert not list(out.glob("*.npz"))

    damaged.write_bytes(good)
    before = done.stat()
    done.write_bytes(bytes(before.st_size))
    os.utime(done, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, _, err = run()
    assert code == 0, err
    positions = read_npz(out / "data_3d_h36m.npz")["positions_3d"]["S1"]
    np.testing.assert_allclose(positions["Eating"], poses["Eating"], atol=1e-5)
    assert sorted(path.name for path in out.iterdir()) == ["data_2d_h36m_gt.npz", "data_3d_h36m.npz"]


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (motion(5, 31, 0), "Pose has shape (5, 93); expected (N, 96) mm"),
        (np.full((5, 32, 3), np.nan), "is not a finite number in frame 0"),
        (motion(5, 32, 0) * 30, "expected metres"),
        (motion(5, 32, 0) * 1000, "expected mm"),
    ],
)
def test_odd_files(run, download, out, poses, message):
    path = save_cdf(download / "S1" / "D3_Positions" / "Walking.cdf", poses)
    code, _, err = run()
    assert code == 1
    assert f"{path}" in err
    assert message in err
    assert err.count("\n") == 1
    assert not list(out.glob("*.npz"))


def test_no_cdflib_is_one_clear_line(run, download, monkeypatch):
    recordings(download, "S1", "Walking")
    monkeypatch.setitem(sys.modules, "cdflib", None)
    code, _, err = run()
    assert code == 1
    assert "pip install cdflib" in err
    assert err.count("\n") == 1


def test_nothing_there(run, download, out):
    code, _, err = run(download / "absent")
    assert (code, err.count("\n")) == (2, 1)
    assert "not found" in err
    code, _, err = run()
    assert (code, err.count("\n")) == (1, 1)
    assert "no D3_Positions/*.cdf" in err
    assert not out.exists()


def test_less_does_not_replace_more(run, download, out, outcome):
    recordings(download, "S1", "Eating", "Walking")
    recordings(download, "S9", "Walking")
    assert run()[0] == 0
    before = [(path, path.read_bytes()) for path in sorted(out.iterdir())]
    code, _, err = run(download / "S1")
    assert (code, err.count("\n")) == (1, 1)
    assert f"{out / 'data_3d_h36m.npz'} is there and has S9 Walking, which would be lost; give" in err
    assert [(path, path.read_bytes()) for path in sorted(out.iterdir())] == before

    (out / "data_3d_h36m.npz").rename(download / "data_3d_h36m.npz")
    code, _, err = run(download / "S1")
    assert code == 1
    assert f"{out / 'data_2d_h36m_gt.npz'} is there and has S9 Walking" in err
    (download / "data_3d_h36m.npz").rename(out / "data_3d_h36m.npz")

    recordings(download, "S9", "Walking", "Sitting")
    assert run()[0] == 0, "a sequence more is no loss"
    assert outcome(prepare.main, [str(download / "S1"), "--out", str(out), "--overwrite"])[0] == 0
    assert list(read_npz(out / "data_3d_h36m.npz")["positions_3d"]) == ["S1"]


def test_what_would_be_lost_is_shown_in_part(run, download, out):
    recordings(download, "S1", *prepare.CLASSES)
    assert run()[0] == 0
    recordings(download / "new", "S5", "Walking")
    _, _, err = run(download / "new")
    assert "S1 Directions, S1 Discussion, S1 Eating" in err
    assert "and 7 more, which would be lost" in err


def test_ctrl_c_is_one_line_and_the_next_run_goes_on(run, download, out, monkeypatch):
    recordings(download, "S1", "Eating", "Walking")
    convert, calls = prepare.convert, []

    def interrupted(recording, cameras):
        calls.append(recording.action)
        if recording.action == "Walking":
            raise KeyboardInterrupt
        return convert(recording, cameras)

    monkeypatch.setattr(prepare, "convert", interrupted)
    assert run() == (130, "", "interrupted; run it again: it goes on with what is left\n")
    assert not list(out.glob("*.npz"))
    monkeypatch.setattr(prepare, "convert", lambda *of: calls.append(of[0].action) or convert(*of))
    assert run()[0] == 0
    assert calls == ["Eating", "Walking", "Walking"]


def test_another_conversion_makes_everything_anew(run, download, monkeypatch):
    poses = recordings(download, "S1", "Eating", "Walking")
    done, damaged = (download / "S1/MyPoseFeatures/D3_Positions" / f"{name}.cdf" for name in poses)
    damaged.write_bytes(b"")
    assert run()[0] == 1
    before = done.stat()
    done.write_bytes(bytes(before.st_size))
    os.utime(done, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert str(damaged) in run()[2], "the first sequence is not read again"
    monkeypatch.setattr(prepare, "CONVERSION", prepare.CONVERSION + 1)
    assert str(done) in run()[2]
