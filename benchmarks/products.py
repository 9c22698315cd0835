"""The matrix products of a piece of work and nothing else: what no change to all the rest can save.

Those of a matrix with another, which linear layers are; batched ones and attention's belong to the rest.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    PRODUCTS.add(torch.ops.mkldnn._linear_pointwise.default)


class _Recorder(TorchDispatchMode):
    """Notes the products of this thread, a backward pass's too, with tensors of other numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[Callable[[], Tensor]] = []
        self.tensors: dict[tuple, Tensor] = {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operator in PRODUCTS:
            values = (self.like(value) if isinstance(value, Tensor) else value for value in args)
            self.products.append(partial(operator, *values, **kwargs))
        return operator(*args, **kwargs)

    def like(self, tensor: Tensor) -> Tensor:
        """Of the same layout in memory, by which an operator may choose its way."""
        layout = tensor.size(), tensor.stride(), tensor.dtype, tensor.device
        if layout not in self.tensors:
            self.tensors[layout] = torch.empty_strided(*layout[:2], dtype=tensor.dtype, device=tensor.device).normal_()
        return self.tensors[layout]


def products_of(work: Callable[[], object]) -> Callable[[], object]:
    """Runs the work twice; returns the second run's products, in the same order, of other numbers.

    What the first run computes for good is not among them. Tensors of a layout are one, so that more is in the caches
    than in the work.
    """
    work()
    with _Recorder() as recorder:
        work()

    @torch.no_grad()
    def repeat() -> None:
        for product in recorder.products:
            product()

    return repeat
