"""MPI-INF-3DHP's preparation, on small files in the data set's two formats and on its real TS5 where that is there."""

import os

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from common.datasets import load_dataset
from common.mpi_inf_3dhp_annotations import ANNOTATIONS
from common.mpi_inf_3dhp_dataset import CALIBRATIONS
from common.npz_files import read_npz, write_npz
from common.skeleton import MPI_INF_3DHP
from data import prepare_3dhp as prepare
from tests.conftest import ROOT

FOCAL, CENTRE = np.array([1500.0, 1490.0]), np.array([1030.0, 1050.0])
TS5 = ROOT.parent / "shared" / "data" / "3dhp_test"
# All 28 joints of the training annotations. Source: mpii_get_joint_set.m of the data set's tools.
ALL_JOINTS = (
    "spine3 spine4 spine2 spine pelvis neck head head_top left_clavicle left_shoulder left_elbow left_wrist left_hand "
    "right_clavicle right_shoulder right_elbow right_wrist right_hand left_hip left_knee left_ankle left_foot left_toe "
    "right_hip right_knee right_ankle right_foot right_toe"
)


def training_arrays(num_frames=12, shift=0.0):
    """annot2, annot3 and univ_annot3 of 14 cameras: (N, 28 * 2) or (N, 28 * 3) each; 2D is `shift` px to the right."""
    random = np.random.default_rng(0)
    points = random.normal(scale=400, size=(14, num_frames, 28, 3)) + np.array([0, 0, 4000])
    pixels = points[..., :2] / points[..., 2:] * FOCAL + CENTRE + np.array([shift, 0])
    return {
        "annot2": list(pixels.reshape(14, num_frames, -1)),
        "annot3": list(points.reshape(14, num_frames, -1)),
        "univ_annot3": list(0.9 * points.reshape(14, num_frames, -1)),
    }


def save_version_5(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {}
    for name, value in arrays.items():
        if isinstance(value, list):
            content[name] = np.empty((len(value), 1), dtype=object)
            content[name][:, 0] = value
        else:
            content[name] = value
    savemat(path, content, do_compression=True)
    return path


def save_version_73(path, arrays):
    """As MATLAB does: 512 bytes before HDF5 begins, axes reversed, cells as references into #refs#."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        hidden = file.create_group("#refs#")
        for name, value in arrays.items():
            if isinstance(value, list):
                references = np.empty((1, len(value)), dtype=h5py.ref_dtype)
                for number, cell in enumerate(value):
                    references[0, number] = hidden.create_dataset(f"{name}{number}", data=np.asarray(cell).T).ref
                variable = file.create_dataset(name, data=references, dtype=h5py.ref_dtype)
                variable.attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                file.create_dataset(name, data=np.asarray(value).T, compression="gzip")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def sequence_arrays(sequence="TS1", num_frames=9):
    """A test sequence's variables in MATLAB's order of axes: (C, 17, 1, N), (1, N)."""
    random = np.random.default_rng(1)
    points = random.normal(scale=400, size=(num_frames, 17, 3)) + np.array([0, 0, 4000])
    pixels = CALIBRATIONS[sequence].project(points)
    return {
        "annot2": pixels.transpose(2, 1, 0)[:, :, None],
        "annot3": points.transpose(2, 1, 0)[:, :, None],
        "univ_annot3": 0.9 * points.transpose(2, 1, 0)[:, :, None],
        "valid_frame": (np.arange(num_frames) % 3 > 0)[None].astype(np.float64),
        "activity_annotation": (1 + np.arange(num_frames) % 7)[None].astype(np.float64),
    }


def save_calibration(path, centre=CENTRE):
    blocks = [
        f"name          {camera}\n  sensor      10 10 \n  size        2048 2048\n  animated    0\n"
        f"  intrinsic   {FOCAL[0]} 0 {centre[0]} 0 0 {FOCAL[1]} {centre[1]} 0 0 0 1 0 0 0 0 1 \n"
        "  extrinsic   1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1 \n  radial      0\n"
        for camera in range(14)
    ]
    path.write_text("Skeletool Camera Calibration File V1.0\n" + "".join(blocks))


@pytest.fixture
def download(tmp_path):
    return tmp_path / "download"


@pytest.fixture
def run(tmp_path, download, outcome):
    """Run the script on the download; gives its exit code, what it printed and what it complained of."""

    def run(*options):
        return outcome(prepare.main, [str(download), "--out", str(tmp_path / "out"), *options])

    return run


@pytest.fixture
def train_file(tmp_path):
    return tmp_path / "out" / "data_train_3dhp_ori.npz"


@pytest.fixture
def test_file(tmp_path):
    return tmp_path / "out" / "data_test_3dhp_ori.npz"


FILE_ENDS = {"annot3": "3dhp_ori.npz", "univ_annot3": "3dhp_univ.npz"}


def test_joint_order_is_the_skeletons():
    side = {"right": "R", "left": "L"}
    all_names, names = ALL_JOINTS.split(), []
    for joint in prepare.JOINTS:
        first, _, part = all_names[joint].partition("_")
        names.append(side[first] + part.capitalize() if first in side else all_names[joint])
    assert tuple(names) == MPI_INF_3DHP.joint_names


def test_sequences_of_the_release():
    """Once more as in the data set's mpii_get_sequence_info.m; and all of them last some four minutes."""
    frames = (
        "S1 6416 12430, S2 6502 6081, S3 12488 12283, S4 6171 6675, "
        "S5 12820 12312, S6 6188 6145, S7 6239 6320, S8 6468 6054"
    )
    subjects = [line.split() for line in frames.split(", ")]
    expected = {f"{subject}/Seq{n}": int(count) for subject, *counts in subjects for n, count in enumerate(counts, 1)}
    assert {name: count for name, (count, _) in prepare.SEQUENCES.items()} == expected
    assert all(240 < count / fps < 270 for count, fps in prepare.SEQUENCES.values())
    assert {fps for _, fps in prepare.SEQUENCES.values()} == {25, 50}


@pytest.mark.parametrize("save", [save_version_5, save_version_73])
@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_training(run, download, train_file, save, annotation):
    arrays = training_arrays()
    save(download / "S1" / "Seq2" / "annot.mat", arrays)
    code, out, err = run("--annotation", annotation)
    assert code == 0, err
    train_file = train_file.with_name(f"data_train_{FILE_ENDS[annotation]}")
    members = read_npz(train_file)
    assert str(members["annotation"]) == annotation
    assert list(members["data"]) == ["S1 Seq2"]
    views, fps = members["data"]["S1 Seq2"]
    assert fps == 50
    assert list(views) == ["0", "1", "2", "4", "5", "6", "7", "8"]
    for camera, view in views.items():
        for key, name, size in (("data_2d", "annot2", 2), ("data_3d", annotation, 3)):
            expected = arrays[name][int(camera)].reshape(-1, 28, size)[:, prepare.JOINTS]
            assert view[key].dtype == np.float32
            np.testing.assert_allclose(view[key], expected, rtol=1e-6)
    assert "lands 0.00 px" in out
    assert "12418 of 12430 frames have no annotation" in out
    assert "missing, left out: S1/Seq1/annot.mat\n" in out
    assert "missing, left out: TS6/annot_data.mat\n" in out
    assert "S1/Seq2/annot.mat" not in out
    assert [path.name for path in train_file.parent.iterdir()] == [train_file.name]


def test_annotations_longer_than_the_video_are_cut(run, download, train_file, monkeypatch):
    monkeypatch.setitem(prepare.SEQUENCES, "S4/Seq1", (10, 25))
    save_version_5(download / "S4" / "Seq1" / "annot.mat", training_arrays())
    code, out, _ = run()
    assert code == 0
    views, fps = read_npz(train_file)["data"]["S4 Seq1"]
    assert {len(view[key]) for view in views.values() for key in ("data_2d", "data_3d")} == {10}
    assert fps == 25
    assert "no annotation" not in out


def test_cells_are_found_by_the_files_own_camera_numbers(run, download, train_file):
    """Cells stored last camera first, and `cameras` and `frames` say so."""
    arrays = training_arrays()
    turned = {name: cells[::-1] for name, cells in arrays.items()}
    extra = {"cameras": np.arange(13, -1, -1.0)[None], "frames": np.arange(12.0)[:, None]}
    save_version_5(download / "S1" / "Seq1" / "annot.mat", {**turned, **extra})
    assert run()[0] == 0
    view = read_npz(train_file)["data"]["S1 Seq1"][0]["8"]
    np.testing.assert_allclose(view["data_2d"], arrays["annot2"][8].reshape(-1, 28, 2)[:, prepare.JOINTS], rtol=1e-6)


def test_residual_against_the_calibration_and_against_a_fit(run, download):
    """2D three pixels to the right: the calibration knows better, a fitted camera takes it for its centre."""
    path = save_version_5(download / "S1" / "Seq1" / "annot.mat", training_arrays(shift=3.0))
    _, out, _ = run()
    assert "annot3 lands 0.00 px from annot2 on average" in out
    assert "(cameras fitted)" in out
    save_calibration(path.with_name("camera.calibration"))
    _, out, _ = run()
    assert "annot3 lands 3.00 px from annot2 on average (3.00 in camera" in out
    assert "3.00 at most (camera.calibration)" in out
    assert "far off" not in out


@pytest.mark.parametrize(("shift", "far"), [(4.9, False), (5.1, True)])
def test_past_five_pixels_a_sequence_is_said_to_be_far_off(run, download, shift, far):
    path = save_version_5(download / "S1" / "Seq1" / "annot.mat", training_arrays(shift=shift))
    save_calibration(path.with_name("camera.calibration"))
    arrays = sequence_arrays()
    arrays["annot2"][1] += shift
    arrays["annot2"][1, ..., arrays["valid_frame"][0] == 0] += 90  # frames that do not count
    save_version_73(download / "TS1" / "annot_data.mat", arrays)
    _, out, _ = run()
    assert ("S1/Seq1: that is far off" in out) == far
    assert ("TS1: that is far off" in out) == far


def test_fit_finds_the_camera():
    points = np.random.default_rng(0).normal(size=(50, 3)) + np.array([0, 0, 5])
    camera = prepare.fit_camera(points, prepare.Pinhole(FOCAL, CENTRE).project(points))
    np.testing.assert_allclose(camera.focal, FOCAL)
    np.testing.assert_allclose(camera.centre, CENTRE)


@pytest.mark.parametrize("save", [save_version_5, save_version_73])
@pytest.mark.parametrize("annotation", ANNOTATIONS)
@pytest.mark.parametrize("around", [".", "mpi_inf_3dhp_test_set", "mpi_inf_3dhp_test_set/mpi_inf_3dhp_test_set"])
def test_test_set(run, download, test_file, save, annotation, around):
    arrays = sequence_arrays("TS6")
    save(download / around / "TS6" / "annot_data.mat", arrays)
    code, out, err = run("--annotation", annotation)
    assert code == 0, err
    test_file = test_file.with_name(f"data_test_{FILE_ENDS[annotation]}")
    members = read_npz(test_file)
    assert str(members["annotation"]) == annotation
    (name, data), *others = members["data"].items()
    assert (name, others) == ("TS6", [])
    np.testing.assert_allclose(data["data_2d"], arrays["annot2"][:, :, 0].transpose(2, 1, 0), rtol=1e-6)
    np.testing.assert_array_equal(data["data_3d"], arrays[annotation][:, :, 0].transpose(2, 1, 0))  # to the last bit
    np.testing.assert_array_equal(data["valid"], arrays["valid_frame"][0])
    np.testing.assert_array_equal(data["activity"], arrays["activity_annotation"][0])
    assert data["activity"].dtype.kind == "i"
    assert "TS6: 9 frames, 6 valid; annot3 lands 0.00 px from annot2 on average" in out


def test_residual_of_a_known_shift_in_the_test_set(run, download):
    """Six pixels in a frame that is not valid, none elsewhere: 6/9 on average, 0 in valid frames."""
    arrays = sequence_arrays("TS2")
    arrays["annot2"][1, :, 0, 0] += 6
    save_version_73(download / "TS2" / "annot_data.mat", arrays)
    _, out, _ = run()
    assert "lands 0.67 px from annot2 on average, 0.00 in valid frames, 6.00 at most" in out


@pytest.mark.parametrize("sequence", ["TS1", "TS5"])
def test_cameras_of_the_test_set(sequence):
    """By the constants of the test set, a point 1 m right and below at 4 m."""
    expected = {
        "TS1": [7.32506 * 204.8 / 4 + 1024 - 0.0322884 * 204.8, 7.32506 * 204.8 / 4 + 1024 + 0.0929296 * 204.8],
        "TS5": [
            8.770747185 * 192 / 4 + 960 - 0.104908645 * 192,
            0.993236 * 8.770747185 * 192 / 4 + 540 + 0.104899704 * 192,
        ],
    }
    projected = CALIBRATIONS[sequence].project(np.array([1000.0, 1000.0, 4000.0]))
    np.testing.assert_allclose(projected, expected[sequence])


@pytest.mark.skipif(not TS5.is_dir(), reason="the real TS5 is not here")
def test_real_ts5(tmp_path, capsys, test_file):
    assert prepare.main([str(TS5), "--out", str(test_file.parent)]) == 0
    out = capsys.readouterr().out
    assert "TS5: 320 frames, 276 valid; annot3 lands 0.31 px from annot2 on average, 0.30 in valid frames" in out
    data = read_npz(test_file)["data"]["TS5"]
    assert set(data["activity"]) == {1, 4, 5}
    published = read_npz(TS5.parent / "cmu_3dhp" / test_file.name, ["data"])["data"]["TS5"]
    for key in ("data_2d", "data_3d", "valid"):
        np.testing.assert_array_equal(data[key].astype(published[key].dtype), published[key])


def test_a_finished_sequence_is_not_read_again(run, download, train_file):
    """A run that ends at a damaged file keeps what was done; after mending, the first file is not even opened."""
    done = save_version_5(download / "S1" / "Seq1" / "annot.mat", training_arrays())
    damaged = save_version_5(download / "S1" / "Seq2" / "annot.mat", training_arrays(num_frames=20))
    good = damaged.read_bytes()
    damaged.write_bytes(good[: len(good) // 2])
    code, _, err = run()
    assert code == 1
    assert err.startswith(f"error: {damaged}: the file ends in the middle; get it again")
    assert err.count("\n") == 1
    assert not train_file.exists()

    damaged.write_bytes(good)
    before = done.stat()
    done.write_bytes(bytes(before.st_size))
    os.utime(done, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, out, err = run("--annotation", "univ_annot3")
    assert code == 1, "other options: made anew, so the spoiled file is noticed"
    code, out, err = run()
    assert code == 0, err
    assert "S1/Seq1: 12 frames" in out, "what there was to say is said again"
    views = {name: sequence[0]["0"] for name, sequence in read_npz(train_file)["data"].items()}
    assert {name: len(view["data_2d"]) for name, view in views.items()} == {"S1 Seq1": 12, "S1 Seq2": 20}
    expected = training_arrays()["annot2"][0].reshape(-1, 28, 2)[:, prepare.JOINTS]
    np.testing.assert_allclose(views["S1 Seq1"]["data_2d"], expected, rtol=1e-6)
    assert [path.name for path in train_file.parent.iterdir()] == [train_file.name], "nothing is left over"


def test_the_two_annotations_do_not_overwrite_each_other(run, download, tmp_path):
    save_version_5(download / "S1" / "Seq1" / "annot.mat", training_arrays())
    save_version_73(download / "TS1" / "annot_data.mat", sequence_arrays())
    for annotation, keypoints in (("annot3", "ori"), ("univ_annot3", "univ")):
        code, out, err = run("--annotation", annotation)
        assert code == 0, err
        dataset = load_dataset("3dhp", tmp_path / "out", keypoints)
        assert {clip.annotation for clip in dataset.train + dataset.test} == {annotation}
        assert f"data_test_3dhp_{keypoints}.npz: TS1; data_3d is {annotation}" in out
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_a_source_that_changed_is_read_again(run, download, train_file):
    changed = save_version_5(download / "S1" / "Seq1" / "annot.mat", training_arrays())
    damaged = download / "S1" / "Seq2" / "annot.mat"
    damaged.parent.mkdir()
    damaged.write_text("<html>Not found</html>")
    assert run()[0] == 1
    save_version_5(changed, training_arrays(num_frames=15))
    damaged.unlink()
    assert run()[0] == 0
    assert len(read_npz(train_file)["data"]["S1 Seq1"][0]["0"]["data_2d"]) == 15


def test_a_damaged_kept_sequence_is_made_again(run, download, train_file):
    save_version_5(download / "S1" / "Seq1" / "annot.mat", training_arrays())
    kept = train_file.parent / "prepare_3dhp.cache" / "S1_Seq1.npz"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"PK cut off")
    assert run()[0] == 0
    assert train_file.exists()
    assert not kept.parent.exists()


def without(name):
    def spoil(arrays):
        del arrays[name]

    return spoil


def wrong_width(arrays):
    arrays["annot3"][4] = arrays["annot3"][4][:, :-3]


def shorter(arrays):
    arrays["annot2"][5] = arrays["annot2"][5][:-1]


def not_a_number(arrays):
    arrays["annot3"][2][7, 5] = np.nan


def few_cameras(arrays):
    for name in arrays:
        arrays[name] = arrays[name][:8]


def no_cells(arrays):
    arrays["annot2"] = arrays["annot2"][0]


def gap_in_frames(arrays):
    arrays["frames"] = np.array([[0.0, 1.0, 3.0]])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("annot2"), "has no annot2; give a file that has"),
        (wrong_width, "camera 4 annot3 has shape (12, 81); expected (N, 84) mm"),
        (shorter, "camera 5 has 11 frames of 2D and 12 of 3D"),
        (not_a_number, "camera 2 annot3 is not a finite number in frame 7"),
        (few_cameras, "has no camera 8; expected 0, 1, 2, 4, 5, 6, 7, 8"),
        (no_cells, "annot2 is an array (12, 56); expected a cell for each camera"),
        (gap_in_frames, "its frames are not one after the other"),
    ],
)
@pytest.mark.parametrize("save", [save_version_5, save_version_73])
def test_odd_training_files(run, download, train_file, save, spoil, message):
    arrays = training_arrays()
    spoil(arrays)
    path = save(download / "S1" / "Seq1" / "annot.mat", arrays)
    code, _, err = run()
    assert code == 1
    assert err.startswith(f"error: {path}")
    assert message in err
    assert err.count("\n") == 1
    assert not train_file.exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("annot2", np.zeros((2, 16, 1, 9)), "annot2 has shape (2, 16, 1, 9); expected (2, 17, 1, frames)"),
        ("annot3", np.zeros((3, 17, 2, 9)), "annot3 has shape (3, 17, 2, 9); expected (3, 17, 1, frames)"),
        ("annot3", np.full((3, 17, 1, 9), np.nan), "annot3 has numbers that are not finite"),
        ("annot3", np.full((3, 17, 1, 9), 1e300), "annot3 is not a finite number in frame 0"),
        ("valid_frame", np.ones((1, 8)), "valid_frame has 8 frames; expected 9, as annot3 has"),
        ("valid_frame", np.full((1, 9), 2.0), "valid_frame has values other than 0 and 1"),
        (
            "activity_annotation",
            np.zeros((1, 9)),
            "has values other than 1 to 7 in 6 valid frames, 1 the first",
        ),
        ("annot3", np.full((3, 17, 1, 9), -1.0), "no joint ahead of the camera"),
    ],
)
def test_odd_test_files(run, download, test_file, name, value, message):
    save_version_73(download / "TS1" / "annot_data.mat", {**sequence_arrays(), name: value})
    code, _, err = run()
    assert code == 1
    assert message in err
    assert err.count("\n") == 1
    assert not test_file.exists()


def test_what_a_frame_that_does_not_count_does_is_of_no_matter(run, download, test_file):
    """Activity 0, and a number that is none, in frames 0 and 3, which are not valid."""
    arrays = sequence_arrays()
    arrays["activity_annotation"][0, [0, 3]] = 0, np.nan
    save_version_73(download / "TS1" / "annot_data.mat", arrays)
    code, _, err = run()
    assert code == 0, err
    np.testing.assert_array_equal(read_npz(test_file)["data"]["TS1"]["activity"], [0, 2, 3, 0, 5, 6, 7, 1, 2])


def test_axes_of_size_1_may_be_missing(run, download, test_file):
    arrays = sequence_arrays()
    shapes = {**arrays, "annot2": arrays["annot2"][:, :, 0], "annot3": np.moveaxis(arrays["annot3"], 3, 2)}
    save_version_5(download / "TS1" / "annot_data.mat", shapes)
    save_version_5(download / "TS2" / "annot_data.mat", {name: value[..., :1] for name, value in arrays.items()})
    code, _, err = run()
    assert code == 0, err
    data = read_npz(test_file)["data"]
    for name, num_frames in (("TS1", 9), ("TS2", 1)):
        expected = arrays["annot3"][:, :, 0, :num_frames].transpose(2, 1, 0)
        np.testing.assert_allclose(data[name]["data_3d"], expected, rtol=1e-6)
    np.testing.assert_allclose(data["TS1"]["data_2d"], arrays["annot2"][:, :, 0].transpose(2, 1, 0), rtol=1e-6)


@pytest.mark.parametrize("save", [save_version_5, save_version_73])
def test_cut_off_test_file(run, download, save):
    path = save(download / "TS1" / "annot_data.mat", sequence_arrays())
    path.write_bytes(path.read_bytes()[:-2000])
    code, _, err = run()
    assert code == 1
    assert err.startswith(f"error: {path}")
    assert "the file ends in the middle" in err or "it may be damaged" in err
    assert err.count("\n") == 1


def test_odd_calibration(run, download):
    path = save_version_5(download / "S1" / "Seq1" / "annot.mat", training_arrays())
    path.with_name("camera.calibration").write_text("name 0\n intrinsic 1 2 3\n")
    code, _, err = run()
    assert code == 1
    assert "camera.calibration is no camera calibration" in err


def test_nothing_there(run, download, tmp_path):
    code, _, err = run()
    assert (code, err.count("\n")) == (2, 1)
    assert "is no folder" in err
    download.mkdir()
    code, _, err = run()
    assert (code, err.count("\n")) == (1, 1)
    assert "no S*/Seq*/annot.mat and no TS*/annot_data.mat" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", ["dl/S1", "dl/S1/Seq1", "dl/TS1", ".", "..", "dl/empty"])
def test_a_folder_above_or_below_the_download(tmp_path, outcome, given):
    download = tmp_path / "around" / "dl"
    save_version_5(download / "S1" / "Seq1" / "annot.mat", training_arrays())
    save_version_73(download / "TS1" / "annot_data.mat", sequence_arrays())
    (download / "empty").mkdir()
    code, _, err = outcome(prepare.main, [str(tmp_path / "around" / given), "--out", str(tmp_path / "out")])
    assert (code, err.count("\n")) == (1, 1)
    assert "no S*/Seq*/annot.mat and no TS*/annot_data.mat in" in err
    assert f"{download} would have some: give that" in err.replace("around/../", "")


def test_the_other_half_of_the_download_is_named(run, download):
    """Beside the folder that get_testset.sh makes, which is looked into, lies a folder of the training set."""
    save_version_73(download / "mpi_inf_3dhp_test_set" / "TS1" / "annot_data.mat", sequence_arrays())
    save_version_5(download / "mpi_inf_3dhp" / "S1" / "Seq1" / "annot.mat", training_arrays())
    code, out, err = run()
    assert code == 0, err
    assert f"{download / 'mpi_inf_3dhp'} would have some: give that, too\n" in out


def test_less_does_not_replace_more(run, download, train_file, test_file):
    """S1 and S2, then S1 alone; a sequence more; the test set alone."""
    for name in ("S1/Seq1", "S2/Seq1"):
        save_version_5(download / name / "annot.mat", training_arrays())
    save_version_73(download / "TS1" / "annot_data.mat", sequence_arrays())
    assert run()[0] == 0
    before = train_file.read_bytes()

    second = download / "S2" / "Seq1" / "annot.mat"
    second.rename(download / "away")
    code, _, err = run()
    assert (code, err.count("\n")) == (1, 1)
    assert f"{train_file} is there and has S2 Seq1, which would be lost; give" in err
    assert "--overwrite" in err
    assert train_file.read_bytes() == before

    (download / "away").rename(second)
    save_version_5(download / "S2" / "Seq2" / "annot.mat", training_arrays())
    assert run()[0] == 0, "a sequence more is no loss"
    assert list(read_npz(train_file)["data"]) == ["S1 Seq1", "S2 Seq1", "S2 Seq2"]

    second.unlink()
    code, _, err = run("--overwrite")
    assert code == 0, err
    assert list(read_npz(train_file)["data"]) == ["S1 Seq1", "S2 Seq2"]

    before = train_file.read_bytes()
    for path in download.glob("S*/Seq*/annot.mat"):
        path.unlink()
    code, out, err = run()
    assert code == 0, err
    assert f"kept as it was, for there is nothing to put into it: {train_file}\n" in out
    assert train_file.read_bytes() == before
    assert f"wrote {test_file}: TS1" in out


def test_lost_test_sequences_are_refused_too(run, download, test_file):
    for name in ("TS1", "TS6"):
        save_version_73(download / name / "annot_data.mat", sequence_arrays(name))
    assert run()[0] == 0
    (download / "TS1" / "annot_data.mat").unlink()
    code, _, err = run()
    assert code == 1
    assert f"{test_file} is there and has TS1, which would be lost" in err


@pytest.mark.parametrize("content", [b"not an npz file", None])
def test_a_file_that_cannot_be_read_is_not_replaced(run, download, train_file, content):
    save_version_5(download / "S1" / "Seq1" / "annot.mat", training_arrays())
    write_npz(train_file, data=np.ones(3))
    if content:
        train_file.write_bytes(content)
    before = train_file.read_bytes()
    code, _, err = run()
    assert (code, err.count("\n")) == (1, 1)
    assert f"{train_file} is there and would be replaced" in err
    assert train_file.read_bytes() == before
    assert run("--overwrite")[0] == 0


def test_ctrl_c_is_one_line_and_the_next_run_goes_on(run, download, train_file, monkeypatch):
    for name in ("Seq1", "Seq2"):
        save_version_5(download / "S1" / name / "annot.mat", training_arrays())
    convert, calls = prepare.convert_training, []

    def interrupted(path, sequence, annotation):
        calls.append(sequence)
        if sequence == "S1/Seq2":
            raise KeyboardInterrupt
        return convert(path, sequence, annotation)

    monkeypatch.setattr(prepare, "convert_training", interrupted)
    code, _, err = run()
    assert code == 130
    assert err == "interrupted; run it again: it goes on with what is left\n"
    assert not train_file.exists()
    monkeypatch.setattr(prepare, "convert_training", lambda *of: calls.append(of[1]) or convert(*of))
    code, _, err = run()
    assert code == 0, err
    assert calls == ["S1/Seq1", "S1/Seq2", "S1/Seq2"]
    assert list(read_npz(train_file)["data"]) == ["S1 Seq1", "S1 Seq2"]


def test_another_conversion_makes_everything_anew(run, download, monkeypatch):
    done = save_version_5(download / "S1" / "Seq1" / "annot.mat", training_arrays())
    damaged = download / "S1" / "Seq2" / "annot.mat"
    damaged.parent.mkdir()
    damaged.write_bytes(b"")
    assert run()[0] == 1
    before = done.stat()
    done.write_bytes(bytes(before.st_size))
    os.utime(done, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert str(damaged) in run()[2], "the first sequence is not read again"
    monkeypatch.setattr(prepare, "CONVERSION", prepare.CONVERSION + 1)
    assert str(done) in run()[2]


def test_a_file_for_a_folder_is_said_to_be_one(download, tmp_path, outcome):
    save_version_5(download / "S1" / "Seq1" / "annot.mat", training_arrays())
    plain = tmp_path / "plain"
    plain.write_text("")
    for out in (plain, plain / "below"):
        code, _, err = outcome(prepare.main, [str(download), "--out", str(out)])
        assert (code, err.count("\n")) == (1, 1)
        assert f"{plain} is a file, not a directory" in err
        assert "space" not in err
