"""The sampler over clips: every window's hypotheses, their errors, and the table of each action.

Letters: B windows, K sampling steps, H hypotheses, F frames, J joints, N frames of a clip.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common.aggregation import nearest_reprojection
from common.camera import project_to_2d
from common.clips import Clip
from common.model import DSGDiffu
from common.protocols import setting_errors
from common.sampler import window_noise
from common.text_prompts import NEUTRAL_VERB, Prompts
from common.windows import evaluation_starts, stitch, window_frames

MM = 1000
PROTOCOLS = {1: "MPJPE", 2: "P-MPJPE"}


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


class ErrorTable:
    """Errors of one action (or any group of clips), averaged over its windows' frames.

    `errors[protocol][setting]` is (K,), millimetres, one number a sampling step.
    """

    def __init__(self):
        self.num_frames = 0
        self._sums: dict[int, dict[str, np.ndarray]] = {}

    def add(self, protocol: int, errors: dict[str, Tensor], num_frames: int) -> None:
        """Count the mean errors (K,), metres, of `num_frames` frames in."""
        sums = self._sums.setdefault(protocol, {})
        for setting, error in errors.items():
            sums[setting] = sums.get(setting, 0) + error.double().cpu().numpy() * (num_frames * MM)
        if protocol == 1:
            self.num_frames += num_frames

    @property
    def errors(self) -> dict[int, dict[str, np.ndarray]]:
        return {
            protocol: {setting: total / self.num_frames for setting, total in sums.items()}
            for protocol, sums in self._sums.items()
        }


def average(tables: Sequence[dict[int, dict[str, np.ndarray]]]) -> dict[int, dict[str, np.ndarray]]:
    """The mean over actions: each counts the same, however many frames it has."""
    return {
        protocol: {
            setting: np.mean([errors[protocol][setting] for errors in tables], axis=0)
            for setting in tables[0][protocol]
            if all(setting in errors[protocol] for errors in tables)
        }
        for protocol in tables[0]
    }


@dataclass
class Evaluation:
    """What an evaluation found: a table for each subject and action."""

    tables: dict[tuple[str, str], ErrorTable] = field(default_factory=dict)
    """(subject, action class) -> errors; the subject is "" where all subjects are counted together."""
    seconds: float = 0.0

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(subject for subject, _ in self.tables))

    def actions(self, subject: str) -> dict[str, ErrorTable]:
        return {action: table for (owner, action), table in self.tables.items() if owner == subject}

    def average(self, subject: str) -> dict[int, dict[str, np.ndarray]]:
        """The action-wise average of a subject's tables."""
        return average([table.errors for table in self.actions(subject).values()])

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
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Sample a clip, a batch of windows at a time.

    Yields:
        frames (B, F), which frames of the clip the windows are; samples (B, K, H, F, J, 3), camera space,
        root-relative, metres, on the model's device.
    """
    F, H, K = sampling.num_frames, sampling.num_hypotheses, sampling.sampling_timesteps
    verb = clip.verb if sampling.action_prompt == "given" else NEUTRAL_VERB
    frames = window_frames(clip.num_frames, F, evaluation_starts(clip.num_frames, F))
    for first in range(0, len(frames), sampling.batch_windows):
        batch = frames[first : first + sampling.batch_windows]
        shape = (K, H, F, clip.poses_2d.shape[1], 3)
        noise = torch.stack(
            [window_noise(sampling.seed, clip.name, first + number, shape) for number in range(len(batch))], dim=1
        )
        x_2d = torch.from_numpy(clip.poses_2d[batch]).to(model.device)
        yield batch, model.sample(x_2d, texts.prompts(verb, len(batch)), noise.to(model.device))
        if sampling.one_batch:
            return


def batch_errors(clip: Clip, frames: np.ndarray, samples: Tensor, p2: bool) -> dict[int, dict[str, Tensor]]:
    """protocol -> setting -> (K,), metres; without intrinsics there is no J_Agg.

    One sampling step after another: what is computed on the way takes the memory of one step's hypotheses.
    """

    def windows(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array[frames]).to(samples)

    target, x_2d = windows(clip.poses_3d), windows(clip.poses_2d)
    reprojects = clip.camera is not None and clip.camera.intrinsics is not None
    if reprojects:
        root = windows(clip.root)[:, None, None, :, None]
        intrinsics = torch.from_numpy(clip.camera.intrinsics).to(samples).expand(len(frames), 9)

    found = {protocol: [] for protocol in PROTOCOLS if protocol == 1 or p2}
    for step in samples.split(1, dim=1):
        nearest = nearest_reprojection(project_to_2d(step + root, intrinsics), x_2d) if reprojects else None
        for protocol, of_steps in found.items():
            of_steps.append(setting_errors(step, target, nearest, align=protocol == 2))
    return {
        protocol: {setting: torch.cat([errors[setting] for errors in of_steps]) for setting in of_steps[0]}
        for protocol, of_steps in found.items()
    }


def evaluate(
    model: DSGDiffu, clips: Sequence[Clip], sampling: Sampling, by_subject: bool = False, progress: str | None = None
) -> Evaluation:
    """Measure the model on clips that have 3D truth.

    Args:
        model: put into evaluation mode, and back as it was.
        clips: what to measure on.
        sampling: how.
        by_subject: tables of each subject apart.
        progress: the name of a progress bar; None shows none.
    """
    found, begin = Evaluation(), time.perf_counter()
    was_training = model.training
    model.eval()
    texts = TextCache(model)
    total = sum(clip.num_frames for clip in clips)
    with tqdm(total=total, unit="frame", desc=progress, disable=None if progress else True, leave=False) as bar:
        for clip in clips:
            table = found.tables.setdefault((clip.subject if by_subject else "", clip.action_class), ErrorTable())
            for frames, samples in clip_hypotheses(model, clip, sampling, texts):
                for protocol, errors in batch_errors(clip, frames, samples, sampling.p2).items():
                    table.add(protocol, errors, frames.size)
                bar.update(min(frames.size, total - bar.n))
    model.train(was_training)
    found.seconds = time.perf_counter() - begin
    return found


def predict_clip(model: DSGDiffu, clip: Clip, sampling: Sampling) -> np.ndarray:
    """The last step's hypotheses of a whole clip, (H, N, J, 3), camera space, root-relative, metres."""
    was_training = model.training
    model.eval()
    starts = evaluation_starts(clip.num_frames, sampling.num_frames)
    batches = clip_hypotheses(model, clip, replace(sampling, one_batch=False), TextCache(model))
    windows = np.concatenate([samples[:, -1].cpu().numpy() for _, samples in batches])  # (windows, H, F, J, 3)
    model.train(was_training)
    return stitch(windows.swapaxes(1, 2), starts, clip.num_frames).swapaxes(0, 1)
