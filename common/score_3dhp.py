"""Score a run on MPI-INF-3DHP: MPJPE, PCK and AUC of its inference_data_*.mat against the test set's annotations.

python -m common.score_3dhp --predictions checkpoint/mpi_1 --test-set data/mpi_inf_3dhp_test_set
python -m common.score_3dhp --per-joint-error errors.mat

Prints the last sampling step's tables; writes CSVs (every step), a JSON and a PCK plot.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common.clips import kind_of_truth
from common.errors import DataError, OneLineParser, UsageError, exit_code
from common.files import read_json, writable_folder
from common.mpi_inf_3dhp_annotations import ANNOTATIONS, DATASET_NAME, SEQUENCES
from common.mpi_inf_3dhp_errors import (
    prediction_errors,
    read_annotations,
    read_predictions,
    read_saved_errors,
)
from common.mpi_inf_3dhp_report import Result, Step, all_left_out, other_scores, report, write
from common.mpi_inf_3dhp_scores import UNKNOWN, notes, score_sequences
from common.settings import SETTINGS


def prediction_files(predictions: Path) -> dict[str, Path]:
    """Setting -> its inference_data_<setting>.mat, of those that the folder has.

    Raises:
        DataError: there is none.
    """
    if not predictions.is_dir():
        raise DataError(f"{predictions} is no folder; give the one with inference_data_P_Agg.mat, ...")
    paths = {setting: predictions / f"inference_data_{setting}.mat" for setting in SETTINGS}
    there = {setting: path for setting, path in paths.items() if path.exists()}
    if not there:
        raise DataError(f"{predictions} has no inference_data_P_Agg.mat, ...; main_3dhp.py --evaluate writes them")
    return there


def score_predictions(paths: dict[str, Path], test_set: Path, annotation: str) -> tuple[Result, list[str]]:
    """Scores of every inference_data_<setting>.mat, and what was left out.

    Raises:
        DataError: a file is odd, or it does not fit the test set.
    """
    left_out = [f"no inference_data_{setting}.mat: left out" for setting in SETTINGS if setting not in paths]
    annotations = read_annotations(test_set, annotation)
    activities = {name: truth.activity[truth.valid] for name, truth in annotations.items()}
    left_out += [f"no {name}/annot_data.mat in {test_set}: left out" for name in SEQUENCES if name not in annotations]
    result: Result = {}
    for setting, path in tqdm(paths.items(), desc="settings", leave=False):
        predicted = read_predictions(path)
        left_out += [f"no {name} in {path.name}: left out" for name in annotations if name not in predicted]
        result[setting] = {
            step: Step(score_sequences(errors, activities), errors)
            for step, errors in enumerate(prediction_errors(predicted, annotations, path), start=1)
        }
    return result, left_out


def annotation_of_run(run: Path) -> str | None:
    """Which truth the results_*.json of a run's folder are against; None where none says.

    Raises:
        DataError: they differ, or one is damaged.
    """
    named: dict[str, str] = {}
    for path in sorted(run.glob("results_*.json")):
        content: Any = read_json(path, "give --annotation, or make the file anew")
        try:
            said = kind_of_truth(content.get("annotation", "")) if content.get("dataset") == DATASET_NAME else ""
        except AttributeError:
            raise DataError(f"{path} is no results file of ours; give --annotation, or make the file anew") from None
        if said in ANNOTATIONS:
            named.setdefault(said, path.name)
    if len(named) > 1:
        found = " and ".join(f"{said} ({name})" for said, name in named.items())
        raise DataError(f"{run} has results against {found}; say with --annotation which one its poses are of")
    return next(iter(named), None)


def choose_annotation(run: Path, asked: str | None) -> tuple[str, str]:
    """The truth to score a run against: what was asked for, or what the run was measured against; and why that one.

    Raises:
        DataError: nothing was asked for, and the run's results differ or are damaged.
    """
    if asked is None:
        of_run = annotation_of_run(run)
        default = next(iter(ANNOTATIONS))
        if of_run is None:
            return default, f"{default}: no results_*.json in {run} says another (--annotation does)"
        return of_run, f"{of_run}: as the results_*.json in {run} say"
    try:
        of_run = annotation_of_run(run)
    except DataError:  # what was asked for decides
        of_run = None
    differs = f"; the run's own results are against {of_run}: not comparable" if of_run not in (None, asked) else ""
    return asked, f"{asked}: as --annotation says{differs}"


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
    scores = score_sequences(saved.errors, saved.activities)
    return {setting: {step: Step(scores, saved.errors)}}, annotation or saved.annotation or UNKNOWN


def run(argv: Sequence[str] | None) -> None:
    parser = OneLineParser(
        prog="python -m common.score_3dhp",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--predictions", type=Path, metavar="DIR", help="folder with inference_data_<setting>.mat")
    parser.add_argument("--test-set", type=Path, metavar="DIR", help="folder with TS1/annot_data.mat, ...")
    parser.add_argument(
        "--annotation", choices=tuple(ANNOTATIONS),
        help="the truth to score against (default: as the run's results_*.json say)",
    )  # fmt: skip
    parser.add_argument(
        "--per-joint-error", type=Path, metavar="FILE", help="score these errors instead: sequencewise_per_joint_error"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: --predictions, or FILE's name and _scores)",
    )  # fmt: skip
    options = parser.parse_args(argv)
    if options.per_joint_error and (options.predictions or options.test_set):
        raise UsageError("--per-joint-error has errors already; give it without --predictions and --test-set")
    if not options.per_joint_error and not (options.predictions and options.test_set):
        raise UsageError("nothing to score: give --predictions and --test-set, or --per-joint-error (--help says more)")
    if options.per_joint_error:
        files = {}
        out = options.per_joint_error.with_name(f"{options.per_joint_error.stem}_scores")
    else:
        files = prediction_files(options.predictions)
        out = options.predictions
    out = options.out or out
    with writable_folder(out, "--out"):
        if options.per_joint_error:
            result, annotation = score_saved_errors(options.per_joint_error, options.annotation)
            left_out: list[str] = []
        else:
            annotation, why = choose_annotation(options.predictions, options.annotation)
            result, left_out = score_predictions(files, options.test_set, annotation)
            left_out = [f"against {why}", *left_out]
        if others := other_scores(out, result, annotation):
            raise DataError(
                f"{out} has {len(others)} files of other scores, such as {others[0].name}, which would be taken for "
                "these; give another --out, or delete them"
            )
        said = [*notes(result), *dict.fromkeys([*left_out, *all_left_out(result)])]
        print(report(result, annotation, said))
        written = write(out, result, annotation, said)
        print(f"\nwritten to {out}: {len(written) - 2} CSVs, {written[-2].name}, {written[-1].name}")


def main(argv: Sequence[str] | None = None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
