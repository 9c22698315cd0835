"""The npz reader: the field's files come back whole, and a file that brings code is refused without running it."""

import os
from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from common.npz_files import read_npz, write_npz

DATA = Path(__file__).parents[1] / "data"


def test_reads_what_numpy_wrote(tmp_path):
    path = tmp_path / "a.npz"
    poses = {"S1": {"Walking": [np.arange(12.0, dtype=np.float32).reshape(2, 3, 2), np.zeros((1, 3, 2))]}}
    np.savez_compressed(path, positions_2d=np.array(poses, dtype=object), metadata={"num_joints": 3}, plain=np.eye(2))
    found = read_npz(path)
    assert found["metadata"] == {"num_joints": 3}
    np.testing.assert_array_equal(found["plain"], np.eye(2))
    np.testing.assert_array_equal(found["positions_2d"]["S1"]["Walking"][0], poses["S1"]["Walking"][0])


def test_round_trip(tmp_path):
    write_npz(tmp_path / "b.npz", positions_3d={"S1": {"Walking": np.ones((4, 17, 3), np.float32)}})
    assert read_npz(tmp_path / "b.npz", ["positions_3d"])["positions_3d"]["S1"]["Walking"].shape == (4, 17, 3)


def test_reads_the_sample():
    positions = read_npz(DATA / "data_3d_sample.npz", ["positions_3d"])["positions_3d"]
    expected = np.load(DATA / "data_3d_sample.npz", allow_pickle=True)["positions_3d"].item()
    assert positions.keys() == expected.keys()
    np.testing.assert_array_equal(positions["S9"]["Walking"], expected["S9"]["Walking"])


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_runs_no_code_of_the_file(tmp_path):
    marker = tmp_path / "marker"
    np.savez(tmp_path / "evil.npz", positions_3d=np.array({"S1": Malicious(marker)}, dtype=object))
    with pytest.raises(DataError, match="mkdir"):
        read_npz(tmp_path / "evil.npz")
    assert not marker.exists()


@pytest.mark.parametrize("content", [None, b"", b"not a zip", "truncated", "key"])
def test_odd_files_are_one_clear_line(tmp_path, content):
    path = tmp_path / "c.npz"
    if content in ("truncated", "key"):
        np.savez(path, something=np.eye(30))
        if content == "truncated":
            path.write_bytes(path.read_bytes()[:-200])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_npz(path, ["positions_3d"])
    assert "\n" not in str(caught.value)
    assert "c.npz" in str(caught.value)
