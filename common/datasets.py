"""The datasets, one description each, and the clips that a run asks for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.clips import Clip
from common.custom_dataset import read_custom
from common.dataset_description import Clips, DatasetDescription
from common.errors import UsageError
from common.h36m_dataset import read_h36m_format
from common.mat_export import write_mat_files
from common.mpi_inf_3dhp_annotations import DATASET_NAME
from common.mpi_inf_3dhp_dataset import read_mpi_inf_3dhp
from common.mpi_inf_3dhp_report import score_answers
from common.skeleton import H36M, HUMANEVA15, MPI_INF_3DHP
from common.text_prompts import ACTION_PROMPT, NO_ACTION_PROMPT

_H36M_KEPT = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)

_H36M = DatasetDescription(
    name="h36m",
    skeleton=H36M,
    prompt_parts=ACTION_PROMPT,
    read=read_h36m_format,
    fps=50,
    subjects_train=("S1", "S5", "S6", "S7", "S8"),
    subjects_test=("S9", "S11"),
    camera_file="h36m.json",
    num_file_joints=32,
    kept_joints=_H36M_KEPT,
)
_HUMANEVA15 = DatasetDescription(
    name="humaneva15",
    skeleton=HUMANEVA15,
    prompt_parts=ACTION_PROMPT,
    read=read_h36m_format,
    fps=60,
    subjects_train=("Train/S1", "Train/S2", "Train/S3"),
    subjects_test=("Validate/S1", "Validate/S2", "Validate/S3"),
    camera_file="humaneva.json",
    num_file_joints=15,
    kept_joints=tuple(range(15)),
)
_CUSTOM = DatasetDescription(name="custom", skeleton=H36M, prompt_parts=ACTION_PROMPT, read=read_custom, fps=50)
_SAMPLE = replace(_H36M, name="sample", subjects_train=("S1",), subjects_test=("S9",))
_MPI_INF_3DHP = DatasetDescription(
    name=DATASET_NAME,
    skeleton=MPI_INF_3DHP,
    prompt_parts=NO_ACTION_PROMPT,
    read=read_mpi_inf_3dhp,
    fps=25,
    num_file_joints=17,
    kept_joints=tuple(range(17)),
    export=write_mat_files,
    score=score_answers,
)

DATASETS = {description.name: description for description in (_H36M, _HUMANEVA15, _CUSTOM, _SAMPLE, _MPI_INF_3DHP)}


@dataclass(frozen=True)
class Dataset:
    """The clips of a run."""

    description: DatasetDescription
    train: list[Clip]
    validation: list[Clip]
    """What the best epoch is chosen on: held-out training subjects, or the test clips."""
    test: list[Clip]


def load_dataset(
    name: str,
    data_dir: str | Path,
    keypoints: str,
    *,
    subjects_train: Sequence[str] | None = None,
    subjects_test: Sequence[str] | None = None,
    val_subjects: Sequence[str] = (),
    actions: Sequence[str] = ("*",),
    downsample: int = 1,
    subset: float = 1.0,
    training: bool = True,
) -> Dataset:
    """Read a dataset's files and pick the clips.

    Args:
        name: one of DATASETS.
        data_dir: the folder of the files.
        keypoints: the name of the 2D input.
        subjects_train, subjects_test: None takes the description's.
        val_subjects: some of the training subjects, kept out of training.
        actions: prefixes of action names; "*" is all.
        downsample: keep every Nth frame.
        subset: train on this part of every clip, a stretch from its middle.
        training: False reads the test clips alone.

    Raises:
        UsageError: a subject or action that is not there.
        DataError: files absent or odd.
    """
    description = DATASETS[name]
    if training and not description.has_truth:
        raise UsageError(f"-d {name} has no 3D poses to train on; give --evaluate with a trained checkpoint")
    wanted_train = tuple(subjects_train or description.subjects_train) if training else None
    wanted_test = tuple(subjects_test or description.subjects_test)
    for_training, for_test = description.read(description, Path(data_dir), keypoints, wanted_train, wanted_test)
    test = _pick(for_test, actions, downsample, "-ste")
    if not training:
        return Dataset(description, [], [], test)
    for subject in val_subjects:
        if subject not in for_training:
            raise UsageError(f"--val-subjects: '{subject}' is not a training subject ({', '.join(for_training)})")
    held_out = {subject: for_training.pop(subject) for subject in dict.fromkeys(val_subjects)}
    if not for_training:
        raise UsageError("--val-subjects holds out every training subject; leave at least one to train on")
    train = _pick(for_training, actions, downsample, "-str")
    validation = _pick(held_out, actions, downsample, "--val-subjects") if held_out else test
    return Dataset(description, [_stretch(clip, subset) for clip in train], validation, test)


def _pick(clips: Clips, actions: Sequence[str], downsample: int, flag: str) -> list[Clip]:
    """The clips whose action begins with one of the prefixes, and those whose subject has no names for actions."""
    known = sorted({action for views in clips.values() for action in views if action})
    for prefix in actions:
        if prefix != "*" and known and not any(action.startswith(prefix) for action in known):
            raise UsageError(f"-a: no action begins with '{prefix}' among {flag}'s: {', '.join(known)}")
    return [
        replace(
            view,
            fps=view.fps / downsample,
            **{name: array[::downsample] for name, array in view.arrays().items()},
        )
        for of_subject in clips.values()
        for action, views in of_subject.items()
        if not action or any(prefix == "*" or action.startswith(prefix) for prefix in actions)
        for view in views
    ]


def _stretch(clip: Clip, part: float) -> Clip:
    """The middle `part` of a clip, at least one frame."""
    count = max(1, round(clip.num_frames * part))
    first = (clip.num_frames - count) // 2
    return replace(clip, **{name: array[first : first + count] for name, array in clip.arrays().items()})
