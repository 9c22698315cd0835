"""What a run scores on MPI-INF-3DHP under every setting and step: tables, CSVs, a JSON and a PCK plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.answers import SequenceAnswers
from common.curves import PckCurve, write_pck_curves
from common.files import write_json, write_text
from common.mpi_inf_3dhp_errors import ANNOTATIONS
from common.mpi_inf_3dhp_scores import (
    Scores,
    as_data,
    csv_name,
    csv_text,
    mark,
    notes,
    pck_curve,
    score_sequences,
    table,
)
from common.settings import SETTINGS

UNKNOWN = "unknown"
_CURVE_THRESHOLDS = tuple(range(0, 201, 2))  # mm


@dataclass(frozen=True)
class Step:
    """One setting at one sampling step: scores, and the errors (valid frames, 17) mm that they are of."""

    scores: Scores
    errors: Mapping[str, np.ndarray]


Result = dict[str, dict[int, Step]]
"""Setting -> sampling step, counted from 1."""


def score_answers(folder: Path, answers: Sequence[SequenceAnswers]) -> tuple[str, list[Path]]:
    """Score an evaluation's answers against the truth that its dataset has, and write the files.

    Args:
        folder: where to.
        answers: of whole sequences, each with the same settings and truth; at least one frame counts.

    Returns:
        The tables, and the paths of what was written.
    """
    result: Result = {}
    activities = {of_sequence.clip.row: of_sequence.activity for of_sequence in answers}
    known = None if any(labels is None for labels in activities.values()) else activities
    for setting in answers[0].poses:
        errors = {of_sequence.clip.row: of_sequence.joint_errors(setting) for of_sequence in answers}
        num_steps = len(next(iter(errors.values())))
        result[setting] = {}
        for step in range(num_steps):
            of_step = {sequence: found[step] for sequence, found in errors.items()}
            result[setting][step + 1] = Step(score_sequences(of_step, known), of_step)
    annotation, _, doubt = answers[0].clip.annotation.partition(", ")
    left_out = [f"the truth is {annotation}, {doubt}"] if doubt else []
    return report(result, annotation, left_out), write(folder, result, annotation, left_out)


def report(result: Result, annotation: str, left_out: Sequence[str]) -> str:
    """The tables of the last step, and the notes under them."""
    last = {setting: steps[max(steps)].scores for setting, steps in result.items()}
    parts = [
        f"MPI-INF-3DHP, {_against(annotation)}; mm and %, last step",
        table({setting: scores.by_sequence for setting, scores in last.items()}, "sequence"),
    ]
    activities = {setting: scores.by_activity for setting, scores in last.items() if scores.by_activity}
    parts.append(table(activities, "activity") if activities else "no activities are known: no table of them")
    parts.append("\n".join([*notes(result), *_all_left_out(result, left_out)]))
    return "\n\n".join(parts)


def _against(annotation: str) -> str:
    if annotation == UNKNOWN:
        return "against an annotation that is not said (--annotation says it)"
    return f"against {annotation}, {ANNOTATIONS[annotation]}"


def _all_left_out(result: Result, left_out: Sequence[str]) -> list[str]:
    found = [note for steps in result.values() for step in steps.values() for note in step.scores.left_out]
    return list(dict.fromkeys([*left_out, *found]))


def write(folder: Path, result: Result, annotation: str, left_out: Sequence[str]) -> list[Path]:
    """Write the CSVs of every setting and step, the JSON and the plot; returns the paths."""
    written = []
    for setting, steps in result.items():
        for step, found in steps.items():
            for kind, rows in (("sequence", found.scores.by_sequence), ("activity", found.scores.by_activity)):
                if rows:
                    written.append(folder / csv_name(f"{kind}wise", setting, step))
                    write_text(written[-1], csv_text(rows, kind, annotation))
    written.append(folder / f"mpii_3dhp_scores_{annotation}.json")
    write_json(written[-1], data(result, annotation, left_out))
    written.append(folder / f"mpii_3dhp_pck_{annotation}.png")
    curves = []
    for setting, steps in result.items():
        found = steps[max(steps)]
        name, oracle = setting, False
        if setting in SETTINGS:
            name, oracle = SETTINGS[setting].label, SETTINGS[setting].oracle
            name += " (oracle)" if oracle else "" if not mark(setting) else " (needs the true root)"
        auc = found.scores.mean_over_sequences.auc["Total"]
        curves.append(PckCurve(name, pck_curve(found.errors, _CURVE_THRESHOLDS), auc, oracle))
    title = f"MPI-INF-3DHP, mean over sequences, last step, {annotation}"
    write_pck_curves(written[-1], _CURVE_THRESHOLDS, curves, title)
    return written


def data(result: Result, annotation: str, left_out: Sequence[str]) -> dict:
    """The same as plain values."""
    return {
        "dataset": "3dhp",
        "annotation": annotation,
        "units": {"mpjpe": "mm", "pck": "percent", "auc": "percent"},
        "settings": {
            setting: {
                "label": SETTINGS[setting].label if setting in SETTINGS else setting,
                "oracle": SETTINGS[setting].oracle if setting in SETTINGS else None,
                "needs": SETTINGS[setting].needs if setting in SETTINGS else None,
                "steps": {str(step): as_data(found.scores) for step, found in steps.items()},
            }
            for setting, steps in result.items()
        },
        "notes": [*notes(result), *_all_left_out(result, left_out)],
    }
