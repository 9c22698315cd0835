"""What an evaluation found, for people (a table, the field's log lines) and for programs (JSON).

Wherever errors are shown it says which settings are oracles, whether the network was told the action, and on which
subjects the checkpoint was chosen: numbers that differ in these are not comparable.
"""

import re
from pathlib import Path

import numpy as np

from common.arguments import Options
from common.evaluation import PROTOCOLS, Evaluation, average
from common.files import write_json, write_text
from common.settings import SETTINGS

AVERAGES = {"action": "average", "sequence": "mean over sequences"}
"""What the tables call the mean over their rows."""

PROMPT_NOTES = {
    "given": "the network was told each clip's true action, a label (--action-prompt given)",
    "neutral": "the network was not told the action (--action-prompt neutral)",
}


def notes(options: Options, selection: str, evaluation: Evaluation) -> list[str]:
    """What a reader must know before comparing the numbers."""
    shown = evaluation.settings
    lines = [
        f"{SETTINGS[name].label}: {SETTINGS[name].what}; needs {SETTINGS[name].needs}"
        + (" -- an oracle, not a result" if SETTINGS[name].oracle else "")
        for name in shown
    ]
    if shown and "J_Agg" not in shown:
        lines.append("J-Agg is left out: this dataset's cameras have no known intrinsics to reproject with")
    if evaluation.row == "sequence":
        lines.append("Text: the clips have no action names; the network was told none")
        lines.append("Frames: each of a sequence's valid frames counts once")
        without = [row for (_, row), found in evaluation.tables.items() if not found.num_frames]
        if without:
            lines.append(f"No valid frame, so no error and no part in the means: {', '.join(without)}")
    else:
        lines.append(f"Text: {PROMPT_NOTES[options.action_prompt]}")
    if evaluation.annotation:
        lines.append(f"3D truth: {evaluation.annotation}")
    if options.text_encoder == "random":
        lines.append("Text tower: random weights (--text-encoder random), not CLIP")
    lines.append(f"Checkpoint chosen on: {selection}")
    if options.debug:
        lines.append("--debug: the first batch of every clip alone, not a result")
    return lines


def table(evaluation: Evaluation, subject: str) -> str:
    """One row an action or sequence, one column a setting, at the last sampling step; oracles carry a star."""
    rows = {row: found.errors for row, found in evaluation.rows(subject).items()}
    average = evaluation.average(subject)
    rows |= {AVERAGES[evaluation.row]: average}
    if evaluation.row == "sequence":
        rows["mean over frames"] = evaluation.frame_average(subject)
    columns = [(protocol, name) for protocol in average for name in average[protocol]]
    head = [f"{SETTINGS[name].label}{'*' if SETTINGS[name].oracle else ''}" for _, name in columns]
    if len(average) > 1:
        head = [f"{label} P{protocol}" for label, (protocol, _) in zip(head, columns, strict=True)]
    width = max(len(row) for row in [*rows, "mm, last step"])
    lines = ["  ".join([f"{'mm, last step':<{width}}", *(f"{label:>10}" for label in head)])]
    for row, errors in rows.items():
        numbers = [f"{errors[protocol][name][-1]:10.2f}" if errors else f"{'-':>10}" for protocol, name in columns]
        lines.append("  ".join([f"{row:<{width}}", *numbers]))
    return "\n".join(lines)


def report(evaluation: Evaluation, options: Options, selection: str) -> str:
    """The tables of all subjects, and the notes under them."""
    parts = []
    for subject in evaluation.subjects:
        parts.append((f"{subject}\n" if subject else "") + table(evaluation, subject))
    if len(evaluation.subjects) > 1:
        mean = {name: error[-1] for name, error in _over_subjects(evaluation).get(1, {}).items()}
        parts.append("mean over subjects: " + ", ".join(f"{SETTINGS[k].label} {v:.2f} mm" for k, v in mean.items()))
    parts.append("* an oracle: it looks at the truth\n" + "\n".join(notes(options, selection, evaluation)))
    return "\n\n".join(parts)


def _over_subjects(evaluation: Evaluation) -> dict[int, dict[str, np.ndarray]]:
    return average([evaluation.average(subject) for subject in evaluation.subjects])


def log_lines(evaluation: Evaluation, options: Options, selection: str) -> str:
    """The field's log: per action or sequence and step every setting of both protocols, and the averages over them."""
    lines = [f"# {note}" for note in notes(options, selection, evaluation)]
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


def as_data(evaluation: Evaluation, options: Options, checkpoint: str, epoch: int, selection: str) -> dict:
    """The same as plain values; every list has one number a sampling step, in mm."""

    def plain(errors: dict[int, dict[str, np.ndarray]]) -> dict:
        return {
            f"protocol_{protocol}": {name: [float(value) for value in error] for name, error in settings.items()}
            for protocol, settings in errors.items()
        }

    subjects = {
        subject or "all": {
            f"{evaluation.row}s": {
                row: {"frames": found.num_frames, **plain(found.errors)}
                for row, found in evaluation.rows(subject).items()
            },
            "average": plain(evaluation.average(subject)),
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
        "checkpoint": checkpoint,
        "epoch": epoch,
        "checkpoint_chosen_on": selection,
        "settings": {
            name: {"label": setting.label, "what": setting.what, "needs": setting.needs, "oracle": setting.oracle}
            for name, setting in SETTINGS.items()
        },
        "frames": evaluation.num_frames,
        "seconds": round(evaluation.seconds, 3),
        "subjects": subjects,
        "average": plain(_over_subjects(evaluation)),
        "notes": notes(options, selection, evaluation),
        "options": options.as_data(),
    }


def file_stem(options: Options, network_frames: int) -> str:
    """H and K, and what else was asked for; checkpoint/README.md lists it.

    Args:
        options: of the evaluation.
        network_frames: the longest window that the network takes, and the usual one.
    """
    narrower = {
        "neutral": options.action_prompt == "neutral",
        f"f{options.num_frames}": options.num_frames != network_frames,
        "-".join(options.actions): options.actions != ("*",),
        f"every{options.downsample}": options.downsample != 1,
        "debug": options.debug,
    }
    stem = [
        f"H{options.num_proposals}_K{options.sampling_timesteps}",
        *(name for name, asked in narrower.items() if asked),
    ]
    return re.sub(r"[^\w.-]", "-", "_".join(stem))[:150]


def write_results(
    evaluation: Evaluation, options: Options, network_frames: int, checkpoint: str, epoch: int, selection: str
) -> list[Path]:
    """Write the log and the JSON into the run's folder; returns their paths."""
    stem = file_stem(options, network_frames)
    folder = options.folder
    log, data = folder / f"{options.dataset}_test_log_{stem}.txt", folder / f"results_{stem}.json"
    write_text(log, log_lines(evaluation, options, selection))
    write_json(data, as_data(evaluation, options, checkpoint, epoch, selection))
    return [log, data]
