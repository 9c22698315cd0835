"""Linear layers whose float32 products are oneDNN's on an AMD processor with AVX-512.

PyTorch gives these products to MKL, which is Intel's and the faster one on Intel's processors and on AMD's without
AVX-512. On AMD's that have it, oneDNN, which ships with the same PyTorch, is a quarter faster at the network's sizes
(docs/PERFORMANCE.md); PyTorch's own compiler calls it by the operator that is used here.
"""

import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _made_by_amd(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's processor says so: in /proc/cpuinfo on Linux, in its name elsewhere."""
    try:
        with open(cpuinfo, errors="replace") as file:
            return "AuthenticAMD" in file.read(1000)  # of the first core: of hundreds it takes the system long to tell
    except OSError:
        return "AuthenticAMD" in platform.processor()


def _is_onednn_faster(capability: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """By what PyTorch says of this processor (`torch.backends.cpu.get_cpu_capability`) and who made it."""
    return capability == "AVX512" and _made_by_amd(cpuinfo)


_BY_ONEDNN = _HAS_ONEDNN and _is_onednn_faster(torch.backends.cpu.get_cpu_capability())


class Linear(nn.Linear):
    """nn.Linear, and its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias, as torch.nn.functional.linear: x (..., I), weight (O, I), bias (O,) -> (..., O)."""
    by_onednn = (
        _BY_ONEDNN
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
    return _OneDNNLinear.apply(x, weight, bias) if by_onednn else F.linear(x, weight, bias)


class _OneDNNLinear(torch.autograd.Function):
    """`linear`; the gradient of the weights is MKL's, which is the faster one there."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        rows = gradient.flatten(0, -2)
        return (
            _product(gradient, weight.t()) if ctx.needs_input_grad[0] else None,
            rows.t() @ x.flatten(0, -2) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
