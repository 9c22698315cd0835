"""What tests share: small data sets in the field's files, and a network that is small enough to train in seconds."""

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # the other worker has a core of its own to use; before PyTorch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from common import run_report, runs
from common.camera import image_coordinates, load_cameras, project_to_2d, world_to_camera
from common.clip_text import TextTowerConfig, random_text_tower
from common.datasets import DATASETS
from common.mpi_inf_3dhp_dataset import CALIBRATIONS
from common.npz_files import write_npz
from common.pose_files import layout_metadata
from common.skeleton import H36M, HUMANEVA15

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch has so many threads within this; it has them still at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
        assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)


SMALL = [
    "--text-encoder",
    "random",
    "-f",
    "9",
    "-s",
    "9",
    "-b",
    "648",
    "-cs",
    "16",
    "-dep",
    "2",
    "-e",
    "1",
    "-lr",
    "3e-3",
    "--nolog",
]
"""Options of a network that trains in seconds."""


@pytest.fixture(scope="session", autouse=True)
def light_runs():
    """What a run in this process has that takes seconds and is no matter of most tests, at a small size.

    The random text tower, which its width makes the most of a checkpoint too, is made once; reports show no clips.
    """
    tower = random_text_tower(config=TextTowerConfig(width=32, layers=2, heads=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "random_text_tower", lambda: tower)
        patch.setattr(run_report, "NUM_PICTURES", 0)
        yield


def motion(num_frames: int, num_joints: int, seed: int) -> np.ndarray:
    """A made-up person that sways: (N, J, 3), world metres, near the middle of the studio."""
    random = np.random.default_rng(seed)
    pose = random.normal(scale=0.3, size=(num_joints, 3)) + np.array([0, 0, 1])
    sway = np.sin(np.arange(num_frames)[:, None, None] / 10 + random.normal(size=(num_joints, 3)))
    return (pose + 0.05 * sway).astype(np.float32)


@pytest.fixture
def h36m_files(tmp_path):
    """Two subjects, S1 and S9, of Human3.6M's files; `save()` writes them, after a test spoiled what it wants to."""
    return Files(tmp_path / "data", "h36m")


@pytest.fixture
def humaneva_files(tmp_path):
    return Files(tmp_path / "data", "humaneva15")


class Files:
    """A data set in memory, and `save()`."""

    def __init__(self, folder: Path, dataset: str):
        self.folder, self.dataset = folder, dataset
        if dataset == "h36m":
            self.skeleton, subjects, cameras, num_joints = H36M, ("S1", "S9"), load_cameras("h36m.json"), 32
            kept = list(DATASETS["h36m"].kept_joints)
            actions = ("Walking", "Walking 1", "Sitting")
        else:
            self.skeleton, subjects, cameras = HUMANEVA15, ("Train/S1", "Validate/S1"), load_cameras("humaneva.json")
            num_joints, kept, actions = 15, list(range(15)), ("Walking 1 chunk0", "Jog 1 chunk0")
        self.positions_3d, self.positions_2d = {}, {}
        for subject in subjects:
            self.positions_3d[subject], self.positions_2d[subject] = {}, {}
            for number, action in enumerate(actions):
                world = motion(20 + number, num_joints, number)
                views = []
                for camera in cameras[subject.split("/")[-1]]:
                    poses = world_to_camera(world[:, kept].astype(np.float64), camera)
                    views.append(project(poses, camera).astype(np.float32))
                self.positions_3d[subject][action] = world
                self.positions_2d[subject][action] = views
        self.metadata = layout_metadata(self.skeleton)

    @property
    def path_3d(self) -> Path:
        return self.folder / f"data_3d_{self.dataset}.npz"

    @property
    def path_2d(self) -> Path:
        return self.folder / f"data_2d_{self.dataset}_gt.npz"

    def save(self) -> "Files":
        write_npz(self.path_3d, positions_3d=self.positions_3d)
        write_npz(self.path_2d, positions_2d=self.positions_2d, metadata=self.metadata)
        return self


class Files3DHP:
    """MPI-INF-3DHP's two files in memory, and `save()`: S1 and S2, and four of the test sequences."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.train, self.test, self.members = {}, {}, {}
        for seed, name in enumerate(("S1 Seq1", "S1 Seq2", "S2 Seq1")):
            poses = self.poses(20 + seed, seed)
            pixels = (1024 + 1500 * poses[..., :2] / poses[..., 2:]).astype(np.float32)
            views = {camera: {"data_2d": pixels, "data_3d": poses} for camera in ("0", "2")}
            self.train[name] = [views, [50]] if seed else [views]
        for name, num_frames in (("TS1", 20), ("TS2", 5), ("TS5", 21), ("TS6", 9)):
            poses = self.poses(num_frames, 10 + num_frames)
            pixels = project(poses.astype(np.float64) / 1000, CALIBRATIONS[name].camera("0")).astype(np.float32)
            self.test[name] = {"data_2d": pixels, "data_3d": poses, "valid": np.ones(num_frames)}

    @staticmethod
    def poses(num_frames: int, seed: int) -> np.ndarray:
        """(N, 17, 3) float32, mm, four metres before the camera."""
        return (1000 * motion(num_frames, 17, seed) + np.float32([0, 0, 4000])).astype(np.float32)

    @property
    def path_train(self) -> Path:
        return self.folder / "data_train_3dhp_ori.npz"

    @property
    def path_test(self) -> Path:
        return self.folder / "data_test_3dhp_ori.npz"

    def save(self) -> "Files3DHP":
        write_npz(self.path_train, data=self.train, **self.members)
        write_npz(self.path_test, data=self.test, **self.members)
        return self


@pytest.fixture
def mpi_files(tmp_path):
    return Files3DHP(tmp_path / "data")


def project(poses: np.ndarray, camera) -> np.ndarray:
    """Camera space to pixels; any map will do where the camera's intrinsics are not known."""
    if camera.intrinsics is None:
        return camera.width / 2 + 100 * poses[..., :2]
    screen = project_to_2d(torch.from_numpy(poses)[None], torch.from_numpy(camera.intrinsics).double()[None])[0]
    return image_coordinates(screen.numpy(), camera.width, camera.height)


@pytest.fixture
def outcome(capsys):
    """Run a script's main; gives its exit code, what it printed and what it complained of."""

    def outcome(main, argv):
        capsys.readouterr()
        code = main(argv)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return outcome


def awaken(network: torch.nn.Module) -> torch.nn.Module:
    """Give the layers that start at zero random weights, so that a network that was not trained answers something."""
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
            assert parameter.any(), name
    return network


def seeded_state(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """A release checkpoint's weights by the rule that the golden files have: a name is its own seed."""
    state = {}
    for name, shape in shapes.items():
        random = np.random.RandomState(zlib.crc32(name.encode()))
        weight = 0.02 * random.standard_normal(shape).astype(np.float32)
        if len(shape) == 1 and name.endswith(".weight"):
            weight += 1
        state[name] = torch.from_numpy(weight)
    return state
