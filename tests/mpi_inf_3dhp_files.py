"""A made-up MPI-INF-3DHP test set and a run's predictions on it, in the official formats."""

from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

SETTINGS = ("P_Agg", "P_Best", "J_Best", "J_Agg", "J_Agg_est", "R_Agg")


def write_v73(path: Path, **variables: np.ndarray) -> None:
    """MATLAB's v7.3: 512 bytes of header, then HDF5 with the dimensions reversed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            file.create_dataset(name, data=value.T).attrs["MATLAB_class"] = np.bytes_("double")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")


class TestSet:
    """Annotations (`truth`) and predictions in memory; `save()` writes them, after a test spoiled what it wants to.

    Attributes:
        truth: sequence -> the variables of its annot_data.mat, MATLAB's dimensions.
        predictions: setting -> sequence -> (3, 17, frames, K) mm relative to the root.
    """

    __test__ = False

    def __init__(self, folder: Path, frames: dict[str, int], num_steps: int = 1, settings=SETTINGS, seed: int = 0):
        self.test_set, self.run, self.out = folder / "test_set", folder / "run", folder / "out"
        random = np.random.default_rng(seed)
        self.truth = {}
        for sequence, n in frames.items():
            poses = random.normal(scale=300, size=(3, 17, 1, n)) + np.array([0, 0, 3000])[:, None, None, None]
            self.truth[sequence] = {
                "annot3": poses,
                "univ_annot3": 1.05 * poses,
                "valid_frame": (random.random((1, n)) < 0.8).astype(float),
                "activity_annotation": random.integers(1, 8, (1, n)).astype(float),
            }
        self.predictions = {setting: self.noisy(num_steps, random, setting) for setting in settings}

    def noisy(self, num_steps: int, random: np.random.Generator, setting: str) -> dict[str, np.ndarray]:
        found = {}
        for sequence, truth in self.truth.items():
            poses = truth["annot3"].transpose(0, 1, 3, 2)
            poses = np.repeat(poses - poses[:, 14:15], num_steps, axis=3)
            spread = 20 + 20 * SETTINGS.index(setting) + 60 * random.gamma(2, 0.5, size=(1, *poses.shape[1:]))
            poses = poses + spread * random.normal(size=poses.shape)
            poses[:, 14] = 0
            found[sequence] = poses
        return found

    def save(self) -> "TestSet":
        for sequence, variables in self.truth.items():
            write_v73(self.test_set / sequence / "annot_data.mat", **variables)
        self.run.mkdir(exist_ok=True)
        for setting, sequences in self.predictions.items():
            savemat(self.run / f"inference_data_{setting}.mat", sequences)
        return self
