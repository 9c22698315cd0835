"""What an evaluation found, for people (a table, the field's log lines) and for programs (JSON).

Wherever errors are shown it says which settings are oracles, whether the network was told the action, and on which
subjects the checkpoint was chosen: numbers that differ in these are not comparable.
"""

import hashlib
import re
from pathlib import Path

import numpy as np

from common.arguments import Options
from common.checkpoints import BEST, UNITS, Checkpoint, tree
from common.clips import kind_of_truth
from common.dataset_description import DatasetScores
from common.datasets import DATASETS
from common.evaluation import PROTOCOLS, Evaluation, average
from common.files import write_json, write_text
from common.metrics import PCK_THRESHOLD
from common.run_report import run_report
from common.settings import LEGEND, SETTINGS
from common.solvers import DDIM

REPORT = "report.html"
"""What a run's folder calls the report of its latest evaluation."""
AVERAGES = {"action": "average", "sequence": "mean over sequences"}
"""What the tables call the mean over their rows."""

PROMPT_NOTES = {
    "given": "the network was told each clip's true action, a label (--action-prompt given)",
    "neutral": "the network was not told the action (--action-prompt neutral)",
}


def selection_of(checkpoint: Checkpoint) -> str:
    """On whom the checkpoint was chosen; one that can be trained on (last.bin, epoch_N.bin) was chosen on nobody."""
    return checkpoint.selection if checkpoint.training is None else "nothing: the epoch that was asked for"


def seen_in_training(options: Options, its_run: dict) -> str:
    """A line if subjects that are tested were trained on, in a run with the options `its_run`; "" if none was."""
    if its_run.get("dataset") != options.dataset:
        return ""
    description = DATASETS[options.dataset]
    trained = its_run["subjects_train"] or description.subjects_train
    held_out = its_run["val_subjects"]
    tested = options.subjects_test or description.subjects_test
    both = [subject for subject in tested if subject in trained and subject not in held_out]
    return f"trained and tested on the same subjects, {', '.join(both)}: motion seen before" if both else ""


def notes(options: Options, checkpoint: Checkpoint, evaluation: Evaluation) -> list[str]:
    """What a reader must know before comparing the numbers."""
    shown = evaluation.settings
    lines = [SETTINGS[name].note for name in shown]
    left_out = [setting.label for name, setting in SETTINGS.items() if name not in shown]
    if shown and left_out:
        lines.append(
            f"Left out: {', '.join(left_out)}, for this dataset's cameras have no intrinsics to reproject with"
        )
    if evaluation.row == "sequence":
        lines.append("Text: the clips have no action names; the network was told none")
        lines.append("Frames: each of a sequence's valid frames counts once")
        without = [row for (_, row), found in evaluation.tables.items() if not found.num_frames]
        if without:
            lines.append(f"No valid frame, so no error and no part in the means: {', '.join(without)}")
    else:
        lines.append(f"Text: {PROMPT_NOTES[options.action_prompt]}")
        lines.append("Frames: those of all windows, so that overlap and padding count too, as published")
    if evaluation.annotation:
        lines.append(f"3D truth: {evaluation.annotation}")
        if not checkpoint.annotation:
            lines.append("Trained on: the checkpoint does not say which 3D truth")
        elif kind_of_truth(checkpoint.annotation) != kind_of_truth(evaluation.annotation):
            lines.append(
                f"Trained on {checkpoint.annotation}, measured against {evaluation.annotation}: two truths, not "
                "comparable with numbers of one"
            )
    if options.text_encoder == "random" and checkpoint.tower is None:
        lines.append("Text tower: random weights (--text-encoder random), not CLIP")
    if options.solver != DDIM or options.eta != 1:
        how = f"{options.solver}, eta {options.eta:g}" if options.solver == DDIM else options.solver
        lines.append(f"Sampled with {how}; published numbers are DDIM's with eta 1")
    if checkpoint.ema:
        lines.append(f"Weights: a moving average over the steps of the training (--ema {checkpoint.ema:g})")
    seen = seen_in_training(options, checkpoint.options)
    if seen:
        lines.append(f"Test subjects: {seen}")
    source = checkpoint.options.get("keypoints", options.keypoints)
    if source != options.keypoints:
        lines.append(f"2D input: {options.keypoints}, and trained on another, {source} (--force)")
    if tree(checkpoint.skeleton) != tree(DATASETS[options.dataset].skeleton):
        lines.append(f"Skeleton: trained on another, {checkpoint.skeleton.name} (--force)")
    if checkpoint.units != UNITS:
        lines.append(f"Units: trained on others, {checkpoint.units} (--force)")
    dataset = checkpoint.options.get("dataset", options.dataset)
    if dataset != options.dataset:
        lines.append(f"Trained on another dataset: {dataset}")
    lines.append(f"Checkpoint chosen on: {selection_of(checkpoint)}")
    if options.debug:
        lines.append("--debug: the first batch of every clip alone, not a result")
    return lines


def table(evaluation: Evaluation, subject: str) -> str:
    """One row an action or sequence, one column a setting with its sign (LEGEND), at the last sampling step."""
    rows = {row: found.errors for row, found in evaluation.rows(subject).items()}
    average = evaluation.average(subject)
    rows |= {AVERAGES[evaluation.row]: average}
    if evaluation.row == "sequence":
        rows["mean over frames"] = evaluation.frame_average(subject)
    columns = [(protocol, name) for protocol in average for name in average[protocol]]
    head = [SETTINGS[name].marked for _, name in columns]
    if len(average) > 1:
        head = [f"{label} P{protocol}" for label, (protocol, _) in zip(head, columns, strict=True)]
    width, cell = (max(map(len, texts)) for texts in ([*rows, "mm, last step"], [*head, "1234567.89"]))
    lines = ["  ".join([f"{'mm, last step':<{width}}", *(f"{label:>{cell}}" for label in head)])]
    for row, errors in rows.items():
        numbers = [
            f"{errors[protocol][name][-1]:{cell}.2f}" if errors else f"{'-':>{cell}}" for protocol, name in columns
        ]
        lines.append("  ".join([f"{row:<{width}}", *numbers]))
    return "\n".join(lines)


def report(evaluation: Evaluation, options: Options, checkpoint: Checkpoint) -> str:
    """The tables of all subjects, and the notes under them."""
    parts = []
    for subject in evaluation.subjects:
        parts.append((f"{subject}\n" if subject else "") + table(evaluation, subject))
    if len(evaluation.subjects) > 1:
        mean = {name: error[-1] for name, error in _over_subjects(evaluation).get(1, {}).items()}
        parts.append("mean over subjects: " + ", ".join(f"{SETTINGS[k].marked} {v:.2f} mm" for k, v in mean.items()))
    parts.append(LEGEND + "\n" + "\n".join(notes(options, checkpoint, evaluation)))
    return "\n\n".join(parts)


def _over_subjects(evaluation: Evaluation) -> dict[int, dict[str, np.ndarray]]:
    return average([evaluation.average(subject) for subject in evaluation.subjects])


def log_lines(evaluation: Evaluation, options: Options, checkpoint: Checkpoint) -> str:
    """The field's log: per action or sequence and step every setting of both protocols, and the averages over them."""
    lines = [f"# {note}" for note in notes(options, checkpoint, evaluation)]
    for subject in evaluation.subjects:
        if subject:
            lines += ["", f"==== {subject} ===="]
        for row, found in evaluation.rows(subject).items():
            lines += ["", f"----{row}----"]
            if not found.num_frames:
                lines.append("no valid frame")
            for protocol, errors in found.errors.items():
                for step in range(options.sampling_timesteps):
                    lines += [
                        f"step {step} : Protocol #{protocol} Error ({PROTOCOLS[protocol]}) {name}: {error[step]:f} mm"
                        for name, error in errors.items()
                    ]
        lines.append("")
        averages = {evaluation.row: evaluation.average(subject)}
        if evaluation.row == "sequence":
            averages["frame"] = evaluation.frame_average(subject)
        for over, average_errors in averages.items():
            for protocol, errors in average_errors.items():
                for step in range(options.sampling_timesteps):
                    lines += [
                        f"step {step} Protocol #{protocol}   ({PROTOCOLS[protocol]}) {over}-wise average {name}: "
                        f"{error[step]:f} mm"
                        for name, error in errors.items()
                    ]
    return "\n".join(lines) + "\n"


def as_data(
    evaluation: Evaluation,
    options: Options,
    checkpoint: Checkpoint,
    path: Path,
    scores: DatasetScores | None = None,
) -> dict:
    """The same as plain values, in mm.

    A list has one number a sampling step; in "joint_errors" one a joint, of the last step; of a clip there is one
    number, of the last step.
    """

    def plain(errors: dict[int, dict[str, np.ndarray]]) -> dict:
        return {
            f"protocol_{protocol}": {name: error.tolist() for name, error in settings.items()}
            for protocol, settings in errors.items()
        }

    def of_last_step(errors: dict[int, dict[str, np.ndarray]]) -> dict[int, dict[str, np.ndarray]]:
        return {
            protocol: {name: error[-1] for name, error in settings.items()} for protocol, settings in errors.items()
        }

    def joints(errors: dict[int, dict[str, np.ndarray]]) -> dict:
        return {"joint_errors": plain(of_last_step(errors))}

    subjects = {
        subject or "all": {
            f"{evaluation.row}s": {
                row: {"frames": found.num_frames, **plain(found.errors), **joints(found.joint_errors)}
                for row, found in evaluation.rows(subject).items()
            },
            "average": plain(evaluation.average(subject)) | joints(evaluation.joint_average(subject)),
            **({"frame_average": plain(evaluation.frame_average(subject))} if evaluation.row == "sequence" else {}),
        }
        for subject in evaluation.subjects
    }
    return {
        "dataset": options.dataset,
        "keypoints": options.keypoints,
        "unit": "mm",
        "num_proposals": options.num_proposals,
        "sampling_timesteps": options.sampling_timesteps,
        "action_prompt": options.action_prompt if evaluation.row == "action" else "none",
        **({"annotation": evaluation.annotation} if evaluation.annotation else {}),
        "text_encoder": options.text_encoder,
        "compat_release": options.compat_release,
        "checkpoint": str(path),
        "epoch": checkpoint.epoch,
        "checkpoint_chosen_on": selection_of(checkpoint),
        "settings": {name: setting.as_data() for name, setting in SETTINGS.items()},
        "frames": evaluation.num_frames,
        "seconds": round(evaluation.seconds, 3),
        "joints": list(DATASETS[options.dataset].skeleton.joint_names),
        "subjects": subjects,
        "average": plain(_over_subjects(evaluation)),
        "clips": [
            {
                "name": found.clip.name,
                "subject": found.clip.subject,
                "action": found.clip.action,
                "camera": found.clip.camera.name if found.clip.camera else None,
                "frames": found.errors.num_frames,
                **plain(of_last_step(found.errors.errors)),
            }
            for found in evaluation.clips
        ],
        **({"pck": _pck(scores)} if scores else {}),
        "notes": notes(options, checkpoint, evaluation),
        "options": options.as_data(),
    }


def _pck(scores: DatasetScores) -> dict:
    """PCK and AUC (percent) of the last step, the mean over sequences, and the curves that they are of."""
    at = scores.thresholds.index(PCK_THRESHOLD)
    return {
        "thresholds_mm": list(scores.thresholds),
        "settings": {
            curve.setting: {"pck": curve.pck[at], "auc": curve.auc, "curve": curve.pck} for curve in scores.pck_curves
        },
    }


def file_stem(options: Options, checkpoint: Checkpoint, path: Path) -> str:
    """H and K, and what is not as in the training run; checkpoint/README.md lists it.

    Args:
        options: of the evaluation.
        checkpoint: what is evaluated. A file of the public release tells no options of its run: the usual ones, then.
        path: where it lies.
    """
    asked, description = options.as_data(), DATASETS[options.dataset]
    its_own = checkpoint.options or {
        name: asked[name] for name in ("dataset", "data_dir", "keypoints", "subjects_test")
    }
    usual = Options().as_data() | its_own | {"num_frames": checkpoint.network.num_frames}
    if usual["dataset"] != options.dataset:
        usual["subjects_test"] = None
    for given in (asked, usual):
        given["subjects_test"] = given["subjects_test"] or list(description.subjects_test)
    other = {name for name in usual if name in asked and asked[name] != usual[name]}
    is_here = path.resolve().parent == options.folder.resolve()
    data = Path(options.data_dir).resolve().name
    narrower = {
        path.stem if is_here else f"{path.resolve().parent.name}-{path.stem}": not is_here or path.name != BEST,
        "neutral": options.action_prompt == "neutral",
        options.solver: options.solver != DDIM,
        f"eta{options.eta:g}": options.eta != 1,
        options.dataset: "dataset" in other and description.has_truth,
        data: "dataset" not in other and data != Path(usual["data_dir"]).resolve().name,
        options.keypoints: "keypoints" in other,
        "-".join(asked["subjects_test"] or ["all"]): "subjects_test" in other,
        "-".join(options.actions): "actions" in other,
        f"f{options.num_frames}": "num_frames" in other,
        f"every{options.downsample}": "downsample" in other,
        f"seed{options.seed}": "seed" in other,
        f"scale{options.scale:g}": "scale" in other,
        options.precision: options.precision != "32",
        "debug": options.debug,
    }
    stem = [
        f"H{options.num_proposals}_K{options.sampling_timesteps}",
        *(name for name, is_asked in narrower.items() if is_asked),
    ]
    name = re.sub(r"[^\w.-]+", "-", "_".join(stem))
    return name if len(name) <= 150 else f"{name[:140]}_{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def write_results(
    evaluation: Evaluation,
    options: Options,
    checkpoint: Checkpoint,
    path: Path,
    scores: DatasetScores | None = None,
    made_with: dict[str, object] | None = None,
) -> list[Path]:
    """Write the log, the JSON and the report into the run's folder; returns their paths.

    Args:
        evaluation, options, checkpoint, path, scores: see `as_data`.
        made_with: what the evaluation was made of (`manifest.made_with`), for the JSON.
    """
    stem = file_stem(options, checkpoint, path)
    folder = options.folder
    written = [folder / f"{options.dataset}_test_log_{stem}.txt", folder / f"results_{stem}.json", folder / REPORT]
    data = as_data(evaluation, options, checkpoint, path, scores)
    write_text(written[0], log_lines(evaluation, options, checkpoint))
    write_json(written[1], data | {"made_with": made_with})
    write_text(written[2], run_report(data, evaluation.clips, DATASETS[options.dataset].skeleton, written[1].name))
    return written
