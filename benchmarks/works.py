"""The pieces of work that `python -m benchmarks` times: random inputs of fixed sizes, the published width and depth.

Each factory makes its work ready and returns what is to be timed.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.products import products_of
from common.aggregation import mean_hypothesis, nearest_reprojection
from common.arguments import H36M_GT
from common.checkpoints import Checkpoint, write_checkpoint
from common.clip_text import TextTowerConfig, random_text_tower
from common.clips import Clip
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.errors import UsageError
from common.metrics import mpjpe, p_mpjpe
from common.model import DSGDiffu
from common.protocols import mean_errors, setting_poses
from common.skeleton import H36M
from common.text_prompts import ACTION_PROMPT
from common.training_state import TrainingState
from common.windows import TrainingWindows

Work = Callable[[], object]
ROOT = Path(__file__).parents[1]
ACTIONS = ("Walking", "Sitting", "Eating", "Phoning")
J = H36M.num_joints


class Size:
    """How large the works are: the published network, or a small one to see that they run."""

    def __init__(self, device: torch.device, small: bool = False, autocast_dtype: torch.dtype | None = None):
        self.device, self.small, self.autocast_dtype = device, small, autocast_dtype
        self.width, self.depth = (16, 2) if small else (512, 8)
        self.tower = TextTowerConfig(width=32, layers=1, heads=4) if small else TextTowerConfig()

    def frames(self, num_frames: int) -> int:
        return min(num_frames, 3) if self.small else num_frames

    def model(self, num_frames: int) -> DSGDiffu:
        torch.manual_seed(1)
        config, tower = DenoiserConfig(num_frames, self.width, self.depth), random_text_tower(config=self.tower)
        model = DSGDiffu.build(config, H36M, ACTION_PROMPT, tower, GaussianDiffusion(), self.autocast_dtype)
        return model.to(self.device)

    def poses(self, *shape: int) -> torch.Tensor:
        return 0.3 * torch.randn(*shape, device=self.device)


def training_step(size: Size, num_frames: int, num_windows: int, model: DSGDiffu | None = None) -> Work:
    F = size.frames(num_frames)
    model = model or size.model(F).train()
    state = TrainingState.new(model, H36M_GT)
    x_2d, x_start = size.poses(num_windows, F, J, 2), size.poses(num_windows, F, J, 3)
    verbs = [ACTIONS[window % len(ACTIONS)] for window in range(num_windows)]

    generator = torch.Generator().manual_seed(1)

    def step() -> None:
        loss = model.training_loss(x_2d, x_start, verbs, model.draw(x_start.shape, 0.0, generator))
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward(loss.detach())
        state.optimizer.step()

    return step


def evaluation(
    size: Size, num_frames: int, num_windows: int, num_hypotheses: int, num_steps: int, model: DSGDiffu | None = None
) -> Work:
    """Sampling, mirrored, and the four settings' errors under Protocol #1; the text is encoded before, as in a run."""
    F = size.frames(num_frames)
    model = model or size.model(F).eval()
    x_2d, target = size.poses(num_windows, F, J, 2), size.poses(num_windows, F, J, 3)
    noise = torch.randn(num_steps, num_windows, num_hypotheses, F, J, 3, device=size.device)
    with torch.no_grad():
        prompts = model.encode([ACTIONS[window % len(ACTIONS)] for window in range(num_windows)])
    every = torch.ones(num_windows, F, dtype=torch.bool, device=size.device)

    def evaluate() -> object:
        samples = model.sample(x_2d, prompts, noise)
        return mean_errors(four_settings(samples, x_2d, target, every, align=False), target, every)

    return evaluate


def four_settings(
    samples: torch.Tensor, x_2d: torch.Tensor, target: torch.Tensor, every: torch.Tensor, align: bool
) -> dict[str, torch.Tensor]:
    """The published settings' answers, projected without a camera."""
    nearest = nearest_reprojection(samples[..., :2], x_2d)
    return setting_poses(samples, target, every, {"P_Agg": mean_hypothesis(samples)}, {"J_Agg": nearest}, align)


def p_mpjpe_of(size: Size, num_poses: int) -> Work:
    num_poses = 64 if size.small else num_poses
    predicted, target = size.poses(num_poses, 1, J, 3), size.poses(num_poses, 1, J, 3)
    return lambda: p_mpjpe(predicted, target)


def mpjpe_of(size: Size, num_poses: int) -> Work:
    num_poses = 64 if size.small else num_poses
    predicted, target = size.poses(num_poses, 1, J, 3), size.poses(num_poses, 1, J, 3)
    return lambda: mpjpe(predicted, target)


def all_settings(size: Size, num_windows: int, num_steps: int, num_hypotheses: int, num_frames: int) -> Work:
    """Four settings under Protocol #2, a step at a time, as an evaluation does it."""
    F = size.frames(num_frames)
    samples = size.poses(num_windows, num_steps, num_hypotheses, F, J, 3)
    target, x_2d = size.poses(num_windows, F, J, 3), size.poses(num_windows, F, J, 2)
    every = torch.ones(num_windows, F, dtype=torch.bool, device=size.device)

    def measure() -> None:
        for step in samples.split(1, dim=1):
            mean_errors(four_settings(step, x_2d, target, every, align=True), target, every)

    return measure


def text_encoding(size: Size) -> Work:
    model = size.model(1).eval()

    @torch.no_grad()
    def encode() -> object:
        return model.encode(ACTIONS)

    return encode


def windows_of(num_frames: int, clip_frames: int, num_clips: int) -> TrainingWindows:
    """All windows of made-up clips, ready for epochs."""
    random = np.random.default_rng(1)
    poses_2d = random.normal(size=(clip_frames, J, 2)).astype(np.float32)
    poses_3d = random.normal(size=(clip_frames, J, 3)).astype(np.float32)
    clips = [Clip("S1", ACTIONS[n % 4], None, poses_2d, poses_3d, None, (1000, 1000)) for n in range(num_clips)]
    return TrainingWindows(clips, num_frames, H36M, batch_windows=64, mirrored=True, seed=1)


def data_pipeline(size: Size) -> Work:
    """Eight batches of 64 windows of 27 frames, mirrored at random."""
    windows = windows_of(size.frames(27), 2000, 4 if size.small else 40)

    def batches() -> None:
        for chosen in windows.order(1)[:8]:
            windows.batch(chosen)

    return batches


def start_up(size: Size) -> Work:
    """From nothing to the end of `python main.py --help`."""
    command = [sys.executable, "main.py", "--help"]
    return lambda: subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def checkpoint_sizes(size: Size) -> dict[str, float]:
    """Megabytes of best_epoch_1_1.bin and last.bin of the network."""
    model = size.model(size.frames(243))
    state = TrainingState.new(model, H36M_GT)
    for parameter in model.trained_parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.optimizer.step()
    sizes = {}
    for name, training in (("best_epoch_1_1.bin", None), ("last.bin", state.as_data())):
        checkpoint = Checkpoint(
            model.denoiser.config,
            H36M,
            ACTION_PROMPT,
            1000,
            1.0,
            model.trained_state(),
            "",
            "",
            False,
            {},
            "",
            1,
            training,
        )
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder) / name, checkpoint)
            sizes[name] = (Path(folder) / name).stat().st_size / 1e6
    return sizes


WORKS: dict[str, Callable[[Size], Work]] = {
    "training step, f=27, 4 windows": lambda size: training_step(size, 27, 4),
    "training step, f=243, 1 window": lambda size: training_step(size, 243, 1),
    "a step's products alone, f=27, 4 windows": lambda size: products_of(training_step(size, 27, 4)),
    "a step's products alone, f=243, 1 window": lambda size: products_of(training_step(size, 243, 1)),
    "evaluation, f=27, 4 windows, H=5, K=2": lambda size: evaluation(size, 27, 4, 5, 2),
    "evaluation, f=243, 1 window, H=2, K=1": lambda size: evaluation(size, 243, 1, 2, 1),
    "P-MPJPE of 21,600 poses": lambda size: p_mpjpe_of(size, 21_600),
    "MPJPE of 21,600 poses": lambda size: mpjpe_of(size, 21_600),
    "four settings, Protocol #2, b=4, K=10, H=20, f=27": lambda size: all_settings(size, 4, 10, 20, 27),
    "text encoding, 4 actions": text_encoding,
    "data pipeline, 512 windows of 27 frames": data_pipeline,
    "start-up": start_up,
}

SMALL_NOTE = "note: this was --small, to see that it runs; its numbers mean nothing"


def named(part: str) -> list[str]:
    """The works whose names have this in them.

    Raises:
        UsageError: none has.
    """
    names = [name for name in WORKS if part in name]
    if not names:
        raise UsageError(f"--only is '{part}', which no work has in its name; there are: {'; '.join(WORKS)}")
    return names


def add_threads(parser: argparse.ArgumentParser) -> None:
    default = torch.get_num_threads()
    parser.add_argument("--threads", type=positive, default=default, help="of the CPU (default: PyTorch's)")


def add_device(
    parser: argparse.ArgumentParser, default: str = "cpu", of: str = "cpu or cuda", instead: str = "cpu"
) -> None:
    """`--device`; `instead` is advised where there is no such card."""
    read = partial(device, instead=instead)
    parser.add_argument("--device", type=read, default=default, help=f"{of} (default: {default})")


def device(text: str, instead: str) -> torch.device:
    """The type of an option."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"'{text}'; expected cpu, cuda or cuda:1")
    found = torch.device(text)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(f"{text} is not here; expected {instead}")
    return found


MOST = 4096
"""Repeats, turns, threads."""


def positive(text: str) -> int:
    """The type of an option."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 to {MOST}")
    return int(text)


def part(text: str) -> float:
    """The type of an option."""
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected more than 0, at most 1")
    return number


MEMORY = ("training step, f=27, 4 windows", "training step, f=243, 1 window", "evaluation, f=27, 4 windows, H=5, K=2")
"""Works whose peak memory is measured, each in a process of its own."""


def peak_rss() -> float:
    """GiB. Linux's own count, where there is one: getrusage's begins with what the parent process had."""
    status = Path("/proc/self/status")
    if status.exists():
        return (
            next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**20
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
