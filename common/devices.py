"""From the host's memory to the device's."""

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device.

    To CUDA through pinned memory, so that the host does not wait: while the device computes a batch, the host gathers
    the next one and has it on its way.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
