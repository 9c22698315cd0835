"""What check_data finds in good files, in files with one fault each, and in folders that lack something."""

import hashlib
import json
import re

import numpy as np
import pytest

from common.check_data import check_folder, main
from common.datasets import load_dataset
from common.errors import UsageError
from common.mpi_inf_3dhp_dataset import KEYPOINTS, file_names
from common.npz_files import write_npz
from common.pose_files import layout_metadata
from common.pose_measures import BoneLengths, ProjectionErrors
from common.skeleton import H36M
from data import prepare_3dhp
from tests.conftest import ROOT, motion

TRAIN_FILE, TEST_FILE = file_names("ori")
UNIV_TRAIN_FILE, UNIV_TEST_FILE = file_names("univ")
FOCAL_STUDIO = 7.32506 * 2048 / 10
TS5 = ROOT.parent / "shared" / "data" / "3dhp_test"
FOCAL_OUTSIDE = 8.770747185 * 1920 / 10


def pose_3dhp(num_frames: int) -> np.ndarray:
    """(N, 17, 3), camera space, mm, four metres ahead."""
    return (1000 * motion(num_frames, 17, 3) + [0, -500, 4000]).astype(np.float32)


def pixels_3dhp(poses: np.ndarray, outside: bool, aspect: float = 1.0) -> np.ndarray:
    """Written out anew, from the published constants."""
    x, y, z = np.moveaxis(poses.astype(np.float64), -1, 0)
    if outside:
        u = FOCAL_OUTSIDE * x / z + 960 - 0.104908645 * 192
        v = FOCAL_OUTSIDE * aspect * y / z + 540 + 0.104899704 * 192
    else:
        u = FOCAL_STUDIO * x / z + 1024 - 0.0322884 * 204.8
        v = FOCAL_STUDIO * y / z + 1024 + 0.0929296 * 204.8
    return np.stack([u, v], axis=-1).astype(np.float32)


class Files3dhp:
    """MPI-INF-3DHP's two files in memory, and `save()`."""

    def __init__(self, folder):
        self.folder = folder
        poses = pose_3dhp(12)
        view = {"data_2d": pixels_3dhp(poses, outside=False), "data_3d": poses}
        self.train = {
            "S1 Seq1": [{"0": dict(view), "2": dict(view)}, 50],
            "S1 Seq2": [{"0": dict(view)}, 25],
            "S2 Seq1": {"0": dict(view)},  # the dict alone
        }
        self.test = {
            "TS1": {**view, "valid": np.ones(12)},
            "TS5": {
                "data_2d": pixels_3dhp(poses, outside=True, aspect=0.993236),
                "data_3d": poses,
                "valid": np.array([0.0] * 4 + [1.0] * 8),
            },
        }

    def save(self, keypoints="ori", train_annotation=None, test_annotation=None):
        """An annotation of None is not said."""
        contents = ((self.train, train_annotation), (self.test, test_annotation))
        for name, (data, annotation) in zip(file_names(keypoints), contents, strict=True):
            said = {"annotation": annotation} if annotation else {}
            write_npz(self.folder / name, data=data, **said)
        return self

    def scale(self, factor):
        """As univ_annot3 is: every pose scaled about its pelvis, the 2D as before."""
        for view in self.test.values():
            root = view["data_3d"][:, 14:15]
            view["data_3d"] = root + np.float32(factor) * (view["data_3d"] - root)
        return self


@pytest.fixture
def files_3dhp(tmp_path):
    return Files3dhp(tmp_path / "data")


def file_named(report, name):
    return next(file for file in report.files if file.name == name)


def test_the_sample_is_fine(capsys):
    assert main(["--data-dir", str(ROOT / "data")]) == 0
    out = capsys.readouterr().out
    assert "frames        1492: S1 1101   S9 391" in out
    assert "main_gt.py -d sample -k gt can train and evaluate" in out
    assert "WRONG" not in out
    assert max(map(len, out.splitlines())) <= 112


def test_what_good_files_hold(h36m_files, tmp_path):
    h36m_files.save()
    write_npz(
        h36m_files.folder / "data_2d_custom_mine.npz",
        positions_2d={"street.mp4": {"custom": [np.full((7, 17, 2), 5.0)]}},
        metadata={**layout_metadata(H36M), "video_metadata": {"street.mp4": {"w": 20, "h": 10}}},
    )
    write_npz(h36m_files.folder / "data_2d_unheard_of.npz", x=np.zeros(1))
    assert main(["--data-dir", str(h36m_files.folder), "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    truth, pixels, custom = report["files"]
    assert truth["sha256"] == hashlib.sha256(h36m_files.path_3d.read_bytes()).hexdigest()
    assert truth["size_bytes"] == h36m_files.path_3d.stat().st_size
    assert (truth["clips"], truth["frames"]) == (6, {"S1": 63, "S9": 63})
    assert (pixels["clips"], pixels["views"], pixels["frames"]) == (6, 24, {"S1": 63, "S9": 63})
    assert pixels["projections"][0]["max_px"] < 0.01
    assert custom["frames"] == {"street.mp4": 7}
    assert report["unknown"] == ["data_2d_unheard_of.npz"]
    assert TRAIN_FILE in report["absent"]
    assert "data_3d_h36m.npz" not in report["absent"]
    assert report["usable"] == [
        "main_gt.py -d h36m -k gt needs -str and -ste, for S5, S6, S7, S8, S11 are missing",
        "main_gt.py -d custom -k mine --evaluate CHECKPOINT can predict; there is no truth to measure against",
    ]


def test_which_subjects_are_needed(h36m_files):
    def usable(*subjects):
        for tree in (h36m_files.positions_3d, h36m_files.positions_2d):
            example = tree["S1"]
            tree.clear()
            tree.update(dict.fromkeys(("S1", *subjects), example))
        h36m_files.save()
        (sentence,) = check_folder(h36m_files.folder).usable
        return re.split(r"[,;(]", sentence.removeprefix("main_gt.py -d h36m -k gt "))[0].strip()

    assert usable("S5", "S6", "S7", "S8", "S9", "S11") == "can train and evaluate"
    assert usable("S9", "S11") == "can evaluate"
    assert usable("S9") == "needs -str and -ste"


def test_humaneva_has_no_intrinsics(humaneva_files):
    report = check_folder(humaneva_files.save().folder)
    assert report.num_problems == 0
    pixels = file_named(report, "data_2d_humaneva15_gt.npz")
    assert not pixels.projections
    assert "no intrinsics are known" in pixels.notes[0]


def test_detections_are_measured_and_no_fault(h36m_files):
    h36m_files.save()
    for actions in h36m_files.positions_2d.values():
        for views in actions.values():
            for view in views:
                view += [3, 4]
    write_npz(
        h36m_files.folder / "data_2d_h36m_cpn.npz", positions_2d=h36m_files.positions_2d, metadata=h36m_files.metadata
    )
    report = check_folder(h36m_files.folder)
    found = file_named(report, "data_2d_h36m_cpn.npz")
    assert found.projections[0].mean_px == pytest.approx(5, abs=0.01)
    assert not found.problems
    assert any(sentence.startswith("main.py -d h36m -k cpn ") for sentence in report.usable)


def spoil(files, kind):
    """Make one thing wrong; returns the file at fault and what its line must say."""
    world, views = files.positions_3d["S9"], files.positions_2d["S9"]
    of_3d, of_2d = "data_3d_h36m.npz", "data_2d_h36m_gt.npz"
    match kind:
        case "subject in 3D alone":
            del files.positions_2d["S9"]
            return of_2d, "has no subject 'S9', which data_3d_h36m.npz has"
        case "action in 3D alone":
            del views["Sitting"]
            return of_2d, "S9 has no action 'Sitting', which data_3d_h36m.npz has"
        case "action in 2D alone":
            del world["Sitting"]
            return of_2d, "data_3d_h36m.npz: S9 has no action 'Sitting', which data_2d_h36m_gt.npz has"
        case "NaN in 3D":
            world["Sitting"][7, 3, 1] = np.nan
            return of_3d, "S9 Sitting is not a finite number in frame 7"
        case "NaN in 2D":
            views["Sitting"][2][5, 3, 1] = np.nan
            return of_2d, "S9 Sitting camera 58860488 is not a finite number in frame 5"
        case "millimetres":
            world["Sitting"] *= 1000
            return of_3d, "is it millimetres"
        case "three cameras":
            views["Sitting"] = views["Sitting"][:3]
            return of_2d, "S9 Sitting has 3 cameras; expected a list over 4"
        case "2D shorter":
            views["Sitting"][2] = views["Sitting"][2][:-1]
            return of_2d, "21 frames of 2D for 22 of 3D"
        case "another projection":
            views["Sitting"][2][3, 4] += [0, 9]
            return of_2d, r"up to 9.0 px from the projection of the 3D (S9 Sitting camera 58860488)"
        case "COCO layout":
            files.metadata.update(layout_name="coco", keypoints_symmetry=[[1, 3, 5], [2, 4, 6]])
            return of_2d, "layout 'coco'"
        case "no metadata":
            files.metadata = "h36m"
            return of_2d, "no keypoints_symmetry"
        case "unknown subject":
            files.positions_3d["S77"], files.positions_2d["S77"] = world, views
            return of_2d, "no camera is known for subject 'S77'"
    raise ValueError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "subject in 3D alone", "action in 3D alone", "action in 2D alone", "NaN in 3D", "NaN in 2D", "millimetres",
        "three cameras", "2D shorter", "another projection", "COCO layout", "no metadata", "unknown subject",
    ],
)  # fmt: skip
def test_one_fault_is_one_line(h36m_files, capsys, kind):
    name, line = spoil(h36m_files, kind)
    report = check_folder(h36m_files.save().folder)
    (problem,) = file_named(report, name).problems
    assert line in problem
    assert report.num_problems == 1
    assert f"(first mend {name})" in report.usable[0]
    assert main(["--data-dir", str(h36m_files.folder)]) == 1
    captured = capsys.readouterr()
    assert "WRONG" in captured.out
    assert captured.err.endswith(f"error: 1 wrong in {name}; see above\n")


def test_a_fault_does_not_hide_the_next(h36m_files):
    """Nor does it count against the other file."""
    h36m_files.positions_3d["S1"]["Sitting"][:] = np.nan
    h36m_files.positions_3d["S9"]["Walking"] *= 1000
    h36m_files.positions_2d["S9"]["Walking 1"][0][:] = np.nan
    h36m_files.positions_2d["S9"]["Walking 1"][1] = "text"
    report = check_folder(h36m_files.save().folder)
    assert [len(file.problems) for file in report.files] == [2, 2]
    assert report.files[1].frames == {"S1": 63, "S9": 63}
    assert report.files[1].views == 22


@pytest.mark.parametrize("damage", ["cut off", "no zip", "other member", "code", "empty", "a folder"])
def test_damaged_files_do_not_stop_the_rest(h36m_files, files_3dhp, damage):
    h36m_files.save()
    files_3dhp.save()
    path = h36m_files.path_3d
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "no zip":
        path.write_bytes(b"hello")
    elif damage == "other member":
        write_npz(path, poses=np.zeros(3))
    elif damage == "code":
        np.savez(path, positions_3d=np.array([print], dtype=object))
    elif damage == "empty":
        write_npz(path, positions_3d=np.zeros((3, 32, 3)))
    else:
        path.unlink()
        path.mkdir()
    report = check_folder(h36m_files.folder)
    assert len(report.files) == 4
    assert [len(file.problems) for file in report.files] == [1, 0, 0, 0]
    assert "\n" not in report.files[0].problems[0]
    assert report.files[1].views == 24


def test_2d_longer_than_3d_is_a_note(h36m_files):
    views = h36m_files.positions_2d["S9"]["Walking"]
    views[0] = np.concatenate([views[0], views[0][:3]])
    report = check_folder(h36m_files.save().folder)
    assert report.num_problems == 0
    assert report.files[1].notes == ["up to 3 frames longer than the 3D; the rest is cut off when it is read"]


def test_subjects_of_the_2d_alone_are_a_note(h36m_files, capsys):
    """As in VideoPose3D's CPN detections; the reader passes over them, whatever they hold."""
    h36m_files.positions_2d |= {"S2": h36m_files.positions_2d["S1"], "S4": {"Walking": ["odd"]}}
    folder = h36m_files.save().folder
    assert main(["--data-dir", str(folder)]) == 0, capsys.readouterr().out
    (report,) = (file for file in check_folder(folder).files if file.name == "data_2d_h36m_gt.npz")
    assert report.notes == ["S2, S4: not in data_3d_h36m.npz, so never read, and not checked"]
    assert report.frames == {"S1": 63, "S9": 63}
    assert len(load_dataset("h36m", folder, "gt", subjects_train=["S1"], subjects_test=["S9"]).train) == 12


def test_2d_alone_is_checked_and_cannot_run(h36m_files):
    h36m_files.positions_2d["S1"]["Sitting"][1][2] = np.inf
    h36m_files.save().path_3d.unlink()
    report = check_folder(h36m_files.folder)
    (file,) = report.files
    assert len(file.problems) == 1
    assert report.usable == ["main_gt.py -d h36m -k gt cannot: data_3d_h36m.npz is missing"]
    h36m_files.save().path_2d.unlink()
    assert check_folder(h36m_files.folder).usable == [
        "-d h36m cannot: no 2D input data_2d_h36m_<keypoints>.npz is there"
    ]


def test_3dhp(files_3dhp, capsys):
    report = check_folder(files_3dhp.save().folder)
    train, test = report.files
    assert (train.clips, train.views, train.frames) == (3, 4, {"S1": 24, "S2": 12})
    assert (test.frames, test.valid_frames) == ({"TS1": 12, "TS5": 12}, {"TS1": 12, "TS5": 8})
    studio, corrected, square = test.projections
    assert studio.max_px < 0.01
    assert (corrected.camera, square.camera) == ("pixel aspect corrected", "square pixels")
    assert corrected.max_px < 0.01
    assert square.mean_px > 0.3
    assert report.usable == ["main_3dhp.py -d 3dhp -k ori can train and evaluate"]
    assert main(["--data-dir", str(files_3dhp.folder)]) == 0
    assert "(TS5, pixel aspect corrected)" in capsys.readouterr().out
    (files_3dhp.folder / TRAIN_FILE).unlink()
    assert "can evaluate; to train" in check_folder(files_3dhp.folder).usable[0]
    files_3dhp.save()
    (files_3dhp.folder / TEST_FILE).unlink()
    assert "cannot" in check_folder(files_3dhp.folder).usable[0]


def test_square_pixels_are_no_fault(files_3dhp):
    """The field's own code projects so, and files made with it do too."""
    files_3dhp.test["TS5"]["data_2d"] = pixels_3dhp(files_3dhp.test["TS5"]["data_3d"], outside=True)
    report = check_folder(files_3dhp.save().folder)
    assert report.num_problems == 0
    assert report.files[1].projections[2].max_px < 0.01


@pytest.mark.parametrize("outside_only", [False, True])
@pytest.mark.parametrize("said", [True, False])
def test_univ_annot3_is_told_apart_and_no_fault(files_3dhp, capsys, said, outside_only):
    """Its projection is pixels off; that is measured. A file that does not say what it is gives itself away."""
    if outside_only:
        del files_3dhp.test["TS1"]
    annotation = "univ_annot3" if said else None
    files_3dhp.scale(0.9).save("univ", annotation, annotation)
    assert main(["--data-dir", str(files_3dhp.folder)]) == 0
    assert "annotation    univ_annot3 (the file" in capsys.readouterr().out
    report = check_folder(files_3dhp.folder)
    assert report.usable == ["main_3dhp.py -d 3dhp -k univ can train and evaluate"]
    train, test = report.files
    assert (train.annotation, test.annotation) == ("univ_annot3" if said else "unknown", "univ_annot3")
    assert min(projection.mean_px for projection in test.projections) > 5
    (note,) = (note for note in test.notes if "scaled about the pelvis" in note)
    assert "TS5 by 0.900" in note
    assert ("results will call it annot3" in note) != said


def test_2d_of_another_source_is_a_fault_of_univ_annot3_too(files_3dhp):
    files_3dhp.test["TS1"]["data_2d"] = files_3dhp.test["TS1"]["data_2d"] + np.float32(30)
    report = check_folder(files_3dhp.scale(0.9).save("univ", "univ_annot3", "univ_annot3").folder)
    (problem,) = file_named(report, UNIV_TEST_FILE).problems
    assert "TS1: 2D is " in problem
    assert "no scale of the poses (univ_annot3) mends it" in problem


def test_scaled_poses_that_say_annot3_are_a_fault(files_3dhp):
    report = check_folder(files_3dhp.scale(0.9).save("ori", "annot3", "annot3").folder)
    problems = file_named(report, TEST_FILE).problems
    assert [problem.split(":")[0] for problem in problems] == ["TS1", "TS5"]
    assert all("scaled by 1.111 about the pelvis it fits" in problem for problem in problems)


def test_poses_that_land_on_the_2d_and_say_univ_annot3_are_a_note(files_3dhp):
    report = check_folder(files_3dhp.save("univ", "univ_annot3", "univ_annot3").folder)
    assert report.num_problems == 0
    assert any("was it labelled by mistake?" in note for note in file_named(report, UNIV_TEST_FILE).notes)


@pytest.mark.parametrize("test_says", [True, False])
def test_files_of_two_annotations_are_a_fault(files_3dhp, test_says):
    files_3dhp.save("ori", "univ_annot3", "annot3" if test_says else None)
    report = check_folder(files_3dhp.folder)
    assert not file_named(report, TRAIN_FILE).problems
    (problem,) = file_named(report, TEST_FILE).problems
    assert "3D is annot3 and that of data_train_3dhp_ori.npz univ_annot3" in problem
    assert f"(first mend {TEST_FILE})" in report.usable[0]


def test_both_annotations_beside_each_other(files_3dhp):
    files_3dhp.save("ori", "annot3", "annot3").scale(0.9).save("univ", "univ_annot3", "univ_annot3")
    report = check_folder(files_3dhp.folder)
    assert report.num_problems == 0
    assert report.usable == [f"main_3dhp.py -d 3dhp -k {name} can train and evaluate" for name in ("ori", "univ")]
    (files_3dhp.folder / UNIV_TRAIN_FILE).unlink()
    assert f"-k univ can evaluate; to train, {UNIV_TRAIN_FILE} is missing" in check_folder(files_3dhp.folder).usable[1]


def test_an_unknown_annotation(files_3dhp):
    report = check_folder(files_3dhp.save("ori", "annot3", "annot2").folder)
    assert file_named(report, TEST_FILE).problems == ["annotation is 'annot2'; expected annot3 or univ_annot3"]


@pytest.mark.skipif(not TS5.is_dir(), reason="the real TS5 is not here")
@pytest.mark.parametrize("annotation", ["annot3", "univ_annot3"])
def test_prepared_files_are_fine(tmp_path, annotation):
    assert prepare_3dhp.main([str(TS5), "--out", str(tmp_path), "--annotation", annotation]) == 0
    assert main(["--data-dir", str(tmp_path)]) == 0
    (report,) = check_folder(tmp_path).files
    assert (report.annotation, report.name) == (annotation, file_names(KEYPOINTS[annotation])[1])
    assert any("TS5 by 0.95" in note for note in report.notes) == (annotation == "univ_annot3")


def spoil_3dhp(files, kind):
    seq, ts = files.train["S1 Seq1"], files.test["TS1"]
    match kind:
        case "frames differ by camera":
            seq[0]["2"] = {name: array[:-1] for name, array in seq[0]["2"].items()}
            return TRAIN_FILE, "S1 Seq1 has 12 of camera 0, 11 of camera 2 frames"
        case "no dict":
            files.train["S1 Seq1"] = "text"
            return TRAIN_FILE, "S1 Seq1 is str; expected a list"
        case "no data_3d":
            del seq[0]["2"]["data_3d"]
            return TRAIN_FILE, "S1 Seq1 camera 2 data_3d is NoneType"
        case "NaN":
            seq[0]["2"]["data_2d"] = seq[0]["2"]["data_2d"].copy()
            seq[0]["2"]["data_2d"][4, 0] = np.nan
            return TRAIN_FILE, "S1 Seq1 camera 2 data_2d is not a finite number in frame 4"
        case "no sequences":
            files.train = {}
            return TRAIN_FILE, "expected names such as 'S1 Seq1'"
        case "unknown sequence":
            files.test["TS9"] = ts
            return TEST_FILE, "TS9 is no test sequence"
        case "no valid":
            del ts["valid"]
            return TEST_FILE, "TS1 valid is NoneType"
        case "short valid":
            ts["valid"] = ts["valid"][:-1]
            return TEST_FILE, "TS1 has 11 values of valid for 12 frames"
        case "nothing valid":
            ts["valid"] = np.zeros(12)
            return TEST_FILE, "TS1 has no valid frame"
        case "another projection":
            ts["data_2d"] = ts["data_2d"] + np.float32(30)
            return TEST_FILE, "TS1: 2D is 42.4 px from the projection"
        case "2D longer":
            ts["data_2d"] = np.concatenate([ts["data_2d"], ts["data_2d"]])
            return TEST_FILE, "TS1 has 24 frames of 2D for 12 of 3D"
        case "16 joints":
            ts["data_3d"] = ts["data_3d"][:, :16]
            return TEST_FILE, "expected (N, 17, 3)"
    raise ValueError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "frames differ by camera", "no dict", "no data_3d", "NaN", "no sequences", "unknown sequence", "no valid",
        "short valid", "nothing valid", "another projection", "2D longer", "16 joints",
    ],
)  # fmt: skip
def test_one_fault_of_3dhp_is_one_line(files_3dhp, kind):
    name, line = spoil_3dhp(files_3dhp, kind)
    report = check_folder(files_3dhp.save().folder)
    (problem,) = file_named(report, name).problems
    assert line in problem
    assert report.num_problems == 1


def test_bone_lengths_are_measured():
    poses = np.zeros((4, 17, 3))
    for joint, parent in H36M.bones:
        poses[:, joint] = poses[:, parent] + [0, 0, 0.2]
    lengths = BoneLengths(H36M)
    lengths.add("still", poses)
    poses = poses.copy()
    poses[1, H36M.joint_names.index("RWrist"), 2] += 0.04  # mean 0.21 m, largest 30 mm above it
    lengths.add("moving", poses)
    bones = lengths.summary()
    assert (bones.bone, bones.clip) == ("RElbow-RWrist", "moving")
    assert bones.largest_mm == pytest.approx(30)
    assert bones.percent == pytest.approx(100 * 30 / 210)
    assert bones.typical_mm == pytest.approx(0, abs=1e-9)
    assert BoneLengths(H36M).summary() is None


def test_changing_bones_are_a_note(files_3dhp):
    poses = files_3dhp.test["TS1"]["data_3d"]
    assert poses.shape == (12, 17, 3)
    (note,) = check_folder(files_3dhp.save().folder).files[1].notes
    assert "changes by more than 5 % within a clip" in note


def test_projection_errors_are_measured():
    errors = ProjectionErrors()
    assert errors.summary() is None
    errors.add("a", np.zeros((2, 1, 2)), np.array([[[3, 4]], [[0, 0]]]))
    errors.add("b", np.zeros((2, 1, 2)), np.array([[[6, 8]], [[0, 0]]]))
    found = errors.summary()
    assert (found.mean_px, found.max_px, found.clip) == (15 / 4, 10, "b")


def test_usage(tmp_path, capsys):
    assert main(["--data-dir", str(tmp_path / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    with pytest.raises(UsageError):
        check_folder(tmp_path / "none")
    assert main(["--colour"]) == 2
    assert "unrecognized arguments: --colour" in capsys.readouterr().err
    assert main(["--data-dir", str(tmp_path)]) == 1
    assert "has none of the known files" in capsys.readouterr().err


def test_many_problems_are_cut_in_print_alone(h36m_files, tmp_path, capsys):
    for subject in ("S1", "S9"):
        for action in h36m_files.positions_3d[subject]:
            for view in h36m_files.positions_2d[subject][action]:
                view[0, 0, 0] = np.nan
    folder = str(h36m_files.save().folder)
    assert main(["--data-dir", folder, "--json", str(tmp_path / "report.json")]) == 1
    out = capsys.readouterr().out
    assert "and 16 more" in out
    assert len(json.loads((tmp_path / "report.json").read_text())["files"][1]["problems"]) == 24


@pytest.mark.parametrize("folder", ["cmu_h36m", "cmu_3dhp"])
def test_whole_data_sets_are_fine(folder):
    path = ROOT.parent / "shared" / "data" / folder
    if not path.exists():
        pytest.skip(f"{path} is not here")
    report = check_folder(path)
    assert report.num_problems == 0
    if folder == "cmu_3dhp":
        means = {(p.clip, p.camera): p.mean_px for p in report.files[1].projections}
        assert means["TS5", "square pixels"] == pytest.approx(1.57, abs=0.005)
        assert means["TS5", "pixel aspect corrected"] == pytest.approx(0.31, abs=0.005)
