"""The matrix products of a piece of work and nothing else: what no change to all the rest can save."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    PRODUCTS.add(torch.ops.mkldnn._linear_pointwise.default)


class _Layout(NamedTuple):
    """Of a tensor in memory: an operator may choose its way by it."""

    size: torch.Size
    stride: tuple[int, ...]
    device: torch.device

    def filled(self) -> Tensor:
        return torch.empty_strided(self.size, self.stride, device=self.device).normal_()


class _Recorder(TorchDispatchMode):
    """Notes the products of this thread, a backward pass's too."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Callable, list]] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if operator in PRODUCTS:
            self.found.append((operator, [_layout(value) if isinstance(value, Tensor) else value for value in args]))
        return operator(*args, **(kwargs or {}))


def _layout(tensor: Tensor) -> _Layout:
    return _Layout(tensor.size(), tensor.stride(), tensor.device)


def products_of(work: Callable[[], object]) -> Callable[[], object]:
    """Runs the work once; returns the same products, in the same order, of other numbers.

    Tensors of a size share their memory, so that more of them are in the caches than in the work.
    """
    with _Recorder() as recorder:
        work()
    layouts = {value for _, values in recorder.found for value in values if isinstance(value, _Layout)}
    tensors = {layout: layout.filled() for layout in layouts}
    calls = [
        (operator, [tensors[value] if isinstance(value, _Layout) else value for value in values])
        for operator, values in recorder.found
    ]

    @torch.no_grad()
    def repeat() -> None:
        for operator, values in calls:
            operator(*values)

    return repeat
