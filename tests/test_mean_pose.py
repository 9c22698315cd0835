"""The mean training pose as an answer: nothing where all poses are one, the spread elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.mean_pose import main, mean_pose_errors
from common.datasets import load_dataset


def test_its_error_is_known(h36m_files, capsys):
    folder = h36m_files.save().folder
    dataset = load_dataset("h36m", folder, "gt", subjects_train=["S1"], subjects_test=["S9"])
    clip = dataset.test[0]
    still = replace(clip, poses_3d=np.repeat(clip.poses_3d[:1], clip.num_frames, axis=0))
    tables = mean_pose_errors(replace(dataset, train=[still], test=[still]), 9)
    np.testing.assert_allclose(tables["Walking"].errors[1]["P_Agg"], 0, atol=1e-3)
    shifted = replace(still, poses_3d=still.poses_3d + np.float32(0.1))
    tables = mean_pose_errors(replace(dataset, train=[still], test=[shifted]), 9)
    assert tables["Walking"].errors[1]["P_Agg"][0] == pytest.approx(100 * 3**0.5, rel=1e-4)
    np.testing.assert_allclose(tables["Walking"].errors[2]["P_Agg"], 0, atol=1e-2)
    assert main(["--data-dir", str(folder), "-str", "S1", "-ste", "S9", "-f", "9"]) == 0
    assert "Protocol #2, action-wise average" in capsys.readouterr().out
    assert main(["--data-dir", str(folder / "nowhere")]) == 1
