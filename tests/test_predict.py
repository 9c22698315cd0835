"""predict.py from every kind of input to its files, and one line for every kind of bad input."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from common.arguments import parse_predict_options
from common.camera import load_cameras
from common.errors import UsageError
from common.files import NotWrittenError
from common.input_cameras import guessed_camera
from common.keypoint_tracks import read_keypoint_track
from common.lifting import lift
from common.npz_files import write_npz
from common.skeleton import H36M, MPI_INF_3DHP
from common.trained_lifter import load_lifter
from predict import main
from tests.conftest import ROOT, SMALL, Files, Files3DHP
from tests.test_prepare_2d import (
    alphapose,
    alphapose_person,
    detectron,
    mmpose_demo,
    mmpose_inferencer,
    openpose,
    own,
    rtmlib,
    walker,
    write,
)
from tests.test_release_compat import tiny_state
from tests.test_rendering import write_video

SIZE = ["--width", "1920", "--height", "1080"]
FEW = ["-num_proposals", "2", "-sampling_timesteps", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network trained on Human3.6M's format, and its data."""
    from main_gt import main as main_gt

    folder = tmp_path_factory.mktemp("predict")
    files = Files(folder / "data", "h36m").save()
    train = ["--data-dir", str(files.folder), "-str", "S1", "-ste", "S9", "-c", str(folder / "run")]
    assert main_gt([*train, *SMALL]) == 0
    return folder / "run", files


@pytest.fixture
def predicted(run, tmp_path, outcome):
    """Run predict.py; gives what it printed, and its npz files by person."""

    def predicted(path, *options):
        out = tmp_path / "out"
        code, printed, complained = outcome(main, [str(path), "-c", str(run[0]), "--out", str(out), *FEW, *options])
        assert code == 0, complained
        return printed, {file.stem: dict(np.load(file)) for file in sorted(out.glob("*.npz"))}

    return predicted


# --- inputs ---


@pytest.mark.parametrize("make", [alphapose, openpose, mmpose_demo, mmpose_inferencer, rtmlib, own])
def test_every_kind_of_keypoints(tmp_path, predicted, make):
    path = make(tmp_path / "in") if make is not own else make(_folder(tmp_path / "in"))
    printed, people = predicted(path, *SIZE, "--fps", "50")
    (name, found), *others = people.items()
    assert (name, others) == ("person_1" if make is not alphapose else name, [])
    assert found["poses_3d"].shape == (12, 17, 3)
    np.testing.assert_allclose(found["keypoints_2d"], read_keypoint_track(path).points, atol=1e-3)
    assert "a guess: 55 degrees" in printed
    assert "told no action, random text weights" in printed
    assert "fps      50" in printed


def _folder(path):
    path.mkdir(exist_ok=True)
    return path


def test_what_the_npz_holds(tmp_path, predicted):
    printed, people = predicted(
        alphapose(tmp_path, "halpe26", range(3, 12)), *SIZE, "--fps", "25", "--first-frame", "0"
    )
    found = people["person_1"]
    assert all(array.dtype.kind != "O" for array in found.values())  # no pickle
    assert {name: array.shape for name, array in found.items()} == {
        "poses_3d": (9, 17, 3), "root": (9, 3), "spread": (9, 17), "keypoints_2d": (9, 17, 2), "confidences": (9, 17),
        "frames": (9,), "seconds": (9,), "fps": (), "joint_names": (17,), "parents": (17,), "axes": (), "camera": (),
        "options": (), "about": (),
    }  # fmt: skip
    assert (found["poses_3d"][:, H36M.root] == 0).all()
    assert (found["root"][:, 2] > 0.5).all()
    assert found["joint_names"].tolist() == list(H36M.joint_names)
    assert "metres; camera space: x right, y down, z ahead" in str(found["axes"])
    np.testing.assert_array_equal(found["frames"], np.arange(3, 12))
    np.testing.assert_allclose(found["seconds"], np.arange(3, 12) / 25)
    camera, options, about = (json.loads(str(found[name])) for name in ("camera", "options", "about"))
    assert (camera["width"], camera["fx"], camera["cx"]) == (1920, pytest.approx(1844.1, abs=0.1), pytest.approx(960))
    assert (options["num_proposals"], options["fps"], options["aggregation"]) == (2, 25, "R_Agg")
    assert (about["person"], about["trained_on"], about["network_fps"]) == ("1", "h36m", 50)
    assert "resampled to the network's 50 frames a second, and back" in about["notes"]
    assert "resampled to the network's 50 frames a second, and back" in printed


def test_what_was_predicted_before_is_kept_apart(tmp_path, predicted, run):
    """In the same folder, of another clip, of whom there are files that the second one does not write."""
    _, before = predicted(run[1].path_2d, "--subject", "S9", "--action", "Sitting", "--csv")
    out = next(tmp_path.rglob("person_1.npz")).parent
    printed, _ = predicted(run[1].path_2d, "--subject", "S9", "--action", "Walking")
    assert f"{out} held people already: moved to {out / 'earlier_1'}" in printed
    assert {path.name for path in out.glob("person_*")} == {"person_1.npz", "person_1.png"}
    earlier = out / "earlier_1"
    assert {path.name for path in earlier.iterdir()} == {"person_1.npz", "person_1.png", "person_1.csv"}
    np.testing.assert_array_equal(np.load(earlier / "person_1.npz")["poses_3d"], before["person_1"]["poses_3d"])


def test_a_clip_of_a_2d_file_has_its_camera(run, predicted):
    files = run[1]
    printed, people = predicted(files.path_2d, "--subject", "S9", "--action", "Sitting", "--view", "2")
    found = people["person_1"]
    np.testing.assert_allclose(found["keypoints_2d"], files.positions_2d["S9"]["Sitting"][2])
    camera = load_cameras("h36m.json")["S9"][2]
    assert f"the data set's calibration of {camera.name}" in printed
    assert json.loads(str(found["camera"]))["fx"] == pytest.approx(camera.intrinsics[0] * camera.width / 2)
    _, others = predicted(files.path_2d, "--subject", "S9", "--fov", "60")
    assert json.loads(str(others["person_1"]["camera"]))["source"].startswith("60 degrees")


def test_confidences_of_a_2d_file(run, tmp_path, predicted, outcome):
    """What prepare_2d.py writes: read where they are whole, refused where they are odd."""
    positions = {"S9": {"Walking": run[1].positions_2d["S9"]["Walking"]}}
    weights = [np.full((20, 17), 0.1 + 0.2 * view, np.float32) for view in range(4)]
    path = tmp_path / "data_2d_h36m_mine.npz"
    write_npz(path, positions_2d=positions, metadata=run[1].metadata, confidences={"S9": {"Walking": weights}})
    _, people = predicted(path, "--view", "3")
    np.testing.assert_array_equal(people["person_1"]["confidences"], weights[3])
    for odd, fault in ((-weights[3], "the least confidence is -0.7"), (weights[3][:5], "has shape (5, 17)")):
        confidences = {"S9": {"Walking": [*weights[:3], odd]}}
        write_npz(path, positions_2d=positions, metadata=run[1].metadata, confidences=confidences)
        code, _, complained = outcome(main, [str(path), "-c", str(run[0]), "--view", "3", "--out", str(tmp_path / "o")])
        assert (code, complained.count("\n")) == (1, 1)
        assert fault in complained


def test_a_detector_s_file_that_knows_the_image_size(tmp_path, predicted):
    printed, people = predicted(detectron(tmp_path))
    assert "camera   1920x1080, a guess" in printed
    assert "taken for granted (--fps says otherwise)" in printed
    assert len(people) == 1


def test_a_video_through_the_detector_and_again_from_its_detections(tmp_path, predicted):
    pytest.importorskip("rtmlib", reason="pip install -r requirements-predict.txt")
    from tests.test_video_detection import joints_model, people_model

    write_video(tmp_path / "street.mp4", [(90, 90, 90)] * 12, size=(416, 416))
    people = people_model(tmp_path / "p.onnx", [[100, 50, 196, 178], [200, 100, 296, 228]])
    models = ["--detector", str(people), "--pose-model", str(joints_model(tmp_path / "j.onnx"))]
    printed, found = predicted(tmp_path / "street.mp4", *models)
    assert list(found) == ["person_1", "person_2"]
    assert "rtmlib, 26 joints: halpe26; 12 frames" in printed
    assert "fps      10" in printed
    assert "camera   416x416, a guess" in printed
    kept = tmp_path / "kept.json"
    kept.write_bytes((tmp_path / "out" / "detections.json").read_bytes())
    _, again = predicted(kept, "--video", str(tmp_path / "street.mp4"))
    for name in found:
        np.testing.assert_allclose(again[name]["poses_3d"], found[name]["poses_3d"], atol=1e-4)


def test_a_folder_of_images(tmp_path, predicted):
    pytest.importorskip("rtmlib", reason="pip install -r requirements-predict.txt")
    from tests.test_video_detection import joints_model, people_model

    folder = _folder(tmp_path / "images")
    for number in range(3):
        Image.new("RGB", (416, 416)).save(folder / f"{number}.png")
    people = people_model(tmp_path / "p.onnx", [[100, 50, 196, 178]])
    models = ["--detector", str(people), "--pose-model", str(joints_model(tmp_path / "j.onnx"))]
    _, found = predicted(folder, *models, "--fps", "50")
    assert found["person_1"]["poses_3d"].shape == (3, 17, 3)


def test_several_people_one_file_each(tmp_path, predicted):
    people = []
    for frame in range(12):
        people.append(alphapose_person(walker("coco17", frame), f"{frame}.jpg", idx=1))
        if frame >= 2:
            people.append(alphapose_person(walker("coco17", frame, 600, 0.5), f"{frame}.jpg", idx="../2"))
        if frame == 5:
            people.append(alphapose_person(walker("coco17", frame, 900, 0.2), f"{frame}.jpg", idx=3))
    path = write(tmp_path / "in" / "alphapose-results.json", people)
    printed, found = predicted(path, *SIZE)
    assert list(found) == ["person_1", "person____2"]  # no name of a file's leads out of the folder
    assert [len(person["poses_3d"]) for person in found.values()] == [12, 10]
    assert found["person____2"]["frames"][0] == 2
    assert "left out: 3, found in fewer than 6 frames (--person takes them)" in printed
    _, found = predicted(path, *SIZE, "--person", "3", "--out", str(tmp_path / "third"))
    found = dict(np.load(tmp_path / "third" / "person_3.npz"))
    assert (found["frames"].tolist(), found["poses_3d"].shape) == ([5], (1, 17, 3))


def test_gaps_and_doubtful_joints_are_filled_and_said(tmp_path, predicted):
    people = []
    for frame in (0, 1, 2, 6, 7, 8, 9, 10, 11):
        table = walker("halpe26", frame)
        if frame == 8:
            table[9] = [5, 5, 0.05]  # a wrist that the detector hardly believes in
        people.append(alphapose_person(table, f"{frame}.jpg"))
    path = write(tmp_path / "in" / "alphapose-results.json", people)
    printed, found = predicted(path, *SIZE)
    assert "filled in over time: 3 of 12 frames, where they were not found (longest run 3), and 1 single" in printed
    found = found["person_1"]
    np.testing.assert_allclose(np.diff(found["keypoints_2d"][..., 0], axis=0), 10, atol=1e-3)
    wrist = H36M.joint_names.index("LWrist")
    assert np.argwhere(found["confidences"] == 0)[:, 0].tolist() == [3] * 17 + [4] * 17 + [5] * 17 + [8]
    assert found["confidences"][8, wrist] == 0


def test_frames_without_anybody_at_both_ends(tmp_path, predicted):
    path = openpose(tmp_path, people=lambda frame: [walker("body25", frame)] if 2 <= frame < 9 else [])
    printed, found = predicted(path, *SIZE)
    assert found["person_1"]["frames"].tolist() == list(range(2, 9))
    assert "person   1: frames 2 to 8" in printed
    note = "frames without an answer: 2 before the person's first, 3 after their last"
    assert note in printed
    assert note in json.loads(str(found["person_1"]["about"]))["notes"]


def test_alphapose_leaves_frames_out_before_the_first_that_it_names(tmp_path, predicted):
    printed, found = predicted(alphapose(tmp_path / "in", frames=range(10, 16)), *SIZE, "--fps", "25")
    assert "the clip begins with frame 0, as AlphaPose counts; the file's first is 10: taken for granted" in printed
    np.testing.assert_array_equal(found["person_1"]["frames"], np.arange(10, 16))
    np.testing.assert_allclose(found["person_1"]["seconds"], np.arange(10, 16) / 25)
    printed, found = predicted(tmp_path / "in" / "alphapose-results.json", *SIZE, "--fps", "25", "--first-frame", "10")
    assert "the clip begins" not in printed
    np.testing.assert_allclose(found["person_1"]["seconds"], np.arange(6) / 25)


def test_seconds_are_from_the_clip_s_first_frame_whoever_counts(tmp_path, predicted):
    path = openpose(tmp_path / "in")
    for file in sorted(path.iterdir())[:3]:
        file.unlink()
    printed, found = predicted(path, *SIZE, "--fps", "25")
    assert "the clip begins with frame 3, the file's first: taken for granted (--first-frame says otherwise)" in printed
    np.testing.assert_array_equal(found["person_1"]["frames"], np.arange(3, 12))
    np.testing.assert_allclose(found["person_1"]["seconds"], np.arange(9) / 25)
    printed, _ = predicted(mmpose_demo(tmp_path / "other"), *SIZE)  # counts from 1
    assert "the clip begins" not in printed


def test_one_frame(tmp_path, predicted):
    _, found = predicted(alphapose(tmp_path, frames=[0]), *SIZE, "--fps", "30")
    assert found["person_1"]["poses_3d"].shape == (1, 17, 3)


def test_upside_down_keypoints_warn(tmp_path, predicted):
    upside = np.stack([walker("halpe26", frame) for frame in range(12)])
    upside[..., 1] = 1080 - upside[..., 1]
    write_npz(tmp_path / "mine.npz", keypoints=upside)
    printed, _ = predicted(tmp_path / "mine.npz", *SIZE)
    assert "warning: the head is below the feet in 100% of the frames" in printed


def test_a_wrong_image_size_warns(tmp_path, predicted):
    printed, _ = predicted(alphapose(tmp_path), "--width", "300", "--height", "200")
    assert "warning: 100% of the joints lie outside 300x200 pixels" in printed


def test_a_network_of_mpi_inf_3dhp(tmp_path, outcome):
    """Other joints in another order, and another rate; it reads no action."""
    from main_3dhp import main as main_3dhp

    files = Files3DHP(tmp_path / "data").save()
    run = str(tmp_path / "run")
    assert main_3dhp(["--data-dir", str(files.folder), "-c", run, *SMALL]) == 0
    path, out = alphapose(tmp_path / "in", "halpe26"), str(tmp_path / "out")
    code, printed, _ = outcome(main, [str(path), "-c", run, "--out", out, *SIZE, *FEW])
    assert code == 0
    found = dict(np.load(tmp_path / "out" / "person_1.npz"))
    assert found["joint_names"].tolist() == list(MPI_INF_3DHP.joint_names)
    assert "fps      25, those of the network's data" in printed
    h36m = read_keypoint_track(path).points
    for ours, theirs in (("head_top", "head"), ("neck", "thorax"), ("LWrist", "LWrist"), ("pelvis", "pelvis")):
        a, b = MPI_INF_3DHP.joint_names.index(ours), H36M.joint_names.index(theirs)
        np.testing.assert_allclose(found["keypoints_2d"][:, a], h36m[:, b], atol=1e-3)
    code, _, complained = outcome(main, [str(path), "-c", run, "--out", out, *SIZE, "--verb", "Walking"])
    assert (code, complained.count("\n")) == (2, 1)
    assert "reads no action; leave it out" in complained


def test_the_public_release_s_checkpoint(tmp_path, outcome):
    """It does not say what it was trained on, and another network computes."""
    torch.save({"epoch": 7, "model_pos": tiny_state()}, tmp_path / "release.bin")
    argv = [str(alphapose(tmp_path / "in")), *SIZE, *FEW, "--evaluate", str(tmp_path / "release.bin")]
    argv += ["--out", str(tmp_path / "out"), "--compat-release"]
    code, _, complained = outcome(main, argv)
    assert (code, complained.count("\n")) == (2, 1)
    assert "does not say which data it was trained on; say -d h36m or -d 3dhp" in complained
    code, printed, complained = outcome(main, [*argv, "-d", "h36m"])
    assert code == 0, complained
    assert "epoch 7: h36m" in printed
    assert np.isfinite(np.load(tmp_path / "out" / "person_1.npz")["poses_3d"]).all()


@pytest.mark.skipif(not (ROOT.parent / "shared" / "data").is_dir(), reason="needs shared/data/cmu_h36m")
def test_noisy_detections_of_real_motion(predicted):
    path = ROOT.parent / "shared" / "data" / "cmu_h36m" / "data_2d_h36m_cpn_ft_h36m_dbb.npz"
    printed, people = predicted(path, "--subject", "S9", "--action", "Walking", "--csv")
    found = people["person_1"]
    assert len(found["poses_3d"]) > 100
    assert np.isfinite(found["poses_3d"]).all()
    assert "warning" not in printed


# --- outputs ---


def test_the_table_the_bvh_and_the_pictures(tmp_path, predicted):
    pybvh = pytest.importorskip("pybvh", reason="pip install -r requirements-predict.txt")
    small = ["--viz-size", "2", "--viz-limit", "6", "--viz-downsample", "2"]
    printed, people = predicted(
        alphapose(tmp_path), *SIZE, "--fps", "50", "--csv", "--bvh", "--page", "--render", "gif", *small
    )
    found, out = people["person_1"], tmp_path / "out"
    rows = list(csv.DictReader((out / "person_1.csv").read_text().splitlines()))
    assert [int(row["frame"]) for row in rows] == list(range(12))
    for frame, row in enumerate(rows):
        position = [float(row[f"LWrist_{axis}"]) for axis in "xyz"]
        joint = H36M.joint_names.index("LWrist")
        np.testing.assert_allclose(position, found["poses_3d"][frame, joint] + found["root"][frame], atol=1e-4)
    bvh = pybvh.read_bvh_file(out / "person_1.bvh")
    assert (len(bvh), bvh.fps) == (12, pytest.approx(50))
    np.testing.assert_allclose(bvh.root_pos, 100 * found["root"] * [1, -1, -1], atol=1e-3)  # the camera is level
    with Image.open(out / "person_1.png") as sheet, Image.open(out / "person_1.gif") as film:
        assert sheet.width > 500
        assert film.n_frames == 3
    assert printed.count("wrote") == 6
    assert "plotly" in (out / "person_1.html").read_text()


def test_the_video_is_behind_the_person_who_comes_later(tmp_path, predicted):
    """Frame i of the person is drawn on the video's frame `first + i`."""
    write_video(tmp_path / "street.mp4", [(200, 30, 30)] * 3 + [(30, 30, 200)] * 9, size=(640, 480))
    people = lambda frame: [walker("body25", frame, -200, 0.5)] if frame >= 3 else []  # noqa: E731
    predicted(openpose(tmp_path, people=people), "--video", str(tmp_path / "street.mp4"))
    with Image.open(tmp_path / "out" / "person_1.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3).astype(int)
    assert (np.abs(pixels - [30, 30, 200]).max(axis=1) < 40).mean() > 0.05
    assert (np.abs(pixels - [200, 30, 30]).max(axis=1) < 40).mean() < 0.001


def two_people(folder):
    """Person 1 is there in frames 0 to 11, person 2, smaller, from frame 6 on."""
    people = lambda frame: [walker("body25", frame)] + [walker("body25", frame, 500, 0.5)] * (frame >= 6)  # noqa: E731
    return openpose(folder, people=people)


def test_a_picture_that_one_person_is_too_short_for_is_a_note(tmp_path, predicted, run, outcome):
    path = two_people(tmp_path / "in")
    printed, people = predicted(path, *SIZE, "--person", "2,1", "--page", "--viz-skip", "8")
    out = tmp_path / "out"
    assert list(people) == ["person_1", "person_2"]
    assert "         no picture of person 2: person_2.html: skip is 8, but the clip has 6 frames" in printed
    assert [path.name for path in sorted(out.glob("*.[ph][nt][gm]*"))] == [
        "person_1.html",
        "person_1.png",
        "person_2.png",
    ]
    argv = [str(path), "-c", str(run[0]), *FEW, *SIZE, "--page", "--viz-skip", "12", "--out", str(tmp_path / "none")]
    code, _, complained = outcome(main, argv)
    assert (code, complained.count("\n")) == (2, 1)
    assert "--viz-skip is 12, but nobody has more than 12 frames" in complained
    assert len(list((tmp_path / "none").glob("*.npz"))) == 2


def test_a_video_that_is_over_before_a_person_comes_is_a_note(tmp_path, predicted):
    write_video(tmp_path / "street.mp4", [(30, 30, 200)] * 6, size=(640, 480))
    printed, people = predicted(two_people(tmp_path / "in"), "--video", str(tmp_path / "street.mp4"), "--csv")
    assert list(people) == ["person_1", "person_2"]
    assert {path.name for path in (tmp_path / "out").glob("*.csv")} == {"person_1.csv", "person_2.csv"}
    assert "no picture of person 2: person_2.png: video" in printed
    assert "is over before frame 7" in printed


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (["--viz-downsample", "2"], "the film has 4 of 6 frames: the video ends"),
        (["--viz-limit", "20", "--viz-downsample", "4"], "the film has 2 of 5 frames: the video ends"),
        (["--viz-limit", "20", "--viz-skip", "4", "--viz-downsample", "4"], "the film has 1 of 5 frames: the vi"),
        (["--viz-limit", "8"], None),
    ],
)
def test_a_film_that_the_video_cuts_short_is_said(tmp_path, predicted, options, note):
    write_video(tmp_path / "street.mp4", [(30, 30, 200)] * 8, size=(640, 480))
    film = ["--video", str(tmp_path / "street.mp4"), "--render", "gif", "--viz-size", "1", *options]
    printed, _ = predicted(alphapose(tmp_path / "in"), *film)
    assert note in printed if note else "the film has" not in printed


def test_a_film_that_asks_for_more_than_there_is_is_said(tmp_path, predicted):
    film = ["--render", "gif", "--viz-size", "1", "--viz-limit", "60", "--viz-downsample", "10"]
    printed, _ = predicted(alphapose(tmp_path / "in"), *SIZE, *film)
    assert "the film has 2 of 6 frames: person 1 is there no longer" in printed


def test_a_full_disk_is_no_note(tmp_path, predicted, run, outcome, monkeypatch):
    def full(path, *_, **__):
        raise NotWrittenError(f"{path} cannot be written")

    monkeypatch.setattr("common.prediction.render", full)
    path = alphapose(tmp_path / "in")
    code, _, complained = outcome(main, [str(path), "-c", str(run[0]), *FEW, *SIZE, "--out", str(tmp_path / "out")])
    assert (code, complained.count("\n")) == (1, 1)


def test_the_python_way_is_the_same(run, tmp_path, predicted):
    _, people = predicted(alphapose(tmp_path), *SIZE, "--fps", "25")
    track = read_keypoint_track(alphapose(tmp_path))
    model = load_lifter(run[0] / "best_epoch_1_1.bin")
    lifted = lift(
        track.points, guessed_camera(1920, 1080), model,
        confidences=track.confidences, fps=25, num_hypotheses=2, sampling_timesteps=1, name="1",
    )  # fmt: skip
    np.testing.assert_allclose(lifted.poses_3d, people["person_1"]["poses_3d"], atol=1e-5)
    np.testing.assert_allclose(lifted.root, people["person_1"]["root"], atol=1e-3)


# --- bad input ---


def _npz(folder, **members):
    write_npz(folder / "a.npz", **members)
    return folder / "a.npz"


def _text(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def _tables(change=lambda table: table):
    return np.stack([change(walker("halpe26", frame)) for frame in range(12)])


def _unsure(table):
    return np.column_stack([table[:, :2], np.zeros(26)])


BAD = {
    "absent": (lambda folder: folder / "none.mp4", 1, "not found; give a video, a folder of images, or keypoints"),
    "no video": (lambda folder: _text(folder, "a.mp4", "text"), 1, "is no video that ffmpeg can decode, and no keyp"),
    "unknown": (lambda folder: _text(folder, "a.csv", "1,2"), 1, "is no video that ffmpeg can decode, and no keyp"),
    "empty folder": (lambda folder: _folder(folder / "in"), 1, r"has no images \(.jpg, .*\) and no \*.json of a"),
    "half JSON": (lambda folder: _text(folder, "a.json", '[{"image_id": '), 1, "is no whole JSON"),
    "other JSON": (lambda folder: _text(folder, "a.json", "[1, 2]"), 1, "begins with 1; expected JSON of AlphaPose"),
    "nobody": (lambda folder: openpose(folder, people=lambda _: []), 1, "has no detection of anybody in 12 frames"),
    "wrong count": (lambda folder: _npz(folder, keypoints=_tables()[:, :14]), 1, "has 14 joints a person; expected 17"),
    "17 of what": (lambda folder: _npz(folder, keypoints=_tables()[:, :17]), 2, "say --layout coco17 or h36m17"),
    "no confidence": (lambda folder: _npz(folder, keypoints=_tables(_unsure)), 1, "of all 12 are 0 throughout"),
    "no pixels": (lambda folder: _npz(folder, keypoints=_tables() / 2000), 1, "no coordinate beyond 1; expected pix"),
    "no size": (lambda folder: _npz(folder, keypoints=_tables()), 2, "nothing says how large the image of .* give --w"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(run, tmp_path, outcome, case):
    make, exit_code, fault = BAD[case]
    path = make(tmp_path)
    code, _, complained = outcome(main, [str(path), "-c", str(run[0]), "--out", str(tmp_path / "out"), *FEW])
    assert (code, complained.count("\n")) == (exit_code, 1)
    assert complained.startswith("error: ")
    assert re.search(fault, complained), complained
    assert not (tmp_path / "out").exists()  # what left nothing leaves no folder


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--person", "7"], "--person: no '7' in"),
        (["--min-confidence", "2"], "no joint of anybody has a confidence of 2, the highest is 0.9"),
        (["--overlap", "9"], "--overlap is 9; expected less than a window's 9 frames"),
        (["-f", "27"], "was trained with -f 9; -f 27 was given"),
        (["-sampling_timesteps", "2000"], "-sampling_timesteps 2000 is more than"),
        (["--subject", "S1"], "--subject, --action and --view choose a clip of a data_2d file"),
        (["--detector-mode", "lightweight"], "--detector-mode would do nothing here"),
        (["--intrinsics", "none.json"], "none.json cannot be read"),
        (["--evaluate", "none.bin"], "none.bin not found"),
        (["--layout", "coco17"], "has 26 joints, and coco17 has 17"),
    ],
)
def test_options_that_do_not_fit_are_one_line(run, tmp_path, outcome, options, fault):
    path = _npz(tmp_path, keypoints=_tables())
    code, _, complained = outcome(main, [str(path), "-c", str(run[0]), "--out", str(tmp_path / "o"), *SIZE, *options])
    assert code in (1, 2)
    assert complained.count("\n") == 1
    assert fault in complained


def test_a_window_longer_than_the_network_s_is_a_mistake_of_usage(run, tmp_path, outcome):
    argv = [str(_npz(tmp_path, keypoints=_tables())), "-c", str(run[0]), "--out", str(tmp_path / "o"), *SIZE]
    code, _, complained = outcome(main, [*argv, "-f", "500"])
    assert (code, complained.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("argv", "fault"),
    [
        ([], "the following arguments are required: INPUT"),
        (["a.json"], "whose network? Give -c"),
        (["a.json", "-c", ""], "-c is empty"),
        (["", "-c", "run"], "input is empty"),
        (["a.json", "-c", "run", "--fps", "0"], "--fps is 0; expected frames a second"),
        (["a.json", "-c", "run", "--fps", "nan"], "--fps is nan; expected frames a second"),
        (["a.json", "-c", "run", "--fov", "500"], "--fov is 500; expected 1 to 170 degrees"),
        (["a.json", "-c", "run", "--fov", "50", "--intrinsics", "x"], "--fov with --intrinsics"),
        (["a.json", "-c", "run", "--width", "5"], "--width and --height go together"),
        (["a.json", "-c", "run", *SIZE, "--video", "x"], "--width and --height with --video"),
        (["a.json", "-c", "run", "--person", ","], "--person is empty"),
        (["a.json", "-c", "run", "--view", "-1"], "--view is -1; expected 0 or more"),
        (["a.json", "-c", "run", "-num_proposals", "0"], "-num_proposals is 0; expected 1 or more"),
        (["a.json", "-c", "run", "--view", "3000000000"], "--view is 3000000000; expected 2147483648 or less"),
        (["a.json", "-c", "run", "--viz-limit", "5"], "--viz-limit would do nothing here: --render is not given"),
        (["a.json", "-c", "run", "--aggregation", "J_Best"], "invalid choice: 'J_Best'"),
    ],
)
def test_command_lines_that_cannot_be_meant(argv, fault):
    with pytest.raises(UsageError) as caught:
        parse_predict_options(argv, "")
    assert fault in str(caught.value)
