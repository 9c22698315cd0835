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

from tqdm import tqdm

from common.errors import DataError, OneLineParser, UsageError, exit_code
from common.mpi_inf_3dhp_annotations import ANNOTATIONS, SEQUENCES
from common.mpi_inf_3dhp_errors import prediction_errors, read_annotations, read_predictions, read_saved_errors
from common.mpi_inf_3dhp_report import UNKNOWN, Result, Step, report, write
from common.mpi_inf_3dhp_scores import score_groups, score_sequences
from common.settings import SETTINGS


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
