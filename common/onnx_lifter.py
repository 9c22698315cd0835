"""An exported network as something that lifts, with ONNX Runtime: neither the text tower nor our network is needed."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.diffusion import Denoise, GaussianDiffusion
from common.errors import DataError, UsageError
from common.onnx_files import OnnxDescription, read_onnx, require
from common.sampler import CPU_CHUNK, sample_hypotheses
from common.skeleton import Skeleton
from common.solvers import PUBLISHED, Solver
from common.text_prompts import Prompts


@dataclass(frozen=True)
class OnnxLifter:
    """A `common.lifting.Lifter`: an ONNX file's network, on the CPU."""

    path: Path
    session: Any
    """onnxruntime's."""
    description: OnnxDescription
    num_frames: int
    diffusion: GaussianDiffusion
    solver: Solver

    @property
    def skeleton(self) -> Skeleton:
        return self.description.skeleton

    @property
    def fps(self) -> float:
        return self.description.fps

    @property
    def dataset(self) -> str:
        return self.description.dataset

    @property
    def epoch(self) -> int:
        return self.description.epoch

    @property
    def num_timesteps(self) -> int:
        return self.diffusion.num_timesteps

    @torch.no_grad()
    def sample(self, x_2d: Tensor, noise: Tensor) -> Tensor:
        """See `common.lifting.Lifter`."""
        B = len(x_2d)
        in_the_graph = Prompts(torch.empty(B, 0), torch.empty(B, 0, 0))
        chunk = max(1, CPU_CHUNK // self.description.width // math.prod(x_2d.shape[1:3]))
        return sample_hypotheses(
            self.given, self.diffusion, x_2d, in_the_graph, noise, self.skeleton, chunk, self.solver
        )

    def given(self, x_2d: Tensor, _prompts: Prompts) -> Denoise:
        """A `common.sampler.Given`, whose text is in the graph."""
        return lambda x_t, t: self.run(x_2d, x_t, t)

    def run(self, x_2d: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """One step of the network.

        Args:
            x_2d: (B, F, J, 2) float32, screen coordinates.
            x_t: (B, H, F, J, 3) float32, noisy poses, metres.
            t: (B,) long, diffusion steps.

        Returns:
            (B, H, F, J, 3) float32, the predicted x_start, metres.

        Raises:
            DataError: the file's graph does not compute that.
        """
        inputs = {"x_2d": x_2d, "x_t": x_t, "t": t}
        try:
            (x_start,) = self.session.run(None, {name: value.contiguous().numpy() for name, value in inputs.items()})
        except Exception as error:  # ONNX Runtime has classes of its own for each way to fail
            raise DataError(
                f"{self.path}: ONNX Runtime cannot compute it ({_reason(error)}); export it again"
            ) from None
        if x_start.dtype != np.float32 or x_start.shape != tuple(x_t.shape) or not np.isfinite(x_start).all():
            raise DataError(
                f"{self.path} gives {x_start.dtype} of {x_start.shape}; expected finite float32 of {tuple(x_t.shape)}: "
                "export it again"
            )
        return torch.from_numpy(x_start)


def load_onnx_lifter(path: Path, num_frames: int | None = None, solver: Solver = PUBLISHED) -> OnnxLifter:
    """The network of an ONNX file, ready to lift.

    Args:
        path: a file that `common.export_onnx` wrote.
        num_frames: of a window; fewer than in training; None: as many.
        solver: how it is sampled.

    Raises:
        UsageError: onnx or onnxruntime is not installed.
        DataError: the file is not one of ours, or not for so many frames.
    """
    onnxruntime = require("onnxruntime")
    content, description = read_onnx(path)
    if num_frames is not None and num_frames > description.num_frames:
        raise UsageError(
            f"{path} was trained with -f {description.num_frames}; -f {num_frames} was given: give "
            f"-f {description.num_frames} or fewer"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong is said by what it raises
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has classes of its own for each way to fail
        raise DataError(f"{path} is no model that ONNX Runtime can load ({_reason(error)}); export it again") from None
    return OnnxLifter(
        path,
        session,
        description,
        num_frames or description.num_frames,
        GaussianDiffusion(description.num_timesteps, description.scale),
        solver,
    )


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
