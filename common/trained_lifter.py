"""A checkpoint as something that lifts."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from common.arguments import Options
from common.checkpoints import Checkpoint, read_checkpoint, tree
from common.datasets import DATASETS
from common.errors import DataError, UsageError
from common.evaluation import TextCache
from common.model import DSGDiffu
from common.runs import build_model, options_with
from common.skeleton import Skeleton
from common.text_prompts import NEUTRAL_VERB


@dataclass(frozen=True)
class TrainedLifter:
    """A `common.lifting.Lifter`: the network of a checkpoint, with PyTorch."""

    model: DSGDiffu
    texts: TextCache
    num_frames: int
    fps: float
    verb: str
    """The action word that the network is told; NEUTRAL_VERB is none."""
    dataset: str
    """What it was trained on."""
    checkpoint: Checkpoint

    @property
    def skeleton(self) -> Skeleton:
        return self.model.skeleton

    @property
    def epoch(self) -> int:
        return self.checkpoint.epoch

    @property
    def num_timesteps(self) -> int:
        return self.model.diffusion.num_timesteps

    def sample(self, x_2d: Tensor, noise: Tensor) -> Tensor:
        """See `common.lifting.Lifter`."""
        device = self.model.device
        prompts = self.texts.prompts(self.verb, len(x_2d))
        return self.model.sample(x_2d.to(device), prompts, noise.to(device)).cpu()


def load_lifter(path: str | os.PathLike, verb: str = NEUTRAL_VERB, **options: Any) -> TrainedLifter:
    """The network of a checkpoint, ready to lift.

    Args:
        path: a checkpoint that main*.py wrote, or the public release.
        verb: the action that the person does, as an action of the training data is called, such as "Walking"; "" says
            nothing.
        options: of `common.arguments.Options`, where they matter: device, gpu, precision, compile, text_encoder,
            clip_weights, solver, eta, num_frames (of a window; fewer than in training), compat_release, and dataset,
            which only files of the release do not know themselves.

    Raises:
        UsageError, DataError: one line.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} not found; name a checkpoint that main*.py wrote")
    asked = Options(**options, evaluate=str(path), given=frozenset(options))
    description = DATASETS[asked.dataset] if "dataset" in options else None
    skeleton = None if description is None else description.skeleton
    checkpoint = read_checkpoint(path, skeleton, asked.compat_release)
    its_run = checkpoint.options
    if description is None:
        description = DATASETS[its_run["dataset"]]
        if tree(checkpoint.skeleton) != tree(description.skeleton):
            raise DataError(
                f"{path} says that it was trained on {description.name}, and has another skeleton than its "
                f"'{description.skeleton.name}'; it may be damaged"
            )
    if verb and not any(part.text is None for part in checkpoint.prompt_parts):
        raise UsageError(f"--verb {verb}: the network of {path} reads no action; leave it out")
    asked = replace(asked, dataset=description.name, keypoints=its_run.get("keypoints", asked.keypoints))
    asked = options_with(checkpoint, asked, path)
    model = build_model(asked, description, checkpoint, path).eval()
    fps = description.fps / its_run.get("downsample", 1)
    return TrainedLifter(model, TextCache(model), asked.num_frames, fps, verb, description.name, checkpoint)
