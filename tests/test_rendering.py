"""What rendering.py draws and writes: right files, the prediction in them, and nothing left behind on failure."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from common import rendering
from common.camera import load_cameras
from common.clips import Clip
from common.errors import DataError, UsageError
from common.rendering import Scene, _Animation, check_output, render, write_animation, write_contact_sheet
from common.scenes import clip_scene
from common.skeleton import H36M, HUMANEVA15, MPI_INF_3DHP, SKELETONS

# A standing person by joint name: (towards the person's left, up), metres.
STANDING = {
    "pelvis": (0, 0.95), "spine": (0, 1.2), "thorax": (0, 1.45), "neck": (0, 1.52), "head": (0, 1.62),
    "head_top": (0, 1.72), "Hip": (0.13, 0.95), "Knee": (0.13, 0.5), "Ankle": (0.13, 0.08),
    "Shoulder": (0.17, 1.43), "Elbow": (0.22, 1.15), "Wrist": (0.25, 0.9),
}  # fmt: skip
SWING = {"Knee": 0.12, "Ankle": 0.25, "Elbow": -0.1, "Wrist": -0.2}


def walk(skeleton, num_frames):
    """(F, J, 3), world, metres: a stick person that walks along x and swings arms and legs."""
    poses = np.zeros((num_frames, skeleton.num_joints, 3))
    time = np.arange(num_frames) / 10
    for j, name in enumerate(skeleton.joint_names):
        side = -1 if j in skeleton.joints_right else 1
        part = name[1:] if j in skeleton.joints_left + skeleton.joints_right else name
        across, up = STANDING[part]
        poses[:, j] = 0, side * across, up
        poses[:, j, 0] = 1.2 * time + side * SWING.get(part, 0) * np.sin(5 * time)
    return poses


def make_scene(skeleton=H36M, num_frames=5, num_hypotheses=3, **changes):
    truth = walk(skeleton, num_frames)
    noise = np.random.default_rng(0).normal(0, 0.03, (num_hypotheses, *truth.shape))
    hypotheses = truth + noise
    prediction = hypotheses.mean(axis=0)
    scene = Scene(
        skeleton=skeleton,
        keypoints_2d=np.stack([200 + 150 * truth[..., 0], 450 - 220 * truth[..., 2]], axis=-1),
        image_size=(640, 480),
        prediction=prediction,
        ground_truth=truth,
        hypotheses=hypotheses,
        fps=10,
        azimuth=-60,
        title="A walk",
        error_mm=1000 * np.linalg.norm(prediction - truth, axis=-1).mean(axis=-1),
    )
    return replace(scene, **changes)


def animate(path, scene, **options):
    write_animation(path, scene, **{"size": 1.5, "show_progress": False} | options)


def picture(scene, folder, name="sheet.png"):
    write_contact_sheet(folder / name, scene, num_frames=2)
    return (folder / name).read_bytes()


def write_video(path, colours, size=(64, 48)):
    """One plain frame for each colour."""
    writer = imageio_ffmpeg.write_frames(str(path), size, fps=10, macro_block_size=2)
    writer.send(None)
    for colour in colours:
        writer.send(np.full((size[1], size[0], 3), colour, np.uint8).tobytes())
    writer.close()


def gif_frames(path):
    with Image.open(path) as image:
        frames = []
        for index in range(image.n_frames):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
        return frames


def test_import_leaves_pyplot_alone():
    code = "import sys, common.rendering; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_contact_sheet_is_a_png_of_any_skeleton(skeleton, tmp_path):
    picture(make_scene(skeleton), tmp_path)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG"
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert min(image.size) > 300
    assert os.listdir(tmp_path) == ["sheet.png"]


def test_contact_sheet_has_a_column_for_each_frame_and_a_row_for_the_truth(tmp_path):
    sizes = {}
    for name, truth, columns in (("small", False, 2), ("wide", False, 4), ("tall", True, 2), ("all", False, 9)):
        scene = make_scene() if truth else make_scene(ground_truth=None)
        write_contact_sheet(tmp_path / "sheet.png", scene, columns)
        with Image.open(tmp_path / "sheet.png") as image:
            sizes[name] = np.array(image.size)
    cell = sizes["wide"] - sizes["small"]
    assert cell[0] > 2 * 300
    assert cell[1] == 0
    assert sizes["tall"][0] == sizes["small"][0]
    assert sizes["tall"][1] > sizes["small"][1] + 300
    assert sizes["all"][0] == pytest.approx(sizes["small"][0] + 1.5 * cell[0], abs=2)  # 5 frames, not 9


@pytest.mark.parametrize("suffix", [".gif", ".mp4", ".png"])
def test_one_frame_one_hypothesis_no_truth(suffix, tmp_path):
    scene = make_scene(num_frames=1, num_hypotheses=1, ground_truth=None, title="")
    path = tmp_path / "new folder" / f"one{suffix.upper()}"
    render(path, scene, size=1.5, show_progress=False)
    assert path.stat().st_size > 1000
    assert os.listdir(path.parent) == [path.name]


def test_gif_has_the_clips_frames_and_speed(tmp_path):
    animate(tmp_path / "a.gif", make_scene(num_frames=9, fps=30))
    with Image.open(tmp_path / "a.gif") as image:
        assert image.format == "GIF"
        assert image.n_frames == 9
        durations = []
        for index in range(9):
            image.seek(index)
            durations.append(image.info["duration"])
    assert sum(durations) == 300  # milliseconds
    assert set(durations) == {30, 40}
    frames = gif_frames(tmp_path / "a.gif")
    assert all((frame[0, 0] == 255).all() for frame in frames)
    assert not np.array_equal(frames[0], frames[4])


def test_skip_limit_and_downsample(tmp_path):
    animate(tmp_path / "a.gif", make_scene(num_frames=12), skip=3, limit=7, downsample=2)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 4  # frames 3, 5, 7 and 9
        assert image.info["duration"] == 200


@pytest.mark.parametrize("size", [1.5, 1.73])
def test_mp4_frames_can_be_read(size, tmp_path):
    animate(tmp_path / "a.mp4", make_scene(MPI_INF_3DHP), size=size)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    meta = next(reader)
    frames = [np.frombuffer(frame, np.uint8).reshape(*meta["size"][::-1], 3).astype(int) for frame in reader]
    assert len(frames) == 5
    assert meta["fps"] == 10
    assert frames[0][:4, :4].min() > 245
    assert np.abs(frames[0] - frames[4]).max() > 100
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize("field", ["prediction", "hypotheses", "ground_truth", "keypoints_2d"])
def test_what_is_given_is_what_is_drawn(field, tmp_path):
    scene = make_scene()
    moved = getattr(scene, field).copy()
    moved[..., H36M.joint_names.index("LWrist"), :] += 0.2 if field != "keypoints_2d" else 20
    assert picture(replace(scene, **{field: moved}), tmp_path) != picture(scene, tmp_path)
    animate(tmp_path / "a.gif", scene)
    animate(tmp_path / "b.gif", replace(scene, **{field: moved}))
    for before, after in zip(gif_frames(tmp_path / "a.gif"), gif_frames(tmp_path / "b.gif"), strict=True):
        assert not np.array_equal(before, after)


def test_a_prediction_is_drawn_where_it_says(tmp_path):
    """A change of the prediction changes the prediction's panel and no other."""
    scene = make_scene(hypotheses=None, error_mm=None)
    moved = scene.prediction.copy()
    moved[:, H36M.joint_names.index("RWrist"), 2] += 0.1
    animate(tmp_path / "a.gif", scene)
    animate(tmp_path / "b.gif", replace(scene, prediction=moved))
    before, after = gif_frames(tmp_path / "a.gif")[2], gif_frames(tmp_path / "b.gif")[2]
    difference = np.abs(before.astype(int) - after).max(axis=(0, 2))
    changed = np.flatnonzero(difference > 60) / before.shape[1]
    assert changed.size
    # The input takes the first 200 of 550 parts, each pose 150.
    assert changed.min() > 0.38
    assert changed.max() < 0.69


def test_colours_tell_right_from_left(tmp_path):
    """Without the left arm's and leg's length there is less of the left colour, and of that one alone."""

    def count(scene, side):
        animate(tmp_path / "a.gif", scene, size=3)
        colour = [int(rendering.SIDE_COLOURS[side][i : i + 2], 16) for i in (1, 3, 5)]
        return (np.abs(gif_frames(tmp_path / "a.gif")[0].astype(int) - colour).max(axis=-1) < 12).sum()

    scene = make_scene(HUMANEVA15, num_frames=1, hypotheses=None, ground_truth=None, azimuth=0)
    folded = scene.prediction.copy()
    for joint in HUMANEVA15.joints_left:
        folded[:, joint] = folded[:, 0]
    folded_scene = replace(scene, prediction=folded)
    assert count(folded_scene, "left") < 0.75 * count(scene, "left")
    assert count(folded_scene, "right") > 0.9 * count(scene, "right")


@pytest.mark.parametrize("write", [write_contact_sheet, animate])
def test_the_same_scene_gives_the_same_file(write, tmp_path):
    name = "a.png" if write is write_contact_sheet else "a.gif"
    files = []
    for seed in (1, 2):
        np.random.seed(seed)
        write(tmp_path / name, make_scene())
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_the_view_follows_the_root(tmp_path):
    """Far away in the world, whole grid squares off, the picture is the same."""
    scene = make_scene(num_frames=2)
    offset = np.array([8.0, -4.0, 0.0])
    far = replace(
        scene,
        prediction=scene.prediction + offset,
        ground_truth=scene.ground_truth + offset,
        hypotheses=scene.hypotheses + offset,
    )
    for name, each in (("near.png", scene), ("far.png", far)):
        picture(each, tmp_path, name)
    near, far = (np.asarray(Image.open(tmp_path / name).convert("L")).astype(int) for name in ("near.png", "far.png"))
    assert (np.abs(near - far) > 8).mean() < 1e-4


def test_the_figure_is_made_once(tmp_path, monkeypatch):
    made = []
    original = rendering._new_figure
    monkeypatch.setattr(rendering, "_new_figure", lambda *args: made.append(args) or original(*args))
    animate(tmp_path / "a.gif", make_scene())
    assert len(made) == 1


@pytest.mark.parametrize("suffix", ["", ".avi", ".gif.zip"])
def test_other_suffixes_are_refused(suffix, tmp_path):
    path = tmp_path / f"walk{suffix}"
    with pytest.raises(UsageError, match=r"expected \.gif, \.mp4, \.png or \.html") as error:
        render(path, make_scene())
    assert "\n" not in str(error.value)
    assert not os.listdir(tmp_path)


def test_suffixes_of_each_function(tmp_path):
    check_output("walk.MP4")
    with pytest.raises(UsageError, match=r"found suffix '\.gif', expected \.png"):
        write_contact_sheet(tmp_path / "a.gif", make_scene())
    with pytest.raises(UsageError, match=r"found suffix '\.png', expected \.gif or \.mp4"):
        animate(tmp_path / "a.png", make_scene())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip": 5}, "the clip has 5 frames"),
        ({"skip": -1}, "skip is -1"),
        ({"limit": -1}, "limit is -1"),
        ({"downsample": 0}, "downsample is 0"),
        ({"size": 0}, "size is 0"),
        ({"bitrate": 0}, "bitrate is 0"),
    ],
)
def test_options_out_of_range(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        animate(tmp_path / "a.mp4", make_scene(), **options)
    assert not os.listdir(tmp_path)


def test_the_video_is_behind_the_keypoints_in_step(tmp_path):
    """Frame 3 of the video is drawn with frame 3 of the clip, and the animation ends with the video."""
    video = tmp_path / "video.mp4"
    colours = [(30, 30, 30), (90, 90, 90), (150, 150, 150), (210, 210, 210)]
    write_video(video, colours)
    scene = make_scene(num_frames=6)
    scene = replace(scene, keypoints_2d=np.full_like(scene.keypoints_2d, 100))  # out of the way
    animate(tmp_path / "a.gif", scene, video=video, skip=2)
    frames = gif_frames(tmp_path / "a.gif")
    assert len(frames) == 2
    for frame, colour in zip(frames, colours[2:], strict=True):
        height, width, _ = frame.shape
        assert np.abs(frame[int(0.6 * height), int(0.3 * width)].astype(int) - colour).max() < 15
    without = picture(scene, tmp_path)
    write_contact_sheet(tmp_path / "sheet.png", scene, 2, video=video)
    assert (tmp_path / "sheet.png").read_bytes() != without


@pytest.mark.parametrize("name", ["a.gif", "a.mp4", "a.png"])
@pytest.mark.parametrize("fault", ["absent", "unreadable", "short"])
def test_a_video_that_cannot_be_used(name, fault, tmp_path):
    video, output = tmp_path / "video.mp4", tmp_path / "out"
    output.mkdir()
    if fault == "unreadable":
        video.write_bytes(b"this is no video" * 100)
    if fault == "short":
        write_video(video, [(0, 0, 0)])
    message = {"absent": "not found", "unreadable": "cannot be read", "short": "is over before frame 4"}[fault]
    with pytest.raises(DataError, match=message) as error:
        render(output / name, make_scene(), video=video, skip=3, show_progress=False)
    assert "\n" not in str(error.value)
    assert not os.listdir(output)


@pytest.mark.parametrize("name", ["a.gif", "a.mp4", "a.png"])
def test_a_failure_leaves_the_old_file_and_nothing_else(name, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(b"older")
    original = rendering._pixels
    drawn = []

    def fail_late(figure):
        drawn.append(figure)
        if len(drawn) == 3 or name == "a.png":
            raise MemoryError("no more")
        return original(figure)

    monkeypatch.setattr(rendering, "_pixels", fail_late)
    with pytest.raises(MemoryError):
        render(tmp_path / name, make_scene(), size=1.5, show_progress=False)
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"older"


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("keypoints_2d", (5, 15, 2)),
        ("prediction", (4, 17, 3)),
        ("ground_truth", (5, 17, 2)),
        ("hypotheses", (5, 17, 3)),
        ("error_mm", (4,)),
    ],
)
def test_wrong_shapes_are_named(field, shape):
    with pytest.raises(ValueError, match=f"{field} has shape"):
        make_scene(**{field: np.zeros(shape)})


def test_a_film_of_a_part_counts_up_to_the_last_frame_it_shows(monkeypatch, tmp_path):
    """As a page does: never "frame 26 of 21"."""
    scene = replace(make_scene(num_frames=6), frame_numbers=np.arange(20, 26))
    shown = []
    show = _Animation.show

    def note(animation, frame, image):
        show(animation, frame, image)
        shown.append(animation.time.get_text())

    monkeypatch.setattr(_Animation, "show", note)
    write_animation(tmp_path / "a.gif", scene, size=1, skip=1, downsample=2, show_progress=False)
    assert [text.split("    ")[0] for text in shown] == ["frame 22 of 26", "frame 24 of 26", "frame 26 of 26"]


def test_errors_and_spread_of_joints():
    """Known answers: a wrist 30 mm off once the roots lie on each other; two hypotheses 40 mm to either side."""
    scene = make_scene(num_frames=2, num_hypotheses=2)
    wrist, apart = H36M.joint_names.index("LWrist"), np.zeros((17, 3))
    apart[wrist, 0] = 0.03
    truth = scene.prediction + apart + np.array([1.0, 2.0, 3.0])
    apart[wrist] = 0, 0, 0.04
    scene = replace(
        scene, ground_truth=truth, hypotheses=np.stack([scene.prediction + apart, scene.prediction - apart])
    )
    for found, expected in ((scene.joint_errors_mm, 30), (scene.joint_spread_mm, 40)):
        assert found.shape == (2, 17)
        assert found[:, wrist] == pytest.approx(expected)
        assert np.delete(found, wrist, axis=1) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("has_camera", [True, False])
def test_a_camera_of_unknown_orientation_sees_people_from_its_side(has_camera):
    """What is to the right in the image is to the right in the picture."""
    camera = replace(load_cameras("h36m.json")["S9"][0], orientation=None, translation=None) if has_camera else None
    pose = np.random.default_rng(0).normal(scale=0.3, size=(1, 17, 3)).astype(np.float32)
    clip = Clip("S9", "Walking", camera, pose[..., :2] / 4, pose, None, (1000, 1000))
    scene = clip_scene(clip, pose[None], H36M)
    azimuth = np.radians(scene.azimuth)
    to_the_right = scene.prediction[0, :, :2] @ [-np.sin(azimuth), np.cos(azimuth)]  # of who looks at z from there
    assert np.corrcoef(to_the_right, pose[0, :, 0])[0, 1] > 0.8
