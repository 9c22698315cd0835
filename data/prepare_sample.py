"""Make the sample data: real motion, small enough to keep beside the code, in the Human3.6M file format.

    python data/prepare_sample.py [--clips DIR] [--out DIR]

The motion is the DeepMimic clips that the pybullet package carries (pybullet_data/data/motions/humanoid3d_*.txt);
data/SAMPLE.md says where they come from and what the result is good for. pybullet itself is never imported.

Joints. The humanoid of the clips has 15 bodies; Human3.6M's evaluation skeleton has 17 joints. Hips, knees, ankles,
shoulders, elbows and wrists are the humanoid's own, and the pelvis is its root, midway between the hips. The trunk:

    spine   the chest joint, where the trunk bends
    thorax  the neck joint, at the height of the shoulders
    head    the top of the head's sphere, on the head's own axis
    neck    midway from thorax to head (Human3.6M has a point near the nose here, a little further forward)

Coordinates. The clips are in metres, y up, and a person faces +x with the right hand at +z. The files written are in
metres, z up, floor at z = 0, at 50 frames a second; 2D is in pixels, distorted, as Human3.6M's cameras would see it.
"""

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, Slerp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks for modules beside the script only

from common.camera import Camera, load_cameras, world_to_image  # noqa: E402
from common.datasets import DATASETS  # noqa: E402
from common.errors import DataError, OneLineParser, exit_code  # noqa: E402
from common.npz_files import write_npz  # noqa: E402
from common.pose_files import layout_metadata  # noqa: E402
from common.skeleton import H36M  # noqa: E402

SAMPLE = DATASETS["sample"]

# Clip -> action. The first word is the class, and so the word of the text prompt.
ACTIONS = {
    "backflip": "Backflipping",
    "cartwheel": "Cartwheeling",
    "crawl": "Crawling",
    "dance_a": "Dancing 1",
    "dance_b": "Dancing 2",
    "getup_facedown": "Rising 1",
    "getup_faceup": "Rising 2",
    "jump": "Jumping",
    "kick": "Kicking 1",
    "punch": "Punching",
    "roll": "Rolling",
    "run": "Running",
    "spin": "Spinning",
    "spinkick": "Kicking 2",
    "walk": "Walking",
}
# Clips whose second half is their first half mirrored. Training mirrors poses too, so a split in time alone would put
# test poses into training: only the first half is used.
MIRROR_MADE = ("run", "walk")
TRAIN_SUBJECT, TEST_SUBJECT = "S1", "S9"

FRAME_RATE = 50  # frames a second, as Human3.6M
STATURE = 1.05  # the humanoid is 1.62 m from sole to top of the head; this makes it 1.70 m
GAP = 5  # frames left out between the two halves, and at the end of a clip that loops
MIN_TEST_FRAMES = 6
SEED = 2025
IMAGE_MARGIN = 20  # pixels kept free at each border

# A frame of a clip: [duration, root position (3), then these]. 4 numbers are a quaternion w,x,y,z; 1 is an angle about
# z in radians. Source: DeepMimic's README.
FRAME_LAYOUT = {
    "root": 4,
    "chest": 4,
    "neck": 4,
    "right_hip": 4,
    "right_knee": 1,
    "right_ankle": 4,
    "right_shoulder": 4,
    "right_elbow": 1,
    "left_hip": 4,
    "left_knee": 1,
    "left_ankle": 4,
    "left_shoulder": 4,
    "left_elbow": 1,
}
FRAME_SIZE = 4 + sum(FRAME_LAYOUT.values())

# The humanoid: H36M joint -> (the body it is fixed to, its place there). x ahead, y up, z to the right. Source:
# pybullet_data/humanoid/humanoid.urdf, whose lengths are four times the clips' (hence URDF_SCALE, which gives metres).
URDF_SCALE = 0.25
HEAD_TOP = 0.700 + 0.410  # centre and radius of the head's sphere, above the neck joint
ATTACHMENTS = {
    "pelvis": (None, (0.0, 0.0, 0.0)),
    "RHip": ("root", (0.0, 0.0, 0.339548)),
    "RKnee": ("right_hip", (0.0, -1.686184, 0.0)),
    "RAnkle": ("right_knee", (0.0, -1.639480, 0.0)),
    "LHip": ("root", (0.0, 0.0, -0.339548)),
    "LKnee": ("left_hip", (0.0, -1.686184, 0.0)),
    "LAnkle": ("left_knee", (0.0, -1.639480, 0.0)),
    "spine": ("root", (0.0, 0.944604, 0.0)),
    "thorax": ("chest", (0.0, 0.895576, 0.0)),
    "neck": ("neck", (0.0, HEAD_TOP / 2, 0.0)),
    "head": ("neck", (0.0, HEAD_TOP, 0.0)),
    "LShoulder": ("chest", (-0.096200, 0.974000, -0.732440)),
    "LElbow": ("left_shoulder", (0.0, -1.099152, 0.0)),
    "LWrist": ("left_elbow", (0.0, -1.035788, 0.0)),
    "RShoulder": ("chest", (-0.096200, 0.974000, 0.732440)),
    "RElbow": ("right_shoulder", (0.0, -1.099152, 0.0)),
    "RWrist": ("right_elbow", (0.0, -1.035788, 0.0)),
}
# Body -> (the body it hangs from, the H36M joint it turns about), each after the body it hangs from.
BODIES = {
    "root": (None, "pelvis"),
    "chest": ("root", "spine"),
    "neck": ("chest", "thorax"),
    "right_hip": ("root", "RHip"),
    "right_knee": ("right_hip", "RKnee"),
    "right_shoulder": ("chest", "RShoulder"),
    "right_elbow": ("right_shoulder", "RElbow"),
    "left_hip": ("root", "LHip"),
    "left_knee": ("left_hip", "LKnee"),
    "left_shoulder": ("chest", "LShoulder"),
    "left_elbow": ("left_shoulder", "LElbow"),
}

# Human3.6M files have 32 slots. Our 17 joints fill the kept ones; a dropped slot repeats a kept neighbour, because in
# Human3.6M it is a toe, a hand or a second copy of the trunk's joints.
DROPPED_SLOTS = {
    4: 3,
    5: 3,
    9: 8,
    10: 8,
    11: 0,
    16: 13,
    20: 19,
    21: 19,
    22: 19,
    23: 19,
    24: 13,
    28: 27,
    29: 27,
    30: 27,
    31: 27,
}


@dataclass(frozen=True)
class Clip:
    """A motion clip of N frames.

    Attributes:
        times: (N,) seconds from the clip's start, rising.
        root: (N, 3) the pelvis, metres, y up.
        rotations: body -> N rotations, the root's in the world, every other relative to the body it hangs from.
        loops: whether the last pose leads on to the first, so that the two are (nearly) the same.
    """

    times: np.ndarray
    root: np.ndarray
    rotations: dict[str, Rotation]
    loops: bool


def find_clips(folder=None) -> Path:
    """The folder that holds humanoid3d_*.txt: the one given, or else the installed pybullet_data's."""
    if folder is not None:
        folder = Path(folder)
        if not any(folder.glob("humanoid3d_*.txt")):
            raise DataError(f"{folder} holds no humanoid3d_*.txt; --clips takes a copy of pybullet_data/data/motions")
        return folder
    spec = importlib.util.find_spec("pybullet_data")
    for place in (spec.submodule_search_locations if spec else None) or ():
        motions = Path(place) / "data" / "motions"
        if any(motions.glob("humanoid3d_*.txt")):
            return motions
    raise DataError(
        "the motion clips were not found; `pip install pybullet` brings them, or name their folder by --clips"
    )


def read_clip(path) -> Clip:
    """Read a DeepMimic motion file. Quaternions need not have length 1: some clips were blended and not normalised."""
    try:
        content = json.loads(Path(path).read_text())
        frames = np.array(content["Frames"], dtype=np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a DeepMimic motion file ({error}); expected JSON with 'Frames'") from error
    if frames.ndim != 2 or frames.shape[1] != FRAME_SIZE or len(frames) < 2:
        raise DataError(f"{path}: frames of shape {frames.shape}; expected two or more of {FRAME_SIZE} numbers")
    durations = frames[:-1, 0]  # how long each frame lasts; nothing follows the last one
    if not (durations > 0).all():
        raise DataError(f"{path}: a frame lasts {durations.min()} s; expected more than 0")
    rotations, start = {}, 4
    for body, size in FRAME_LAYOUT.items():
        numbers = frames[:, start : start + size]
        start += size
        if size == 4:
            rotations[body] = Rotation.from_quat(numbers[:, [1, 2, 3, 0]])  # scipy's order is x,y,z,w
        else:
            rotations[body] = Rotation.from_rotvec(numbers * np.array([0.0, 0.0, 1.0]))
    return Clip(
        times=np.concatenate([[0.0], np.cumsum(durations)]),
        root=frames[:, 1:4],
        rotations=rotations,
        loops=content.get("Loop") == "wrap",
    )


def resample(clip: Clip, frame_rate: float = FRAME_RATE) -> Clip:
    """The clip at an even frame rate: shortest-arc (slerp) rotations, a cubic spline for the root."""
    num_frames = int(np.floor(clip.times[-1] * frame_rate + 1e-6)) + 1
    times = np.minimum(np.arange(num_frames) / frame_rate, clip.times[-1])
    root = CubicSpline(clip.times, clip.root)(times)
    rotations = {body: Slerp(clip.times, turns)(times) for body, turns in clip.rotations.items()}
    return Clip(times, root, rotations, clip.loops)


def forward_kinematics(clip: Clip) -> np.ndarray:
    """Joint positions of every frame.

    Returns:
        (N, 17, 3), H36M order, metres at the humanoid's own size; the clips' frame (y up).
    """
    joints, turned = {"pelvis": clip.root}, {}
    for body, (parent, pivot) in BODIES.items():
        turned[body] = clip.rotations[body] if parent is None else turned[parent] * clip.rotations[body]
        for joint, (carrier, offset) in ATTACHMENTS.items():
            if carrier == body:
                joints[joint] = joints[pivot] + turned[body].apply(np.array(offset) * URDF_SCALE)
    return np.stack([joints[name] for name in H36M.joint_names], axis=1)


def to_world(poses: np.ndarray) -> np.ndarray:
    """From the clips' frame to Human3.6M's: z up, adult size.

    Args:
        poses: (N, 17, 3), metres at the humanoid's own size, y up, floor at y = 0.

    Returns:
        (N, 17, 3), metres, z up, floor at z = 0.
    """
    x, y, z = np.moveaxis(poses * STATURE, -1, 0)
    return np.stack([x, -z, y], axis=-1)  # a turn by 90 degrees about x; left stays left


def split_frames(num_frames: int, loops: bool) -> tuple[slice, slice] | None:
    """Which frames of a clip are for training and which for testing.

    The test part is the last quarter, or MIN_TEST_FRAMES if that is more; GAP frames before it are left out. A clip
    that loops ends where it began, and a mirror-made half at the mirror image of that, so its last GAP frames are left
    out as well.

    Returns:
        (training frames, test frames), or None where training would get less than twice the test frames.
    """
    end = num_frames - GAP if loops else num_frames
    num_test = max(MIN_TEST_FRAMES, round(end / 4))
    num_train = end - GAP - num_test
    if num_train < 2 * num_test:
        return None
    return slice(0, num_train), slice(end - num_test, end)


def look_at_point(cameras: list[Camera]) -> np.ndarray:
    """(2,) the floor position, metres, that the cameras' optical axes pass closest to, seen from above."""
    system, target = np.zeros((2, 2)), np.zeros(2)
    for camera in cameras:
        ahead = camera.rotation.apply([0.0, 0.0, 1.0])[:2]
        ahead /= np.linalg.norm(ahead)
        across = np.eye(2) - np.outer(ahead, ahead)  # what of a vector does not lie along the axis
        system += across
        target += across @ camera.translation[:2]
    return np.linalg.solve(system, target)


def is_in_view(poses: np.ndarray, cameras: list[Camera]) -> bool:
    """Whether all joints of (N, 17, 3) world poses are inside every image, IMAGE_MARGIN from its border."""
    for camera in cameras:
        pixels, depth = world_to_image(poses, camera)
        size = np.array([camera.width, camera.height])
        inside = (pixels > IMAGE_MARGIN) & (pixels < size - IMAGE_MARGIN)
        if not (inside.all() and (depth > 1).all()):
            return False
    return True


def place(poses: np.ndarray, cameras: list[Camera], random: np.random.Generator) -> np.ndarray:
    """Turn poses about the vertical and move them along the floor, at random, so that every camera sees all of them.

    Args:
        poses: (N, 17, 3), metres, z up.
        cameras: those of the poses' subject.
        random: draws the heading (any) and the place (up to 0.75 m from `look_at_point` in x and in y).

    Returns:
        (N, 17, 3), metres, z up, world.
    """
    ground = poses[..., :2]
    middle = (ground.min(axis=(0, 1)) + ground.max(axis=(0, 1))) / 2
    centred = poses - np.append(middle, 0.0)
    centre = look_at_point(cameras)
    for _ in range(1000):
        heading, dx, dy = random.random(3)
        turned = Rotation.from_euler("z", 2 * np.pi * heading).apply(centred.reshape(-1, 3)).reshape(poses.shape)
        placed = turned + np.array([centre[0] + 1.5 * dx - 0.75, centre[1] + 1.5 * dy - 0.75, 0.0])
        if is_in_view(placed, cameras):
            return placed
    raise DataError("a clip does not fit into the cameras' common view; leave it out of ACTIONS")


def to_slots(poses: np.ndarray) -> np.ndarray:
    """(N, 17, 3) poses in the 32 slots of Human3.6M files: (N, 32, 3)."""
    slots = np.zeros((len(poses), SAMPLE.num_file_joints, 3), dtype=poses.dtype)
    slots[:, SAMPLE.kept_joints] = poses
    for slot, neighbour in DROPPED_SLOTS.items():
        slots[:, slot] = slots[:, neighbour]
    return slots


def build(clips: Path) -> tuple[dict, dict]:
    """Make the sample from a folder of clips.

    Returns:
        positions_3d: subject -> action -> (N, 32, 3) float32, world metres, z up.
        positions_2d: subject -> action -> one (N, 17, 2) float32 a camera, pixels.
    """
    subjects = (TRAIN_SUBJECT, TEST_SUBJECT)
    cameras = load_cameras("h36m.json")
    positions_3d = {subject: {} for subject in subjects}
    positions_2d = {subject: {} for subject in subjects}
    for name, action in sorted(ACTIONS.items(), key=lambda item: item[1]):
        path = clips / f"humanoid3d_{name}.txt"
        if not path.exists():
            raise DataError(f"{path} not found; --clips takes a whole copy of pybullet_data/data/motions")
        clip = resample(read_clip(path))
        poses = to_world(forward_kinematics(clip))
        if name in MIRROR_MADE:
            poses = poses[: len(poses) // 2]
        halves = split_frames(len(poses), clip.loops)
        if halves is None:
            print(f"{action}: {len(poses)} frames are too few to split, left out")
            continue
        # Some clips sink into the floor: those are lifted, both halves alike, until their lowest joint touches it.
        poses[..., 2] += max(0.0, -min(poses[frames, :, 2].min() for frames in halves))
        for subject, frames in zip(subjects, halves, strict=True):
            random = np.random.default_rng([SEED, *f"{subject} {name}".encode()])  # a clip's place depends on it alone
            placed = place(poses[frames], cameras[subject], random).astype(np.float32)
            positions_3d[subject][action] = to_slots(placed)
            positions_2d[subject][action] = [
                world_to_image(placed.astype(np.float64), camera)[0].astype(np.float32) for camera in cameras[subject]
            ]
    return positions_3d, positions_2d


def write_sample(clips: Path, out: Path) -> tuple[dict, dict]:
    """Write data_3d_sample.npz and data_2d_sample_gt.npz into `out`; returns what `build` does."""
    positions_3d, positions_2d = build(clips)
    write_npz(out / "data_3d_sample.npz", positions_3d=positions_3d)
    write_npz(out / "data_2d_sample_gt.npz", positions_2d=positions_2d, metadata=layout_metadata(SAMPLE.skeleton))
    return positions_3d, positions_2d


def run(argv) -> None:
    parser = OneLineParser(description="Make the sample data from the DeepMimic clips in pybullet.")
    parser.add_argument("--clips", metavar="DIR", help="folder of humanoid3d_*.txt (default: the installed pybullet's)")
    parser.add_argument("--out", metavar="DIR", default=str(ROOT / "data"), help="where to write (default: data)")
    options = parser.parse_args(argv)
    positions_3d, _ = write_sample(find_clips(options.clips), Path(options.out))
    for action, train in positions_3d[TRAIN_SUBJECT].items():
        test = positions_3d[TEST_SUBJECT][action]
        print(f"{action:<14} {TRAIN_SUBJECT} {len(train):4d} frames   {TEST_SUBJECT} {len(test):4d} frames")


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
