"""The sampler over clips: every window's hypotheses, their errors, and the table of each action or sequence.

Letters: B windows, K sampling steps, H hypotheses, F frames, J joints, N frames of a clip.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common import processes
from common.aggregation import mean_hypothesis, nearest_reprojection, reproject_solved, reprojection_mean
from common.answers import SequenceAnswers
from common.camera import project_to_2d
from common.clips import MM, Clip, truths_of
from common.devices import upload
from common.metrics import joint_errors
from common.model import DSGDiffu
from common.protocols import mean_errors, setting_poses
from common.sampler import window_noise
from common.text_prompts import NEUTRAL_VERB, Prompts
from common.windows import evaluation_starts, first_occurrences, window_frames

PROTOCOLS = {1: "MPJPE", 2: "P-MPJPE"}
SHOWN_FRAMES = 3
"""Of each clip so many frames' hypotheses are kept to be looked at, and those of the worst frame."""


@dataclass(frozen=True)
class Sampling:
    """How hypotheses are drawn and which errors are wanted."""

    num_frames: int
    """F, of a window."""
    num_hypotheses: int = 1
    sampling_timesteps: int = 1
    batch_windows: int = 1024
    """Windows of one clip at a time; P-Best is chosen once for each such batch."""
    action_prompt: str = "given"
    """"given": the network is told the clip's true action; "neutral": it is not."""
    p2: bool = False
    seed: int = 1
    one_batch: bool = False
    """Only the first batch of every clip, to see that it runs."""

    def told(self, clip: Clip) -> str:
        """The action word that the network reads for the clip; NEUTRAL_VERB is none."""
        return clip.verb if self.action_prompt == "given" else NEUTRAL_VERB


class ErrorTable:
    """Errors of one action or sequence (or any group of clips), averaged over the frames that count.

    `errors[protocol][setting]` is (K,), millimetres, one number a sampling step, and `joint_errors[protocol][setting]`
    (K, J), one a joint too; both are empty where no frame counts.
    """

    def __init__(self):
        self.num_frames = 0
        self._sums: dict[int, dict[str, np.ndarray]] = {}

    def add(self, protocol: int, errors: dict[str, Tensor], num_frames: int) -> None:
        """Count each joint's mean errors (K, J), metres, of `num_frames` frames in."""
        self._add_sums(
            protocol,
            {setting: error.double().cpu().numpy() * (num_frames * MM) for setting, error in errors.items()},
        )
        if protocol == 1:
            self.num_frames += num_frames

    def _add_sums(self, protocol: int, more: dict[str, np.ndarray]) -> None:
        sums = self._sums.setdefault(protocol, {})
        for setting, total in more.items():
            sums[setting] = sums.get(setting, 0) + total

    @classmethod
    def pooled(cls, tables: Sequence["ErrorTable"]) -> "ErrorTable":
        """All of their frames in one table."""
        whole = cls()
        for table in tables:
            whole.num_frames += table.num_frames
            for protocol, sums in table._sums.items():
                whole._add_sums(protocol, sums)
        return whole

    @property
    def joint_errors(self) -> dict[int, dict[str, np.ndarray]]:
        return {
            protocol: {setting: total / self.num_frames for setting, total in sums.items()}
            for protocol, sums in self._sums.items()
        }

    @property
    def errors(self) -> dict[int, dict[str, np.ndarray]]:
        return {
            protocol: {setting: error.mean(axis=-1) for setting, error in settings.items()}
            for protocol, settings in self.joint_errors.items()
        }


def average(tables: Sequence[dict[int, dict[str, np.ndarray]]]) -> dict[int, dict[str, np.ndarray]]:
    """The mean over actions or sequences: each counts the same, however many frames it has; without any, not at all."""
    tables = [errors for errors in tables if errors]
    if not tables:
        return {}
    return {
        protocol: {
            setting: np.mean([errors[protocol][setting] for errors in tables], axis=0)
            for setting in tables[0][protocol]
            if all(setting in errors[protocol] for errors in tables)
        }
        for protocol in tables[0]
    }


@dataclass(frozen=True)
class ClipResult:
    """What was found on one clip."""

    clip: Clip
    errors: ErrorTable
    poses: dict[str, np.ndarray]
    """Of a sequence: setting -> (K, frames, J, 3), metres; with `one_batch`, of its beginning alone. Else empty."""
    shown: dict[int, np.ndarray]
    """Frame -> (H, J, 3), metres, the last step's hypotheses: some frames, spread over what was measured, and the one
    with the greatest error of their mean."""

    @property
    def answers(self) -> SequenceAnswers:
        """The answers to a sequence, or to its beginning."""
        done = next(iter(self.poses.values())).shape[1]
        cut = replace(self.clip, **{name: array[:done] for name, array in self.clip.arrays().items()})
        return SequenceAnswers(cut, self.poses)


@dataclass
class Evaluation:
    """What an evaluation found: a table for each subject and row, an action or a sequence."""

    row: str = "action"
    """What a row is: "action" or "sequence"."""
    annotation: str = ""
    """Which ground truth was measured against, in a dataset that has several."""
    tables: dict[tuple[str, str], ErrorTable] = field(default_factory=dict)
    """(subject, row) -> errors; the subject is "" where all subjects are counted together."""
    clips: list[ClipResult] = field(default_factory=list)
    """In the order they were given."""
    seconds: float = 0.0

    @property
    def answers(self) -> list[SequenceAnswers]:
        """Of every clip that is a sequence: its poses and joint errors, for scorers and exports."""
        return [result.answers for result in self.clips if result.poses]

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(subject for subject, _ in self.tables))

    def rows(self, subject: str) -> dict[str, ErrorTable]:
        return {row: table for (owner, row), table in self.tables.items() if owner == subject}

    def average(self, subject: str) -> dict[int, dict[str, np.ndarray]]:
        """The action- or sequence-wise average of a subject's tables."""
        return average([table.errors for table in self.rows(subject).values()])

    def joint_average(self, subject: str) -> dict[int, dict[str, np.ndarray]]:
        """The same of each joint."""
        return average([table.joint_errors for table in self.rows(subject).values()])

    def frame_average(self, subject: str) -> dict[int, dict[str, np.ndarray]]:
        """The mean over all frames of a subject's tables."""
        return ErrorTable.pooled([*self.rows(subject).values()]).errors

    @property
    def settings(self) -> list[str]:
        """Those that were measured."""
        return list(ErrorTable.pooled([*self.tables.values()]).errors.get(1, {}))

    @property
    def num_frames(self) -> int:
        return sum(table.num_frames for table in self.tables.values())


class TextCache:
    """The prompts of each verb, encoded once in its life."""

    def __init__(self, model: DSGDiffu):
        self.model = model
        self.known: dict[str, Prompts] = {}

    @torch.no_grad()
    def prompts(self, verb: str, num_windows: int) -> Prompts:
        """The same text for each of `num_windows` windows."""
        if verb not in self.known:
            self.known[verb] = self.model.encode([verb])
        return Prompts(*(part.expand(num_windows, *part.shape[1:]) for part in self.known[verb]))


def clip_hypotheses(
    model: DSGDiffu, clip: Clip, sampling: Sampling, texts: TextCache
) -> Iterator[tuple[np.ndarray, np.ndarray, Tensor]]:
    """Sample a clip, a batch of windows at a time.

    Yields:
        frames (B, F), which frames of the clip the windows are; first (B, F) bool, where a frame comes for the first
        time; samples (B, K, H, F, J, 3), camera space, root-relative, metres, on the model's device.
    """
    F, H, K = sampling.num_frames, sampling.num_hypotheses, sampling.sampling_timesteps
    frames = window_frames(clip.num_frames, F, evaluation_starts(clip.num_frames, F))
    first = first_occurrences(frames)
    for begin in range(0, len(frames), sampling.batch_windows):
        batch = frames[begin : begin + sampling.batch_windows]
        shape = (K, H, F, clip.poses_2d.shape[1], 3)
        noise = torch.stack(
            [window_noise(sampling.seed, clip.name, begin + number, shape) for number in range(len(batch))], dim=1
        )
        x_2d = upload(torch.from_numpy(clip.poses_2d[batch]), model.device)
        yield (
            batch,
            first[begin : begin + len(batch)],
            model.sample(x_2d, texts.prompts(sampling.told(clip), len(batch)), upload(noise, model.device)),
        )
        if sampling.one_batch:
            return


def row_kind(clips: Sequence[Clip]) -> str:
    """What the rows of these clips' tables are, "action" or "sequence"."""
    return "sequence" if all(clip.is_sequence for clip in clips) else "action"


def counted_frames(clip: Clip, frames: np.ndarray, first: np.ndarray) -> np.ndarray:
    """(B, F) bool: which of the windows' frames count in the clip's row; see `Clip.is_sequence`."""
    valid = clip.counted[frames]
    return valid & first if clip.is_sequence else valid


def batch_answers(clip: Clip, frames: np.ndarray, samples: Tensor, p2: bool) -> dict[int, dict[str, Tensor]]:
    """protocol -> setting -> (B, K, F, J, 3), metres; without intrinsics there is none that reprojects.

    One sampling step after another: what is computed on the way takes the memory of one step's hypotheses.
    """

    def windows(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array[frames]).to(samples.device)

    target, x_2d, valid = windows(clip.truth), windows(clip.poses_2d), windows(clip.counted)
    intrinsics = None
    if clip.camera is not None and clip.camera.intrinsics is not None:
        assert clip.root is not None  # with the truth it is known
        root = windows(clip.root)[:, None, None, :, None]
        intrinsics = torch.from_numpy(clip.camera.intrinsics).to(samples).expand(len(frames), 9)
        confidences = None if clip.confidences is None else windows(clip.confidences)

    found: dict[int, list[dict[str, Tensor]]] = {protocol: [] for protocol in PROTOCOLS if protocol == 1 or p2}
    for step in samples.split(1, dim=1):
        means, chosen = {"P_Agg": mean_hypothesis(step)}, {}
        if intrinsics is not None:
            chosen["J_Agg"] = nearest_reprojection(project_to_2d(step + root, intrinsics), x_2d)
            reprojected = reproject_solved(step, x_2d, intrinsics, confidences)
            chosen["J_Agg_est"] = nearest_reprojection(reprojected, x_2d)
            means["R_Agg"] = reprojection_mean(step, reprojected, x_2d)
        for protocol, of_steps in found.items():
            of_steps.append(setting_poses(step, target, valid, means, chosen, align=protocol == 2))
    return {
        protocol: {setting: torch.cat([poses[setting] for poses in of_steps], dim=1) for setting in of_steps[0]}
        for protocol, of_steps in found.items()
    }


def evaluate(
    model: DSGDiffu,
    clips: Sequence[Clip],
    sampling: Sampling,
    by_subject: bool = False,
    progress: str | None = None,
    within: Callable[[], AbstractContextManager] = nullcontext,
) -> Evaluation:
    """Measure the model on clips that have 3D truth; with several processes, each measures some of the clips.

    Args:
        model: put into evaluation mode, and back as it was.
        clips: what to measure on.
        sampling: how.
        by_subject: tables of each subject apart.
        progress: the name of a progress bar, of this process's clips; None shows none.
        within: see `processes.shared_out`.

    Returns:
        The same tables in every process, the sequences' answers in the one that leads.
    """
    found, begin = Evaluation(), time.perf_counter()
    found.row = row_kind(clips)
    found.annotation = truths_of(clips)
    was_training = model.training
    model.eval()
    texts = TextCache(model)
    total = processes.mine_of([clip.num_frames for clip in clips])
    hidden = not (progress and processes.leads())
    with tqdm(total=total, unit="frame", desc=progress, disable=hidden or None, leave=False) as bar:
        found.clips = processes.shared_out(
            lambda clip: evaluate_clip(model, clip, sampling, texts, bar), clips, lambda clip: clip.num_frames, within
        )
    found.tables = processes.from_leader(lambda: _tables(found.clips, by_subject))
    model.train(was_training)
    found.seconds = time.perf_counter() - begin
    return found


def evaluate_clip(model: DSGDiffu, clip: Clip, sampling: Sampling, texts: TextCache, bar: tqdm) -> ClipResult:
    """Sample one clip and measure every setting's answer to it."""
    table, pieces, batches = ErrorTable(), [], []
    measured = np.flatnonzero(clip.counted)
    wanted = measured[np.linspace(0, len(measured) - 1, min(SHOWN_FRAMES, len(measured))).round().astype(int)]
    for frames, first, samples in clip_hypotheses(model, clip, sampling, texts):
        answers = batch_answers(clip, frames, samples, sampling.p2)
        target = torch.from_numpy(clip.truth[frames]).to(samples.device)
        counted = counted_frames(clip, frames, first)
        if counted.any():
            for protocol, poses in answers.items():
                table.add(protocol, mean_errors(poses, target, torch.from_numpy(counted)), int(counted.sum()))
            batches.append(_shown(frames, counted, samples[:, -1], target, wanted))
        if clip.is_sequence:
            pieces.append({setting: _in_order(poses, first) for setting, poses in answers[1].items()})
        bar.update(min(frames.size, bar.total - bar.n))
    settings = pieces[0] if pieces else {}
    whole = {setting: np.concatenate([piece[setting] for piece in pieces], axis=1) for setting in settings}
    shown = {frame: pose for spread, _ in batches for frame, pose in spread.items()}
    if batches:
        _, worst = max(batches, key=lambda batch: batch[1][0])
        shown[worst[1]] = worst[2]
    return ClipResult(clip, table, whole, dict(sorted(shown.items())))


def _tables(results: Sequence[ClipResult], by_subject: bool) -> dict[tuple[str, str], ErrorTable]:
    """(subject or "", row) -> the errors of its clips, always added up in the clips' order."""
    groups: dict[tuple[str, str], list[ErrorTable]] = {}
    for result in results:
        groups.setdefault((result.clip.subject if by_subject else "", result.clip.row), []).append(result.errors)
    return {key: ErrorTable.pooled(of_group) for key, of_group in groups.items()}


def _shown(
    frames: np.ndarray, counted: np.ndarray, hypotheses: Tensor, target: Tensor, wanted: np.ndarray
) -> tuple[dict[int, np.ndarray], tuple[float, int, np.ndarray]]:
    """What of a batch (B, H, F, J, 3) may be shown: the wanted frames; and the worst one's error, number and poses."""

    def at(window: int, position: int) -> np.ndarray:
        return hypotheses[window, :, position].cpu().numpy()

    errors = joint_errors(hypotheses.mean(dim=1), target).mean(dim=-1).cpu().numpy()  # (B, F)
    worst = tuple(map(int, np.unravel_index(np.where(counted, errors, -1).argmax(), errors.shape)))
    places = np.argwhere(counted & np.isin(frames, wanted))
    return (
        {int(frames[window, position]): at(window, position) for window, position in places},
        (float(errors[worst]), int(frames[worst]), at(*worst)),
    )


def _in_order(windows: Tensor, first: np.ndarray) -> np.ndarray:
    """Windows (B, K, F, ...) back to a clip, frames that come again left out: (K, frames, ...)."""
    return windows.cpu().numpy().swapaxes(0, 1)[:, first]


def predict_clip(model: DSGDiffu, clip: Clip, sampling: Sampling) -> np.ndarray:
    """The last step's hypotheses of a whole clip, (H, N, J, 3), camera space, root-relative, metres."""
    was_training = model.training
    model.eval()
    batches = clip_hypotheses(model, clip, replace(sampling, one_batch=False), TextCache(model))
    hypotheses = np.concatenate([_in_order(samples[:, -1], first) for _, first, samples in batches], axis=1)
    model.train(was_training)
    return hypotheses
