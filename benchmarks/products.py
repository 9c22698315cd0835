"""The matrix products of a piece of work and nothing else: what no change to all the rest can save.

Those of a matrix with another, which linear layers are; batched ones and attention's belong to the rest.
"""

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
    dtype: torch.dtype
    device: torch.device

    def filled(self) -> Tensor:
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device=self.device).normal_()


class _Recorder(TorchDispatchMode):
    """Notes the products of this thread, a backward pass's too."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Callable, list, dict]] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operator in PRODUCTS:
            values = [_layout(value) if isinstance(value, Tensor) else value for value in args]
            self.found.append((operator, values, kwargs))
        return operator(*args, **kwargs)


def _layout(tensor: Tensor) -> _Layout:
    return _Layout(tensor.size(), tensor.stride(), tensor.dtype, tensor.device)


def products_of(work: Callable[[], object]) -> Callable[[], object]:
    """Runs the work twice; returns the second run's products, in the same order, of other numbers.

    What the first run computes for good is not among them. Tensors of a layout are one, so that more is in the caches
    than in the work.
    """
    work()
    with _Recorder() as recorder:
        work()
    layouts = {value for _, values, _ in recorder.found for value in values if isinstance(value, _Layout)}
    tensors = {layout: layout.filled() for layout in layouts}
    calls = [
        (operator, [tensors[value] if isinstance(value, _Layout) else value for value in values], kwargs)
        for operator, values, kwargs in recorder.found
    ]

    @torch.no_grad()
    def repeat() -> None:
        for operator, values, kwargs in calls:
            operator(*values, **kwargs)

    return repeat
