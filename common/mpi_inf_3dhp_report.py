"""What a run scores on MPI-INF-3DHP under every setting and step: tables, CSVs, a JSON and a PCK plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.answers import SequenceAnswers
from common.clips import kind_of_truth
from common.curves import PckCurve, write_pck_curves
from common.dataset_description import DatasetScores
from common.files import write_json, write_text
from common.mpi_inf_3dhp_annotations import ANNOTATIONS, DATASET_NAME
from common.mpi_inf_3dhp_scores import (
    UNKNOWN,
    Score,
    Scores,
    as_data,
    csv_name,
    csv_text,
    pck_curve,
    score_sequences,
    table,
)
from common.settings import LEGEND, SETTINGS

CURVE_THRESHOLDS = tuple(range(0, 201, 2))  # mm


@dataclass(frozen=True)
class Step:
    """One setting at one sampling step: scores, and the errors (valid frames, 17) mm that they are of."""

    scores: Scores
    errors: Mapping[str, np.ndarray]


Result = dict[str, dict[int, Step]]
"""Setting -> sampling step, counted from 1."""


def score_answers(folder: Path, answers: Sequence[SequenceAnswers], notes: Sequence[str]) -> DatasetScores:
    """Score an evaluation's answers against the truth that its dataset has, and write the files.

    Args:
        folder: where to; files of these kinds from an evaluation of before are removed.
        answers: of whole sequences, each with the same settings and truth; at least one frame counts.
        notes: what the evaluation told its reader already, for the JSON.

    Returns:
        The tables, the curves, and the paths of what was written.
    """
    result: Result = {}
    activities = {of_sequence.clip.row: of_sequence.activity for of_sequence in answers}
    labelled = {row: labels for row, labels in activities.items() if labels is not None}
    known = labelled if len(labelled) == len(activities) else None
    for setting in answers[0].poses:
        errors = {of_sequence.clip.row: of_sequence.joint_errors(setting) for of_sequence in answers}
        num_steps = len(next(iter(errors.values())))
        result[setting] = {}
        for step in range(num_steps):
            of_step = {sequence: found[step] for sequence, found in errors.items()}
            result[setting][step + 1] = Step(score_sequences(of_step, known), of_step)
    annotation = kind_of_truth(answers[0].clip.annotation)
    left_out = all_left_out(result)
    written = write(folder, result, annotation, [*notes, *left_out])
    for path in other_scores(folder, result, annotation):
        path.unlink()
    return DatasetScores(report(result, annotation, left_out), written, CURVE_THRESHOLDS, last_pck_curves(result))


def report(result: Result, annotation: str, notes: Sequence[str]) -> str:
    """The tables of the last step, and the notes under them."""
    last = {setting: steps[max(steps)].scores for setting, steps in result.items()}
    parts = [
        f"MPI-INF-3DHP, {_against(annotation)}; mm and %, last step",
        table({setting: scores.by_sequence for setting, scores in last.items()}, "sequence"),
    ]
    activities = {setting: scores.by_activity for setting, scores in last.items() if scores.by_activity}
    parts.append(table(activities, "activity") if activities else "no activities are known: no table of them")
    parts.append("\n".join([LEGEND, *notes]))
    return "\n\n".join(parts)


def _against(annotation: str) -> str:
    if annotation == UNKNOWN:
        return "against an annotation that is not said (--annotation says it)"
    return f"against {annotation}, {ANNOTATIONS[annotation]}"


def all_left_out(result: Result) -> list[str]:
    """What some setting or step could not score, each said once."""
    found = [note for steps in result.values() for step in steps.values() for note in step.scores.left_out]
    return list(dict.fromkeys(found))


def _json_name(annotation: str) -> str:
    return f"mpii_3dhp_scores_{annotation}.json"


def _plot_name(annotation: str) -> str:
    return f"mpii_3dhp_pck_{annotation}.png"


def other_scores(folder: Path, result: Result, annotation: str) -> list[Path]:
    """Files that an earlier scoring left in the folder and that `write` would not replace: of another evaluation."""
    kinds = [csv_name("*wise", "*", "*"), _json_name("*"), _plot_name("*")]
    names = {_json_name(annotation), _plot_name(annotation)}
    names |= {name for setting, steps in result.items() for step in steps for name in _csvs(setting, step, steps[step])}
    return sorted(path for kind in kinds for path in folder.glob(kind) if path.name not in names)


def _csvs(setting: str, step: int, found: Step) -> dict[str, tuple[str, Mapping[str, Score]]]:
    """File name -> what its rows are, and the rows."""
    kinds = {"sequence": found.scores.by_sequence, "activity": found.scores.by_activity}
    return {csv_name(f"{kind}wise", setting, str(step)): (kind, rows) for kind, rows in kinds.items() if rows}


def write(folder: Path, result: Result, annotation: str, notes: Sequence[str]) -> list[Path]:
    """Write the CSVs of every setting and step, the JSON and the plot; returns the paths."""
    written = []
    for setting, steps in result.items():
        for step, found in steps.items():
            for name, (kind, rows) in _csvs(setting, step, found).items():
                written.append(folder / name)
                write_text(written[-1], csv_text(rows, kind, setting, annotation))
    written.append(folder / _json_name(annotation))
    write_json(written[-1], data(result, annotation, notes))
    written.append(folder / _plot_name(annotation))
    title = f"MPI-INF-3DHP, mean over sequences, last step, {annotation}"
    write_pck_curves(written[-1], CURVE_THRESHOLDS, last_pck_curves(result), title)
    return written


def last_pck_curves(result: Result) -> list[PckCurve]:
    """PCK over CURVE_THRESHOLDS of every setting at the last step, the mean over sequences."""
    curves = []
    for setting, steps in result.items():
        found = steps[max(steps)]
        name, oracle = setting, False
        if setting in SETTINGS:
            name, oracle = f"{SETTINGS[setting].label} ({SETTINGS[setting].kind})", SETTINGS[setting].oracle
        auc = found.scores.mean_over_sequences.auc["Total"]
        curves.append(PckCurve(setting, name, pck_curve(found.errors, CURVE_THRESHOLDS), auc, oracle))
    return curves


def _unknown_setting(name: str) -> dict:
    """What others saved errors of, as `Setting.as_data` says what we know."""
    return {"label": name, "what": None, "needs": None, "kind": None, "oracle": None}


def data(result: Result, annotation: str, notes: Sequence[str]) -> dict:
    """The same as plain values."""
    return {
        "dataset": DATASET_NAME,
        "annotation": annotation,
        "units": {"mpjpe": "mm", "pck": "percent", "auc": "percent"},
        "settings": {
            setting: {
                **(SETTINGS[setting].as_data() if setting in SETTINGS else _unknown_setting(setting)),
                "steps": {str(step): as_data(found.scores) for step, found in steps.items()},
            }
            for setting, steps in result.items()
        },
        "notes": list(notes),
    }
