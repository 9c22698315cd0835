"""Detections of every tool, as the tools write them, to our 2D files; and one clear line for all that is odd."""

import json

import numpy as np
import pytest

from common import files
from common.camera import load_cameras
from common.datasets import DATASETS, load_dataset
from common.errors import DataError, UsageError
from common.joint_conversions import convert_joints
from common.keypoint_formats import read_detections
from common.keypoint_tracks import read_keypoint_track
from common.npz_files import read_npz, write_npz
from common.skeleton import H36M
from data.prepare_2d import main, parser
from tests.conftest import SMALL
from tests.test_joint_conversions import person

NUM_FRAMES = 12


def walker(layout: str, frame: int, shift: float = 0.0, size: float = 1.0) -> np.ndarray:
    """(J, 3): x, y, confidence; 10 px to the right with every frame."""
    points = person(layout) * size + [10 * frame + shift, 0]
    return np.column_stack([points, np.full(len(points), 0.9)])


def expected(layout: str, frames, **where) -> np.ndarray:
    return np.stack([convert_joints(walker(layout, f, **where)[:, :2], np.ones(1000), layout)[0] for f in frames])


def alphapose_person(table, image, **extra) -> dict:
    xs, ys = table[:, 0], table[:, 1]
    box = [xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)]
    return {"image_id": image, "category_id": 1, "keypoints": table.ravel().tolist(), "score": 2.9, "box": box, **extra}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def alphapose(folder, layout="coco17", frames=range(NUM_FRAMES), **extra):
    people = [alphapose_person(walker(layout, frame), f"{frame}.jpg", **extra) for frame in frames]
    return write(folder / "alphapose-results.json", people)


def alphapose_open(folder, layout="coco18"):
    grouped = {
        f"{frame}.jpg": {
            "version": "AlphaPose v0.3",
            "people": [{"pose_keypoints_2d": walker(layout, frame).ravel().tolist()}],
        }
        for frame in range(NUM_FRAMES)
    }
    return write(folder / "alphapose-results.json", grouped)


def alphapose_cmu(folder, layout="coco18"):
    for frame in range(NUM_FRAMES):
        joints = {"version": "AlphaPose v0.3", "bodies": [{"joints": walker(layout, frame).ravel().tolist()}]}
        write(folder / "sep-json" / f"{frame}.json", joints)
    return folder / "sep-json"


def poseflow(folder, layout="coco17"):
    grouped = {}
    for frame in range(NUM_FRAMES):
        table = walker(layout, frame)
        scores = [[value] for value in table[:, 2].tolist()]
        seen = {"keypoints": table[:, :2].ravel().tolist(), "scores": scores, "idx": 3}
        grouped[f"{frame:06d}.png"] = [seen]
    return write(folder / "alphapose-results-forvis-tracked.json", grouped)


def openpose(folder, layout="body25", people=None):
    for frame in range(NUM_FRAMES):
        tables = people(frame) if people else [walker(layout, frame)]
        content = {
            "version": 1.3,
            "people": [
                {
                    "person_id": [-1],
                    "pose_keypoints_2d": table.ravel().tolist(),
                    "face_keypoints_2d": [],
                    "hand_left_keypoints_2d": [],
                    "hand_right_keypoints_2d": [],
                    "pose_keypoints_3d": [],
                }
                for table in tables
            ],
        }
        write(folder / "openpose" / f"street_{frame:012d}_keypoints.json", content)
    return folder / "openpose"


def mmpose_frames(layout, first):
    return [
        {
            "frame_id": frame + first,
            "instances": [
                {
                    "keypoints": walker(layout, frame)[:, :2].tolist(),
                    "keypoint_scores": walker(layout, frame)[:, 2].tolist(),
                    "bbox": [[400.0, 100.0, 600.0, 800.0]],
                    "bbox_score": 0.97,
                }
            ],
        }
        for frame in range(NUM_FRAMES)
    ]


def mmpose_demo(folder, layout="halpe26"):
    meta = {"dataset_name": layout.removesuffix("17"), "num_keypoints": 26, "flip_indices": [0, 2, 1]}
    content = {"meta_info": meta, "instance_info": mmpose_frames(layout, 1)}
    return write(folder / "results_street.json", content)


def mmpose_inferencer(folder, layout="coco17"):
    return write(folder / "street.json", mmpose_frames(layout, 0))


def rtmlib(folder, layout="halpe26", **extra):
    frames = [
        {"keypoints": [walker(layout, f)[:, :2].tolist()], "scores": [walker(layout, f)[:, 2].tolist()], **extra}
        for f in range(NUM_FRAMES)
    ]
    return write(folder / "rtmlib.json", frames)


def detectron(folder, layout="coco17"):
    boxes, keypoints = np.empty((NUM_FRAMES, 2), object), np.empty((NUM_FRAMES, 2), object)
    for frame in range(NUM_FRAMES):
        table = walker(layout, frame)
        boxes[frame] = [[], np.array([[400, 100, 600, 800, 0.99]], np.float32)]
        rows = [table[:, 0], table[:, 1], np.zeros(17), table[:, 2]]
        keypoints[frame] = [[], np.array([rows], np.float32)]
    path = folder / "street.mp4.npz"
    write_npz(
        path, boxes=boxes, segments=np.full(NUM_FRAMES, None), keypoints=keypoints, metadata={"w": 1920, "h": 1080}
    )
    return path


def own(folder, layout="halpe26", **members):
    path = folder / "mine.npz"
    keypoints = np.stack([walker(layout, frame) for frame in range(NUM_FRAMES)])
    write_npz(path, **{"keypoints": keypoints, **members})
    return path


def own_h36m(folder, layout="h36m17"):
    keypoints = expected("halpe26", range(NUM_FRAMES))
    write_npz(folder / "mine.npz", keypoints=keypoints, layout=layout)
    return folder / "mine.npz"


FORMATS = [
    (alphapose, "AlphaPose", "coco17", 0.9),
    (alphapose_open, "AlphaPose", "coco18", 0.9),
    (alphapose_cmu, "AlphaPose", "coco18", 0.9),
    (poseflow, "AlphaPose", "coco17", 0.9),
    (openpose, "OpenPose", "body25", 0.9),
    (mmpose_demo, "MMPose", "halpe26", 0.9),
    (mmpose_inferencer, "MMPose", "coco17", 0.9),
    (rtmlib, "rtmlib", "halpe26", 0.9),
    (detectron, "Detectron", "coco17", 0.9),
    (own, "keypoints", "halpe26", 0.9),
]


@pytest.mark.parametrize(("make", "tool", "layout", "confidence"), FORMATS)
def test_every_format_gives_the_same_person(tmp_path, make, tool, layout, confidence):
    track = read_keypoint_track(make(tmp_path))
    assert (track.detections.tool, track.detections.layout) == (tool, layout)
    np.testing.assert_allclose(track.points, expected(layout, range(NUM_FRAMES)), atol=1e-3)
    np.testing.assert_allclose(track.confidences, confidence, atol=1e-6)
    assert (track.empty_frames, track.missing_joints, len(track.people)) == (0, 0, 1)


@pytest.mark.parametrize("make", [alphapose, openpose, mmpose_inferencer, rtmlib, own])
@pytest.mark.parametrize("layout", ["coco17", "coco18", "body25", "halpe26", "halpe136"])
def test_the_layout_is_known_by_its_number_of_joints(tmp_path, make, layout):
    if layout == "coco17" and make is own:
        with pytest.raises(UsageError, match=r"say --layout coco17 or h36m17$") as caught:
            read_detections(make(tmp_path, layout))
        for offered in str(caught.value).split("--layout ")[1].split(" or "):
            assert len(read_keypoint_track(make(tmp_path, layout), layout=offered).points) == NUM_FRAMES
            assert parser().parse_args(["--input", "x", "--name", "y", "--layout", offered]).layout == offered
        assert read_detections(make(tmp_path, layout), "coco17").layout == "coco17"
    else:
        found = read_detections(make(tmp_path, layout))
        assert (found.layout, found.assumed) == (layout, layout == "coco17")


def test_the_layout_that_mmpose_states(tmp_path):
    path = mmpose_demo(tmp_path, "coco17")
    assert not read_detections(path).assumed
    content = json.loads(path.read_text())
    content["meta_info"]["dataset_name"] = "posetrack18"  # 17 joints too, others
    with pytest.raises(UsageError, match="says its layout is 'posetrack18'; give --layout"):
        read_detections(write(path, content))
    assert read_detections(path, "coco17").layout == "coco17"
    content["meta_info"]["dataset_name"] = "halpe26"
    with pytest.raises(UsageError, match="has 17 joints, and halpe26 has 26"):
        read_detections(write(path, content))


def test_a_17_joint_file_of_ours_says_its_layout(tmp_path):
    track = read_keypoint_track(own_h36m(tmp_path))
    np.testing.assert_allclose(track.points, expected("halpe26", range(NUM_FRAMES)), atol=1e-3)
    assert (track.confidences == 1).all()
    write_npz(tmp_path / "mine.npz", keypoints=expected("halpe26", range(3)))
    assert read_keypoint_track(tmp_path / "mine.npz", layout="h36m17").detections.layout == "h36m17"


def test_frames_left_out_are_interpolated_and_counted(tmp_path):
    path = alphapose(tmp_path, frames=[0, 1, 2, 6, 7, 9, 11])
    track = read_keypoint_track(path)
    np.testing.assert_allclose(track.points, expected("coco17", range(12)), atol=1e-3)  # it moves evenly
    assert (track.empty_frames, track.longest_gap) == (5, 3)
    assert (track.confidences[[3, 4, 5, 8, 10]] == 0).all()
    assert "5 frames without a detection (longest run 3)" in "\n".join(track.describe())


def test_first_frame_and_number_of_frames(tmp_path):
    path = openpose(tmp_path)
    for file in sorted(path.iterdir())[:2] + sorted(path.iterdir())[10:]:
        file.unlink()
    track = read_keypoint_track(path)
    assert (track.detections.first_number, len(track.points)) == (2, 8)
    assert "the clip begins with frame 2, the file's first: taken for granted" in "\n".join(track.describe())
    track = read_keypoint_track(path, first_frame=0, num_frames=14)
    assert (len(track.points), track.empty_frames) == (14, 6)
    np.testing.assert_allclose(track.points, expected("body25", [2, 2, *range(2, 10), *[9] * 4]), atol=1e-3)
    assert len(read_keypoint_track(path, num_frames=3).points) == 3
    with pytest.raises(UsageError, match=r"--first-frame 3 was given and .* has frame 2"):
        read_keypoint_track(path, first_frame=3)


@pytest.mark.parametrize(("name", "first"), [("{}.jpg", 0), ("{}.png", 0), ("{:06d}.jpg", 2), ("street_{}.jpg", 2)])
def test_alphapose_counts_a_video_s_frames_from_0(tmp_path, name, first):
    """And it leaves out those in which it finds nobody. Of images in a folder nobody knows where they begin."""
    people = [alphapose_person(walker("coco17", frame), name.format(frame)) for frame in range(2, 10)]
    path = write(tmp_path / "alphapose-results.json", people)
    track = read_keypoint_track(path)
    assert (track.detections.first_number, len(track.points)) == (first, 10 - first)
    held = [2, 2] if first == 0 else []
    np.testing.assert_allclose(track.points, expected("coco17", [*held, *range(2, 10)]), atol=1e-3)
    told = "the clip begins with frame " + (
        "0, as AlphaPose counts; the file's first is 2" if held else "2, the file's"
    )
    assert told in "\n".join(track.describe())
    assert "the clip begins" not in "\n".join(read_keypoint_track(path, first_frame=2).describe())


def test_joints_that_openpose_did_not_find_are_interpolated(tmp_path):
    def people(frame):
        table = walker("body25", frame)
        if 3 <= frame < 6:
            table[4] = 0  # the right wrist
        return [] if frame == 8 else [table]

    track = read_keypoint_track(openpose(tmp_path, people=people))
    np.testing.assert_allclose(track.points, expected("body25", range(NUM_FRAMES)), atol=1e-3)
    assert (track.empty_frames, track.missing_joints) == (1, 3)
    wrist = H36M.joint_names.index("RWrist")
    assert np.flatnonzero(track.confidences[:, wrist] == 0).tolist() == [3, 4, 5, 8]


def test_two_people_without_names_are_told_apart(tmp_path):
    """They are listed in either order, and one is away for some frames."""

    def people(frame):
        near, far = walker("body25", frame), walker("body25", -frame, shift=900, size=0.5)
        pair = [near, far] if frame % 2 else [far, near]
        return [far] if frame in (5, 6) else pair

    path = openpose(tmp_path, people=people)
    track = read_keypoint_track(path)
    np.testing.assert_allclose(track.points, expected("body25", range(NUM_FRAMES)), atol=1e-3)
    assert {frames for frames, _ in track.people.values()} == {10, 12}
    assert track.people[track.chosen[0]][1] > 0.7
    (other,) = set(track.people) - set(track.chosen)
    track = read_keypoint_track(path, person=[other])
    far = np.stack([convert_joints(walker("body25", -f, 900, 0.5)[:, :2], np.ones(25), "body25")[0] for f in range(12)])
    np.testing.assert_allclose(track.points, far, atol=1e-3)


def two_alphapose_people(folder, names):
    people = []
    for frame in range(NUM_FRAMES):
        near = alphapose_person(walker("coco17", frame), f"{frame}.jpg", idx=names(frame)[0])
        far = alphapose_person(walker("coco17", frame, shift=600, size=0.5), f"{frame}.jpg", idx=names(frame)[1])
        people += [far, near]
    return write(folder / "alphapose-results.json", people)


def test_the_files_own_names_are_taken(tmp_path):
    path = two_alphapose_people(tmp_path, lambda frame: (1.0 if frame < 8 else [[4.0]], 2.0))
    track = read_keypoint_track(path)
    assert (set(track.people), track.chosen, track.empty_frames) == ({"1", "2", "4"}, ("1",), 4)
    joined = read_keypoint_track(path, person=["1", "4"])
    np.testing.assert_allclose(joined.points, expected("coco17", range(NUM_FRAMES)), atol=1e-3)
    assert joined.empty_frames == 0
    with pytest.raises(UsageError, match=r"--person: no '7' in .*; there is 1, 4, 2"):
        read_keypoint_track(path, person=["7"])


def test_names_that_two_people_share_are_no_names(tmp_path):
    track = read_keypoint_track(two_alphapose_people(tmp_path, lambda frame: (0.0, 0.0)))
    assert [frames for frames, _ in track.people.values()] == [12, 12]
    np.testing.assert_allclose(track.points, expected("coco17", range(NUM_FRAMES)), atol=1e-3)


def run(path, folder, *extra):
    size = ["--width", "1920", "--height", "1080"] if "--dataset" not in extra else []
    return main(["--input", str(path), "--name", "mine", "--out", str(folder), *size, *extra])


def test_the_command_writes_what_custom_reads(tmp_path, capsys):
    assert run(alphapose(tmp_path, frames=[0, 1, 4, 5]), tmp_path / "out", "--video", "films/street.mp4") == 0
    out = capsys.readouterr().out
    assert "2 frames without a detection" in out
    assert "coco17, taken for granted" in out
    assert "python main_gt.py -d custom -k mine" in out
    (clip,) = load_dataset("custom", tmp_path / "out", "mine", training=False).test
    assert (clip.subject, clip.action, clip.size, clip.num_frames) == ("street.mp4", "custom", (1920, 1080), 6)
    content = read_npz(tmp_path / "out" / "data_2d_custom_mine.npz")
    np.testing.assert_allclose(
        content["positions_2d"]["street.mp4"]["custom"][0], expected("coco17", range(6)), atol=1e-3
    )
    assert (content["confidences"]["street.mp4"]["custom"][0][:, 0] > 0).tolist() == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]
    assert run(alphapose(tmp_path), tmp_path / "out") == 2
    assert "is there already; give --overwrite or another --name" in capsys.readouterr().err
    assert run(alphapose(tmp_path), tmp_path / "out", "--overwrite") == 0


def test_the_image_size_comes_from_the_file_or_the_options(tmp_path, capsys):
    assert main(["--input", str(detectron(tmp_path)), "--name", "a", "--out", str(tmp_path)]) == 0
    (clip,) = load_dataset("custom", tmp_path, "a", training=False).test
    assert (clip.subject, clip.size) == ("street.mp4", (1920, 1080))
    assert main(["--input", str(alphapose(tmp_path)), "--name", "b", "--out", str(tmp_path)]) == 2
    assert "give --width and --height" in capsys.readouterr().err
    options = ["--name", "c", "--out", str(tmp_path), "--width", "300", "--height", "200"]
    assert main(["--input", str(alphapose(tmp_path)), *options]) == 0
    assert "joints lie outside 300x200 pixels" in capsys.readouterr().out


def test_frames_a_second_are_written_if_they_are_given(tmp_path):
    for given, written, read in ((["--fps", "29.97"], 29.97, 29.97), ([], None, 50)):
        assert run(alphapose(tmp_path), tmp_path / "out", "--video", "street.mp4", "--overwrite", *given) == 0
        metadata = read_npz(tmp_path / "out" / "data_2d_custom_mine.npz")["metadata"]
        assert metadata["video_metadata"]["street.mp4"].get("fps") == written
        assert load_dataset("custom", tmp_path / "out", "mine", training=False).test[0].fps == read


def test_predicting_from_detections(tmp_path, h36m_files, capsys):
    """The whole way: a network trained on Human3.6M's format predicts for prepared detections."""
    from main_gt import main as main_gt

    h36m_files.save()
    train = ["--data-dir", str(h36m_files.folder), "-str", "S1", "-ste", "S9", "-c", str(tmp_path / "run")]
    assert main_gt([*train, *SMALL]) == 0
    assert run(rtmlib(tmp_path), tmp_path / "out") == 0
    predict = ["-d", "custom", "-k", "mine", "--data-dir", str(tmp_path / "out"), "-c", str(tmp_path / "run")]
    evaluate = ["--evaluate", "best_epoch_1_1.bin", "--text-encoder", "random", "--action-prompt", "neutral", "--nolog"]
    assert main_gt([*predict, *evaluate]) == 0, capsys.readouterr().err
    assert list((tmp_path / "run").glob("custom_predictions_*.npz"))


def h36m_tree(folder, h36m_files):
    """Every view of the files as a detector's file, one kind a camera."""
    tree = folder / "tree"
    for subject, actions in h36m_files.positions_2d.items():
        for action, views in actions.items():
            for number, (camera, points) in enumerate(zip(load_cameras("h36m.json")[subject], views, strict=True)):
                place = tree / subject / action / camera.name
                place.parent.mkdir(parents=True, exist_ok=True)
                if number % 2:
                    write_npz(place.with_suffix(".npz"), keypoints=points, layout="h36m17")
                else:
                    scored = np.dstack([points, np.full(points.shape[:2], 0.5)])
                    frames = [
                        {"keypoints": table[None, :, :2].tolist(), "scores": table[None, :, 2].tolist()}
                        for table in scored
                    ]
                    write(place.with_suffix(".json"), frames)
    return tree


def test_a_tree_becomes_a_2d_file_of_human36m(tmp_path, h36m_files, capsys):
    tree = h36m_tree(tmp_path, h36m_files)
    short = tree / "S9" / "Walking" / "54138969.json"
    write(short, json.loads(short.read_text())[:-3])
    options = ("--dataset", "h36m", "--layout", "h36m17")
    assert run(tree, h36m_files.folder, *options) == 0
    out = capsys.readouterr().out
    assert "read 24 clips" in out
    assert "data_3d_h36m.npz is not there" in out
    h36m_files.save()
    with pytest.raises(DataError, match="17 frames of 2D for 20 of 3D"):
        load_dataset("h36m", h36m_files.folder, "mine", subjects_train=["S1"], subjects_test=["S9"])
    assert run(tree, h36m_files.folder, *options, "--overwrite") == 0
    assert "S9              12       252         3" in capsys.readouterr().out
    ours = load_dataset("h36m", h36m_files.folder, "mine", subjects_train=["S1"], subjects_test=["S9"])
    truth = load_dataset("h36m", h36m_files.folder, "gt", subjects_train=["S1"], subjects_test=["S9"])
    for a, b in zip(ours.train + ours.test, truth.train + truth.test, strict=True):
        if (a.subject, a.action, a.camera.name) != ("S9", "Walking", "54138969"):
            np.testing.assert_allclose(a.poses_2d, b.poses_2d, atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (
            lambda tree: (tree / "S9" / "Walking" / "60457274.npz").unlink(),
            "Walking: 60457274 is missing; expected 5413",
        ),
        (lambda tree: (tree / "S9" / "Walking" / "12.json").write_text("[]"), "Walking: 12 is no camera"),
        (lambda tree: (tree / "S77").mkdir(), "S77: no subject of h36m"),
        (lambda tree: (tree / "S9" / "Flying").mkdir(), "Flying is empty"),
        (lambda tree: (tree / "S9" / "notes.txt").write_text("x"), "notes.txt is not a folder"),
        (lambda tree: (tree / "S9" / "Sitting").rename(tree / "S9" / "Lying"), "no 'S9' 'Lying', which --input has"),
    ],
)
def test_odd_trees(tmp_path, h36m_files, capsys, spoil, line):
    tree = h36m_tree(tmp_path, h36m_files)
    h36m_files.save()
    spoil(tree)
    assert run(tree, h36m_files.folder, "--dataset", "h36m", "--layout", "h36m17") == 1
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
    assert not (h36m_files.folder / "data_2d_h36m_mine.npz").exists()


def bad_file(folder, kind):
    """Something a user may bring; returns it and what the line must say."""
    people = [alphapose_person(walker("coco17", frame), f"{frame}.jpg") for frame in range(3)]
    path = folder / "bad.json"
    match kind:
        case "absent":
            return path, "not found"
        case "empty file":
            path.write_text("")
            return path, "no whole JSON"
        case "empty list":
            return write(path, []), "is empty"
        case "truncated":
            path.write_text(json.dumps(people)[:-100])
            return path, "no whole JSON"
        case "no text":
            path.write_bytes(b"\xff\xfe\x00\x80" * 10)
            return path, "no whole JSON"
        case "endless lists":
            path.write_text("[" * 200_000)
            return path, "lists inside lists|no whole JSON"
        case "a number":
            return write(path, 5), "begins with 5"
        case "another list":
            return write(path, [{"pose": 1}]), "begins with {'pose': 1}"
        case "another dict":
            return write(path, {"poses": 5}), r"has \['poses'\]; expected JSON of AlphaPose, OpenPose, MMPose or rtmlib"
        case "another dict of lists":
            return write(path, {"a": [1], "b": {"c": 2}}), r"has \['a', 'b'\]; expected JSON of AlphaPose"
        case "a dict with one odd frame":
            return write(path, {"0.jpg": people[:1], "1.jpg": 5}), "1.jpg is 5; expected a list of dicts"
        case "COCO's annotations":
            content = {"images": [{"id": 1}], "annotations": [{"image_id": 1, "keypoints": [1, 2, 2]}]}
            return write(
                path, content
            ), "is COCO's annotations, not what a detector found .* expected its results: JSON"
        case "joint count":
            for item in people:
                item["keypoints"] = item["keypoints"][:48]
            return write(path, people), "has 16 joints a person; expected 17 .coco17"
        case "mixed joint counts":
            people[1]["keypoints"] = walker("halpe26", 0).ravel().tolist()
            return write(path, people), "people with 17 and 26 joints"
        case "half a joint":
            people[1]["keypoints"] = people[1]["keypoints"][:-1]
            return write(path, people), r"1\.jpg has keypoints of shape \(50,\)"
        case "an infinite joint":
            people[1]["keypoints"][4] = float("inf")
            return write(path, people), r"1\.jpg has a number that is not finite"
        case "a score of NaN":
            people[1]["score"] = float("nan")
            return write(path, people), r"1\.jpg: score has a number that is not finite"
        case "infinite":
            path.write_text(json.dumps(people).replace("2.9", "1e999"))
            return path, "not finite"
        case "text for numbers":
            people[1]["keypoints"][4] = "left"
            return write(path, people), "expected numbers"
        case "no keypoints":
            del people[1]["keypoints"]
            return write(path, people), "entry 1: no 'keypoints'"
        case "frame number":
            people[1]["image_id"] = "999999999999.jpg"
            return write(path, people), "expected at most 1000000 frames"
        case "two videos":
            people[1]["image_id"] = "b_0.jpg"
            return write(path, people), "'0.jpg' and 'b_0.jpg' are both frame 0"
        case "normalised":
            for item in people:
                item["keypoints"] = (np.array(item["keypoints"]) / 2000).tolist()
            return write(path, people), "no coordinate beyond 1; expected pixels"
        case "one OpenPose frame":
            return write(path, {"version": 1.3, "people": []}), "a single frame; give the folder"
        case "nobody":
            return openpose(folder, people=lambda frame: []), "no detection of anybody in 12 frames"
        case "half a body":
            legs = [9, 10, 11, 12, 13, 14]

            def upper(frame):
                table = walker("body25", frame)
                table[legs] = 0
                return [table]

            return openpose(folder, people=upper), "RHip, RKnee, RAnkle, LHip, LKnee, LAnkle in no frame"
        case "folder without JSON":
            (folder / "empty").mkdir()
            return folder / "empty", "has no \\*.json"
        case "npz of something else":
            write_npz(folder / "bad.npz", poses=np.zeros(3))
            return folder / "bad.npz", "expected keypoints"
        case "npz with one infinity":
            keypoints = np.stack([walker("halpe26", frame) for frame in range(3)])
            keypoints[1, 4, 0] = np.inf
            write_npz(folder / "bad.npz", keypoints=keypoints)
            return folder / "bad.npz", "frame 1 has a number that is not finite"
        case "npz of another shape":
            return own(folder, keypoints=np.zeros((3, 26))), r"shape \(3, 26\); expected \(N, J, 2 or 3\)"
        case "npz of text":
            return own(folder, keypoints=np.array(["a"])), "expected an array"
        case "Detectron without people":
            return own(folder, boxes=np.zeros(NUM_FRAMES)), "expected .background, people."
        case "Detectron of other lengths":
            return own(folder, boxes=np.zeros(3)), "not of the same frames"
        case "pickle with code":
            np.savez(folder / "bad.npz", keypoints=np.array([print], dtype=object))
            return folder / "bad.npz", "expected numpy arrays"
    raise ValueError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "absent", "empty file", "empty list", "truncated", "no text", "endless lists", "a number", "another list",
        "another dict", "another dict of lists", "a dict with one odd frame", "COCO's annotations", "joint count",
        "mixed joint counts", "half a joint", "an infinite joint", "a score of NaN", "infinite", "text for numbers",
        "no keypoints", "frame number", "two videos", "normalised", "one OpenPose frame", "nobody", "half a body",
        "folder without JSON", "npz of something else", "npz with one infinity", "npz of another shape", "npz of text",
        "Detectron without people", "Detectron of other lengths", "pickle with code",
    ],
)  # fmt: skip
def test_odd_input_is_one_line_and_writes_nothing(tmp_path, capsys, kind):
    path, line = bad_file(tmp_path, kind)
    assert run(path, tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    with pytest.raises(DataError, match=line):
        read_keypoint_track(path)
    assert not list((tmp_path / "out").glob("*"))


def test_a_huge_file_is_refused_unread(tmp_path, monkeypatch):
    path = alphapose(tmp_path)
    monkeypatch.setattr(files, "MOST_JSON_BYTES", 1 << 10)
    with pytest.raises(DataError, match="expected at most 0 MB; cut a long video into parts"):
        read_keypoint_track(path)
    sparse = tmp_path / "sparse.json"
    with open(sparse, "wb") as file:
        file.truncate(10 << 30)
    monkeypatch.undo()
    with pytest.raises(DataError, match="has 10240 MB, expected at most 512 MB"):
        read_keypoint_track(sparse)


def test_npz_frames_of_nan_are_frames_without_a_detection(tmp_path):
    keypoints = np.stack([walker("halpe26", frame) for frame in range(5)])
    keypoints[2] = np.nan
    track = read_keypoint_track(own(tmp_path, keypoints=keypoints))
    assert track.empty_frames == 1
    np.testing.assert_allclose(track.points, expected("halpe26", range(5)), atol=1e-3)


@pytest.mark.parametrize("make", [own, alphapose, openpose, mmpose_demo, mmpose_inferencer, rtmlib, poseflow])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("nothing", [np.nan, None])
def test_a_joint_of_nan_or_null_was_not_found(tmp_path, make, axis, nothing):
    """A wrist of frame 3: filled in, and counted; it moves evenly."""
    path = make(tmp_path)
    whole = read_keypoint_track(path)
    if path.suffix == ".npz":
        members = read_npz(path)
        members["keypoints"][3, 9, axis] = np.nan
        write_npz(path, **members)
    else:
        wrist = 4 if make is openpose else 9
        file = sorted(path.iterdir())[3] if path.is_dir() else path
        content = json.loads(file.read_text())
        _spoil(content, make, wrist, axis, nothing)
        write(file, content)
    track = read_keypoint_track(path)
    np.testing.assert_allclose(track.points, whole.points, atol=1e-3)
    assert (track.confidences == 0).sum() == track.missing_joints == 1
    assert track.confidences[3].min() == 0


def _spoil(content, make, joint, axis, nothing):
    """Put `nothing` for a coordinate of a joint of the fourth frame."""
    if make is alphapose:
        content[3]["keypoints"][3 * joint + axis] = nothing
    elif make is poseflow:
        content["000003.png"][0]["keypoints"][2 * joint + axis] = nothing
    elif make is openpose:
        content["people"][0]["pose_keypoints_2d"][3 * joint + axis] = nothing
    elif make is rtmlib:
        content[3]["keypoints"][0][joint][axis] = nothing
    else:
        frames = content["instance_info"] if make is mmpose_demo else content
        frames[3]["instances"][0]["keypoints"][joint][axis] = nothing


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--layout", "halpe26"], "has 17 joints, and halpe26 has 26; see --layout"),
        (["--name", "a/b"], "--name is 'a/b'"),
        (["--width", "0"], "--width is 0"),
        (["--frames", "-1"], "--frames is -1"),
        (["--fps", "0"], "--fps is 0.0; expected a number above 0"),
        (["--fps", "nan"], "--fps is nan; expected a number above 0"),
        (["--dataset", "h36m", "--fps", "25"], "--fps is for one video; with -d h36m leave it out"),
        (["--person", "9"], "--person: no '9'"),
        (["--dataset", "h36m", "--person", "1"], "--person is for one video; with -d h36m leave it out"),
    ],
)
def test_wrong_options(tmp_path, capsys, options, line):
    base = {"--name": "mine", "--width": "1920", "--height": "1080"}
    if "--dataset" in options:
        base = {"--name": "mine"}
    base.update(zip(options[::2], options[1::2], strict=True))
    flat = [part for pair in base.items() for part in pair]
    assert main(["--input", str(alphapose(tmp_path)), "--out", str(tmp_path / "out"), *flat]) == 2
    assert line in capsys.readouterr().err


def test_only_datasets_with_these_joints_are_offered(capsys):
    assert main(["--input", "x", "--name", "y", "--dataset", "humaneva15"]) == 2
    assert "invalid choice: 'humaneva15'" in capsys.readouterr().err
    assert DATASETS["humaneva15"].skeleton is not H36M
