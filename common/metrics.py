"""Pose errors. Letters: F frames, J joints; leading dimensions are free. Units are those of the input."""

from typing import cast

import torch
from torch import Tensor

PCK_THRESHOLD = 150.0
"""mm: about half a head (Mehta et al. 2017)."""
AUC_THRESHOLDS = tuple(range(0, 151, 5))
"""mm."""


def joint_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """Distance of every joint to the truth (Protocol #1 before averaging).

    Args:
        predicted: (..., J, 3), camera space, root-relative.
        target: broadcastable to predicted.

    Returns:
        (..., J).
    """
    return (predicted - target).norm(dim=-1)


def mpjpe(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean per-joint position error (Protocol #1): (..., F, J, 3) -> (...), averaged over frames and joints."""
    return joint_errors(predicted, target).mean(dim=(-2, -1))


def procrustes_align(predicted: Tensor, target: Tensor) -> Tensor:
    """Each pose moved, turned and scaled (never reflected) onto the truth, in the least-squares sense; in float64.

    Args:
        predicted: (..., J, 3).
        target: broadcastable to predicted.

    Returns:
        (..., J, 3), like predicted.
    """
    poses = predicted.reshape(-1, *predicted.shape[-2:])
    targets = target.expand(predicted.shape).reshape(poses.shape)
    size = _POSES_AT_ONCE if poses.device.type == "cpu" else max(1, len(poses))
    aligned = [_align(*part) for part in zip(poses.split(size), targets.split(size), strict=True)]
    return torch.cat(aligned).reshape(predicted.shape)


_POSES_AT_ONCE = 4096
"""What a CPU's caches hold of them."""


def _align(predicted: Tensor, target: Tensor) -> Tensor:
    """`procrustes_align` of (N, J, 3) onto as many."""
    x, y = predicted.double(), target.double()
    y_mean = y.mean(-2, keepdim=True)
    x_centred, y_centred = x - x.mean(-2, keepdim=True), y - y_mean
    rotation, overlap = best_rotation(y_centred.mT @ x_centred)
    variance = x_centred.square().sum((-2, -1))
    scale = overlap / variance.clamp(min=torch.finfo(x.dtype).tiny)
    return (scale[..., None, None] * x_centred @ rotation.mT + y_mean).to(predicted.dtype)


def best_rotation(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """The rotation R that brings x nearest to y, and how well: the greatest sum over joints of y . R x.

    Horn 1987: R's unit quaternion is the eigenvector of a symmetric 4x4 matrix's greatest eigenvalue. That is found
    by Newton's method on the characteristic polynomial (Theobald 2005, QCP), for all poses at once; where this is not
    sharp (points on a line, a pose and its mirror image), by the singular values (Umeyama 1991, Eq. 40-43).

    Args:
        correlation: (..., 3, 3) float64, the sum over joints of y x^T.

    Returns:
        R (..., 3, 3) and the sum (...).
    """
    m = correlation.reshape(-1, 9).T.contiguous()  # (9, N): every operation below is on whole rows
    unit = m.square().sum(0).sqrt().clamp(min=torch.finfo(m.dtype).tiny)
    quaternion, value, is_sharp = _greatest_eigenvector(_horn_matrix(m / unit))
    rotation, overlap = _rotation_matrix(quaternion), value * unit
    if not is_sharp.all():
        u, s, vh = torch.linalg.svd(correlation.reshape(-1, 3, 3)[~is_sharp])
        sign = torch.ones_like(s)
        sign[:, -1] = torch.linalg.det(u @ vh).sign()
        rotation[~is_sharp] = (u * sign[:, None, :]) @ vh
        overlap[~is_sharp] = (s * sign).sum(-1)
    return rotation.reshape(correlation.shape), overlap.reshape(correlation.shape[:-2])


def _horn_matrix(m: Tensor) -> list[list[Tensor]]:
    """(9, N), y x^T by rows -> 4x4 entries (N,), whose quadratic form of a quaternion is the sum of y . R x."""
    xx, yx, zx, xy, yy, zy, xz, yz, zz = m  # ab: x's a times y's b
    a, b, c, d, e, f = yz - zy, zx - xz, xy - yx, xy + yx, zx + xz, yz + zy
    return [
        [xx + yy + zz, a, b, c],
        [a, xx - yy - zz, d, e],
        [b, d, yy - xx - zz, f],
        [c, e, f, zz - xx - yy],
    ]


_NEWTON_STEPS = 20
_SHARP = 1e-4


def _greatest_eigenvector(k: list[list[Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Of a symmetric 4x4 matrix without trace, by entries (N,): unit eigenvectors (4, N), eigenvalues (N,), and (N,)
    whether the next eigenvalue is far enough for these to be exact."""
    upper, lower = _minors(k[0], k[1]), _minors(k[2], k[3])
    squares = cast(Tensor, sum(k[i][i].square() for i in range(4)) + 2 * sum(k[i][j].square() for i, j in _PAIRS))
    c2 = -squares / 2
    c1 = -sum(_cofactor(k, upper, lower, i, i) for i in range(4))
    c0 = sum(sign * upper[pair] * lower[other] for pair, other, sign in _LAPLACE)
    value = squares.sqrt()  # no eigenvalue is greater, and from above the steps come down to the greatest
    for _ in range(_NEWTON_STEPS):
        square = value.square()
        slope = (4 * square + 2 * c2) * value + c1
        value = value - ((square + c2) * square + c1 * value + c0) / slope.where(slope > 0, 1)
    shifted = [[k[i][j] - value if i == j else k[i][j] for j in range(4)] for i in range(4)]
    upper, lower = _minors(shifted[0], shifted[1]), _minors(shifted[2], shifted[3])
    adjugate = torch.stack([torch.stack([_cofactor(shifted, upper, lower, i, j) for j in range(4)]) for i in range(4)])
    lengths = adjugate.square().sum(1)  # every row is the eigenvector, or zero
    vector = adjugate.gather(0, lengths.argmax(0).expand(1, 4, -1))[0]
    length = vector.square().sum(0).sqrt()
    return vector / length.clamp(min=torch.finfo(length.dtype).tiny), value, length > _SHARP


_PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
# A 4x4 determinant by 2x2 minors of its upper and lower rows: the columns of the one, of the other, and the sign.
_LAPLACE = tuple(zip(_PAIRS, reversed(_PAIRS), (1, -1, 1, 1, -1, 1), strict=True))


def _minors(first: list[Tensor], second: list[Tensor]) -> dict[tuple[int, int], Tensor]:
    """The 2x2 determinants of two rows, by their columns."""
    return {(i, j): first[i] * second[j] - first[j] * second[i] for i, j in _PAIRS}


def _cofactor(a: list[list[Tensor]], upper: dict, lower: dict, row: int, column: int) -> Tensor:
    """(N,), of the entry (row, column), by the minors of the two rows that it is not in and the one beside its own."""
    i, j, k = (index for index in range(4) if index != column)
    minors, beside = (lower if row < 2 else upper), a[row ^ 1]
    value = beside[i] * minors[j, k] - beside[j] * minors[i, k] + beside[k] * minors[i, j]
    return value if (row + column) % 2 == 0 else -value


def _rotation_matrix(quaternion: Tensor) -> Tensor:
    """(4, N) unit quaternions w, x, y, z -> (N, 3, 3)."""
    w, x, y, z = quaternion
    entries = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(entries, dim=-1).reshape(-1, 3, 3)


def p_mpjpe(predicted: Tensor, target: Tensor) -> Tensor:
    """MPJPE after Procrustes alignment of each pose (Protocol #2): (..., F, J, 3) -> (...)."""
    return mpjpe(procrustes_align(predicted, target), target)


def pck(errors: Tensor, threshold: float = PCK_THRESHOLD) -> Tensor:
    """Percentage of correct keypoints in 3D: how many joints are nearer to the truth than the threshold.

    Mehta et al. 2017 (Monocular 3D Human Pose Estimation In The Wild Using Improved CNN Supervision), Sec. 6.2.

    Args:
        errors: (..., F, J), mm, of the joints that count (see joint_errors).
        threshold: mm; an error of just that much is not correct.

    Returns:
        (...), percent, over frames and joints.
    """
    return 100 * (errors < threshold).double().mean(dim=(-2, -1))


def auc(errors: Tensor) -> Tensor:
    """Area under the PCK curve: the mean PCK over the thresholds 0, 5, ..., 150 mm, (..., F, J) mm -> (...) percent.

    Mehta et al. 2017, as pck. The threshold 0 counts, and nothing is below it: no answer reaches more than 30/31.
    """
    return torch.stack([pck(errors, threshold) for threshold in AUC_THRESHOLDS]).mean(dim=0)
