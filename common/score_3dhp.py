"""Score a run on MPI-INF-3DHP: MPJPE, PCK and AUC of its inference_data_*.mat against the test set's annotations.

python -m common.score_3dhp --predictions checkpoint/mpi_1 --test-set data/mpi_inf_3dhp_test_set
python -m common.score_3dhp --per-joint-error errors.mat

Prints the last sampling step's tables; writes CSVs (every step), a JSON and a PCK plot.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.arguments import OneLineParser
from common.curves import PckCurve, write_pck_curves
from common.errors import DataError, UsageError, exit_code
from common.files import write_json, write_text
from common.mpi_inf_3dhp_errors import (
    ANNOTATIONS,
    SEQUENCES,
    prediction_errors,
    read_annotations,
    read_predictions,
    read_saved_errors,
)
from common.mpi_inf_3dhp_scores import (
    Scores,
    as_data,
    csv_name,
    csv_text,
    mark,
    notes,
    pck_curve,
    score_groups,
    score_sequences,
    table,
)
from common.results import SETTINGS

UNKNOWN = "unknown"
_CURVE_THRESHOLDS = tuple(range(0, 201, 2))  # mm


@dataclass(frozen=True)
class Step:
    """One setting at one sampling step: scores, and the errors (valid frames, 17) mm that they are of."""

    scores: Scores
    errors: Mapping[str, np.ndarray]


Result = dict[str, dict[int, Step]]
"""Setting -> sampling step, counted from 1."""


def score_predictions(predictions: Path, test_set: Path, annotation: str) -> tuple[Result, list[str]]:
    """Scores of every inference_data_<setting>.mat of a folder, and what was left out.

    Raises:
        DataError: there is none, a file is odd, or it does not fit the test set.
    """
    if not predictions.is_dir():
        raise DataError(f"{predictions} is no folder; give the one with inference_data_P_Agg.mat, ...")
    paths = {setting: predictions / f"inference_data_{setting}.mat" for setting in SETTINGS}
    there = {setting: path for setting, path in paths.items() if path.exists()}
    if not there:
        raise DataError(f"{predictions} has no inference_data_P_Agg.mat, ...; main_3dhp.py --evaluate writes them")
    left_out = [f"no {path.name}: left out" for setting, path in paths.items() if setting not in there]
    annotations = read_annotations(test_set, annotation)
    activities = {name: truth.activity[truth.valid] for name, truth in annotations.items()}
    left_out += [f"no {name}/annot_data.mat in {test_set}: left out" for name in SEQUENCES if name not in annotations]
    result: Result = {}
    for setting, path in tqdm(there.items(), desc="settings", leave=False):
        predicted = read_predictions(path)
        left_out += [f"no {name} in {path.name}: left out" for name in annotations if name not in predicted]
        result[setting] = {
            step: Step(score_sequences(errors, activities), errors)
            for step, errors in enumerate(prediction_errors(predicted, annotations, path), start=1)
        }
    return result, left_out


def score_saved_errors(path: Path, annotation: str | None) -> tuple[Result, str]:
    """Scores of a file of per-joint errors, and the annotation that they are against: the file's word or `annotation`.

    Raises:
        DataError: the file is odd.
        UsageError: file and user name different annotations.
    """
    saved = read_saved_errors(path)
    if annotation and saved.annotation and annotation != saved.annotation:
        raise UsageError(f"{path} has errors against {saved.annotation}, --annotation says {annotation}; leave it out")
    named = re.search(rf"_ori_({'|'.join(SETTINGS)})_t(\d{{1,4}})$", path.stem)
    setting, step = (named[1], int(named[2])) if named else (re.sub(r"[^\w.-]", "_", path.stem), 1)
    scores = score_groups(saved.by_sequence, saved.by_activity)
    return {setting: {step: Step(scores, saved.by_sequence)}}, annotation or saved.annotation or UNKNOWN


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


def run(argv: Sequence[str] | None) -> None:
    parser = OneLineParser(
        prog="python -m common.score_3dhp",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--predictions", type=Path, metavar="DIR", help="folder with inference_data_<setting>.mat")
    parser.add_argument("--test-set", type=Path, metavar="DIR", help="folder with TS1/annot_data.mat, ...")
    parser.add_argument("--annotation", choices=tuple(ANNOTATIONS), help="the truth to score against (default: annot3)")
    parser.add_argument(
        "--per-joint-error", type=Path, metavar="FILE", help="score these errors instead: sequencewise_per_joint_error"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: where the input is)")
    options = parser.parse_args(argv)
    if options.per_joint_error and (options.predictions or options.test_set):
        raise UsageError("--per-joint-error has errors already; give it without --predictions and --test-set")
    if not options.per_joint_error and not (options.predictions and options.test_set):
        raise UsageError("nothing to score: give --predictions and --test-set, or --per-joint-error (--help says more)")
    if options.per_joint_error:
        result, annotation = score_saved_errors(options.per_joint_error, options.annotation)
        left_out: list[str] = []
    else:
        annotation = options.annotation or next(iter(ANNOTATIONS))
        result, left_out = score_predictions(options.predictions, options.test_set, annotation)
    print(report(result, annotation, left_out))
    out = options.out or options.predictions or options.per_joint_error.parent
    written = write(out, result, annotation, left_out)
    print(f"\nwritten to {out}: {len(written) - 2} CSVs, {written[-2].name}, {written[-1].name}")


def main(argv: Sequence[str] | None = None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
