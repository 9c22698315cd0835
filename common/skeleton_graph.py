"""A skeleton's bones as the graph attention wants them."""

import torch
from torch import Tensor

from common.skeleton import Skeleton


def adjacency_matrix(skeleton: Skeleton) -> Tensor:
    """Which joints a joint attends to: its bones in both directions, and itself.

    Returns:
        (J, J) bool, symmetric, True on the diagonal; row i holds the neighbours of joint i.
    """
    adjacency = torch.eye(skeleton.num_joints, dtype=torch.bool)
    for joint, parent in skeleton.bones:
        adjacency[joint, parent] = adjacency[parent, joint] = True
    return adjacency
