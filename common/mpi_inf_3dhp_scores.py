"""MPI-INF-3DHP's scores: MPJPE, PCK and AUC by sequence and by activity, as tables, CSV and plain values.

Mehta et al. 2017: PCK and AUC count the 14 joints from head_top to LAnkle, in groups; MPJPE counts all 17.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common.errors import DataError
from common.metrics import auc, pck
from common.settings import SETTINGS
from common.skeleton import MPI_INF_3DHP

JOINT_GROUPS = {
    "Head": (0,),
    "Neck": (1,),
    "Shoulder": (2, 5),
    "Elbow": (3, 6),
    "Wrist": (4, 7),
    "Hip": (8, 11),
    "Knee": (9, 12),
    "Ankle": (10, 13),
}
SCORED_JOINTS = tuple(range(14))
"""head_top to LAnkle: those of the groups, and of the total."""

ACTIVITIES = {
    1: "Standing/Walking",
    2: "Exercising",
    3: "Sitting",
    4: "Reaching/Crouching",
    5: "On The Floor",
    6: "Sports",
    7: "Miscellaneous",
}

MEAN_OVER_SEQUENCES = "mean over sequences"
MEAN_OVER_FRAMES = "mean over frames"


@dataclass(frozen=True)
class Score:
    """What some frames score: mpjpe (mm) by joint and 'average'; pck and auc (percent) by joint group and 'Total'."""

    frames: int
    mpjpe: dict[str, float]
    pck: dict[str, float]
    auc: dict[str, float]


@dataclass(frozen=True)
class Scores:
    """One answer's scores. A sequence or activity without a valid frame is left out, and listed so."""

    sequences: dict[str, Score]
    mean_over_sequences: Score
    mean_over_frames: Score
    activities: dict[str, Score] | None
    left_out: tuple[str, ...]

    @property
    def by_sequence(self) -> dict[str, Score]:
        """The rows of the table: sequences by the test set's names, then both means."""
        means = {MEAN_OVER_SEQUENCES: self.mean_over_sequences, MEAN_OVER_FRAMES: self.mean_over_frames}
        return {f"TestSeq{sequence.removeprefix('TS')}": score for sequence, score in self.sequences.items()} | means

    @property
    def by_activity(self) -> dict[str, Score]:
        """The rows of the table: activities, then all frames, whatever their activity. Empty if none is known."""
        return {} if self.activities is None else {**self.activities, "All": self.mean_over_frames}


def score_errors(errors: np.ndarray) -> Score:
    """The score of some frames, all of which count: (N, 17) mm, N > 0."""
    of_joints = torch.from_numpy(np.ascontiguousarray(errors, dtype=np.float64))
    groups = {**JOINT_GROUPS, "Total": SCORED_JOINTS}
    by_joint = zip(MPI_INF_3DHP.joint_names, of_joints.mean(dim=0).tolist(), strict=True)
    return Score(
        frames=len(of_joints),
        mpjpe={**dict(by_joint), "average": of_joints.mean().item()},
        pck={group: pck(of_joints[:, joints]).item() for group, joints in groups.items()},
        auc={group: auc(of_joints[:, joints]).item() for group, joints in groups.items()},
    )


def score_sequences(errors: Mapping[str, np.ndarray], activities: Mapping[str, np.ndarray] | None = None) -> Scores:
    """Scores by sequence and activity, and their means.

    Args:
        errors: sequence -> (valid frames, 17) mm.
        activities: sequence -> (valid frames,) of 1..7, the keys of ACTIVITIES; None if not known.

    Raises:
        DataError: no sequence has a valid frame.
    """
    sequences = {sequence: score_errors(found) for sequence, found in errors.items() if len(found)}
    left_out = [f"{sequence} has no valid frame: left out" for sequence in errors if sequence not in sequences]
    if not sequences:
        raise DataError("no sequence has a valid frame: nothing can be scored; check valid_frame in annot_data.mat")
    pooled = np.concatenate(list(errors.values()))
    by_activity = None
    if activities is not None:
        labels = np.concatenate([activities[sequence] for sequence in errors])
        by_activity = {
            name: score_errors(pooled[labels == number]) for number, name in ACTIVITIES.items() if number in labels
        }
        absent = [name for name in ACTIVITIES.values() if name not in by_activity]
        left_out += [f"no valid frame of {', '.join(absent)}: left out"] if absent else []
        unknown = int(np.isin(labels, list(ACTIVITIES), invert=True).sum())
        left_out += (
            [f"{unknown} valid frames have no activity of 1 to 7: they count everywhere else"] if unknown else []
        )
    return Scores(sequences, _mean(list(sequences.values())), score_errors(pooled), by_activity, tuple(left_out))


def _mean(scores: Sequence[Score]) -> Score:
    def over(values: Sequence[dict[str, float]]) -> dict[str, float]:
        return {key: sum(value[key] for value in values) / len(values) for key in values[0]}

    return Score(
        sum(score.frames for score in scores),
        over([score.mpjpe for score in scores]),
        over([score.pck for score in scores]),
        over([score.auc for score in scores]),
    )


def pck_curve(errors: Mapping[str, np.ndarray], thresholds: Iterable[float]) -> list[float]:
    """PCK (percent, all scored joints, mean over sequences) at each threshold (mm)."""
    sequences = [torch.from_numpy(found[:, SCORED_JOINTS]) for found in errors.values() if len(found)]
    return [sum(pck(found, threshold).item() for found in sequences) / len(sequences) for threshold in thresholds]


# --- for programs ---

UNKNOWN = "unknown"
"""An annotation or a setting that those who saved errors did not name."""


def csv_name(kind: str, setting: str, step: str) -> str:
    """The field's file name; kind is 'sequencewise' or 'activitywise', step counts from 1."""
    return f"mpii_3dhp_evaluation_{kind}_ori_{setting}_t{step}.csv"


def csv_text(rows: Mapping[str, Score], kind: str, setting: str, annotation: str) -> str:
    """A table in CSV, the same to the letter as 3dhp_test/test_util's, but for the numbers' last digits.

    Args:
        rows: by_sequence or by_activity of Scores.
        kind: the first column's name, 'sequence' or 'activity'.
        setting: whose scores they are; every row says of what kind it is.
        annotation: against which the errors are.
    """
    of_setting = SETTINGS[setting].kind if setting in SETTINGS else UNKNOWN
    header = [kind, "annotation", "setting", "frames"]
    header += [f"mpjpe_{joint}_mm" for joint in (*MPI_INF_3DHP.joint_names, "average")]
    header += [f"{metric}_{group}_percent" for metric in ("pck", "auc") for group in (*JOINT_GROUPS, "Total")]
    lines = [header]
    for name, score in rows.items():
        values = [*score.mpjpe.values(), *score.pck.values(), *score.auc.values()]
        lines.append([name, annotation, of_setting, str(score.frames), *(f"{value:.9f}" for value in values)])
    return "".join(",".join(line) + "\n" for line in lines)


def as_data(scores: Scores) -> dict:
    """Plain values for a JSON file."""
    return {
        "sequences": {sequence: vars(score) for sequence, score in scores.sequences.items()},
        "mean_over_sequences": vars(scores.mean_over_sequences),
        "mean_over_frames": vars(scores.mean_over_frames),
        "activities": scores.activities and {name: vars(score) for name, score in scores.activities.items()},
        "left_out": list(scores.left_out),
    }


# --- for people ---


def label(setting: str) -> str:
    """A setting's name with its sign (LEGEND in common/settings.py); "?" for errors that others saved."""
    return SETTINGS[setting].marked if setting in SETTINGS else f"{setting}?"


def table(columns: Mapping[str, Mapping[str, Score]], title: str) -> str:
    """Rows by sequence or activity; under each setting MPJPE (mm), PCK and AUC (percent).

    Args:
        columns: setting -> by_sequence or by_activity of its Scores.
        title: what the rows are.
    """
    rows = list(dict.fromkeys(row for scores in columns.values() for row in scores))
    width = max(len(row) for row in [*rows, title])
    lines = [
        "  ".join([" " * width, *(f"{label(setting):^24}" for setting in columns)]).rstrip(),
        "  ".join([f"{title:<{width}}", *(f"{'MPJPE':>8}{'PCK':>8}{'AUC':>8}" for _ in columns)]),
    ]
    for row in rows:
        cells = []
        for scores in columns.values():
            score = scores.get(row)
            values = [score.mpjpe["average"], score.pck["Total"], score.auc["Total"]] if score else []
            cells.append("".join(f"{value:8.2f}" for value in values) or f"{'-':>8}" * 3)
        lines.append("  ".join([f"{row:<{width}}", *cells]))
    return "\n".join(lines)


def notes(settings: Iterable[str]) -> list[str]:
    """What a reader must know of the settings before comparing their numbers."""
    return [
        SETTINGS[name].note
        if name in SETTINGS
        else f"{label(name)}: how its hypotheses were put together is not said; it may be an oracle"
        for name in settings
    ]
