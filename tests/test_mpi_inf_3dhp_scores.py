"""Known answers of the scores, by hand or by an independent count."""

import json

import numpy as np
import pytest

from common.errors import DataError
from common.mpi_inf_3dhp_scores import (
    ACTIVITIES,
    JOINT_GROUPS,
    SCORED_JOINTS,
    as_data,
    csv_text,
    label,
    notes,
    pck_curve,
    score_errors,
    score_sequences,
    table,
)
from common.settings import SETTINGS
from common.skeleton import MPI_INF_3DHP


def test_groups_are_the_left_and_right_joint_of_a_name():
    for group, joints in JOINT_GROUPS.items():
        names = [MPI_INF_3DHP.joint_names[joint] for joint in joints]
        expected = {"Head": ["head_top"], "Neck": ["neck"]}.get(group, [f"R{group}", f"L{group}"])
        assert sorted(names) == sorted(expected)
    assert sorted(joint for joints in JOINT_GROUPS.values() for joint in joints) == list(SCORED_JOINTS)
    assert MPI_INF_3DHP.joint_names[SCORED_JOINTS[-1]] == "LAnkle"


def test_mpjpe_counts_17_joints_pck_and_auc_14():
    errors = np.zeros((2, 17))
    errors[:, 14:] = 170  # pelvis, spine, head: no group
    score = score_errors(errors)
    assert score.frames == 2
    assert score.mpjpe["average"] == pytest.approx(30)
    assert (score.mpjpe["spine"], score.mpjpe["LAnkle"]) == (170, 0)
    assert score.pck["Total"] == 100
    assert score.auc["Total"] == pytest.approx(100 * 30 / 31)


def test_groups_and_the_total_over_joints_not_over_groups():
    errors = np.zeros((4, 17))
    errors[0, 0] = 150  # head_top in one of 4 frames; not less than 150
    errors[:, 3] = 149  # RElbow in all: right at 150 alone
    score = score_errors(errors)
    assert score.pck == pytest.approx({**dict.fromkeys(JOINT_GROUPS, 100), "Head": 75, "Total": 100 * 55 / 56})
    full = 100 * 30 / 31
    assert score.auc["Elbow"] == pytest.approx((full + 100 / 31) / 2)
    assert score.auc["Head"] == pytest.approx(0.75 * full)
    assert score.auc["Total"] == pytest.approx((0.75 * full + 100 / 31 + 12 * full) / 14)


def test_the_mean_over_sequences_is_not_that_over_frames():
    errors = {"TS1": np.full((30, 17), 10.0), "TS2": np.full((10, 17), 200.0)}
    scores = score_sequences(errors)
    assert scores.mean_over_sequences.mpjpe["average"] == pytest.approx(105)
    assert scores.mean_over_frames.mpjpe["average"] == pytest.approx(57.5)
    assert (scores.mean_over_sequences.pck["Total"], scores.mean_over_frames.pck["Total"]) == (50, 75)
    assert scores.mean_over_sequences.frames == scores.mean_over_frames.frames == 40
    assert list(scores.by_sequence) == ["TestSeq1", "TestSeq2", "mean over sequences", "mean over frames"]
    assert scores.activities is None
    assert scores.by_activity == {}
    assert pck_curve(errors, (0, 10, 11, 200, 201)) == [0, 0, 50, 50, 100]


def test_activities_are_pooled_over_sequences_and_those_without_frames_left_out():
    errors = {"TS1": np.full((2, 17), 10.0), "TS4": np.full((3, 17), 40.0)}
    scores = score_sequences(errors, {"TS1": np.array([1, 3]), "TS4": np.array([3, 3, 7])})
    found = {name: (score.frames, score.mpjpe["average"]) for name, score in scores.by_activity.items()}
    assert found == {
        "Standing/Walking": (1, 10),
        "Sitting": (3, 30),
        "Miscellaneous": (1, 40),
        "All": (5, pytest.approx(28)),
    }
    assert scores.left_out == ("no valid frame of Exercising, Reaching/Crouching, On The Floor, Sports: left out",)


def test_a_frame_of_no_activity_counts_elsewhere_and_is_said():
    scores = score_sequences({"TS1": np.full((2, 17), 10.0)}, {"TS1": np.array([1, 0])})
    assert (scores.activities["Standing/Walking"].frames, scores.mean_over_frames.frames) == (1, 2)
    assert any("1 valid frames have no activity" in note for note in scores.left_out)


def test_a_sequence_without_valid_frames_is_left_out_of_the_means():
    errors = {"TS1": np.full((2, 17), 10.0), "TS2": np.zeros((0, 17))}
    scores = score_sequences(errors)
    assert list(scores.sequences) == ["TS1"]
    assert scores.mean_over_sequences.mpjpe["average"] == 10
    assert scores.left_out == ("TS2 has no valid frame: left out",)
    assert pck_curve(errors, (11,)) == [100]
    with pytest.raises(DataError, match="no sequence has a valid frame"):
        score_sequences({"TS2": np.zeros((0, 17))}, {"TS2": np.zeros(0)})


def test_csv_has_a_column_for_each_joint_and_group():
    scores = score_sequences({"TS2": np.arange(34.0).reshape(2, 17)})
    text = csv_text(scores.by_sequence, "sequence", "J_Best", "annot3")
    header, first, *_ = (line.split(",") for line in text.splitlines())
    assert header[:5] == ["sequence", "annotation", "setting", "frames", "mpjpe_head_top_mm"]
    assert header[21:23] == ["mpjpe_average_mm", "pck_Head_percent"]
    assert header[-1] == "auc_Total_percent"
    assert len(header) == len(first) == 4 + 18 + 9 + 9
    assert first[:5] == ["TestSeq2", "annot3", "oracle", "2", "8.500000000"]
    assert "TestSeq2,annot3,unknown,2" in csv_text(scores.by_sequence, "sequence", "mine", "annot3")


def test_tables_mark_oracles_and_what_needs_the_root():
    assert [label(setting) for setting in (*SETTINGS, "mine")] == [
        "P-Agg", "J-Agg-est", "R-Agg", "J-Agg+", "P-Best*", "J-Best*", "mine?"
    ]  # fmt: skip
    scores = score_sequences({"TS1": np.full((1, 17), 12.0)}, {"TS1": np.array([2])})
    other = score_sequences({"TS1": np.full((1, 17), 12.0)}, {"TS1": np.array([5])})
    text = table({"P_Best": scores.by_activity, "J_Agg": other.by_activity}, "activity")
    assert "P-Best*" in text
    assert "J-Agg+" in text
    assert [line.split()[-1] for line in text.splitlines()[2:]] == ["-", "90.32", "90.32"]
    assert "an oracle" in notes(["P_Best"])[0]
    assert notes(["J_Agg"])[0].endswith("the true root position -- which no camera delivers")
    assert all(line.endswith("deployable") for line in notes(["P_Agg", "J_Agg_est", "R_Agg"]))
    assert "may be an oracle" in notes(["mine"])[0]


def test_as_data_is_plain():
    scores = score_sequences({"TS1": np.full((1, 17), 12.0)}, {"TS1": np.array([2])})
    found = json.loads(json.dumps(as_data(scores)))
    assert found["sequences"]["TS1"]["mpjpe"]["average"] == 12
    assert list(found["activities"]) == [ACTIVITIES[2]]
