"""Whether 2D keypoints look like a person the right way up, with left and right where the joints' order says.

What is found is a warning, not an error: people do stand on their hands. Left and right exchanged throughout cannot be
seen in 2D, for that is a person seen from the other side.
"""

import numpy as np

from common.skeleton import Skeleton

_LIMBS = (("Hip", "Knee"), ("Knee", "Ankle"), ("Shoulder", "Elbow"), ("Elbow", "Wrist"))
LARGEST_RATIO = 2.5
"""A left bone is at most so many times as long as the right one, and the reverse, in the median frame."""


def doubts(keypoints: np.ndarray, skeleton: Skeleton) -> list[str]:
    """What is odd about a clip's keypoints, a line each; none for most clips.

    Args:
        keypoints: (N, J, 2), pixels, y down, without gaps.
        skeleton: whose J joints they are, in its order.
    """

    def joint(name: str) -> np.ndarray:
        return keypoints[:, skeleton.joint_names.index(name)]

    found = []
    top = joint("head_top" if "head_top" in skeleton.joint_names else "head")[:, 1]
    feet = (joint("LAnkle") + joint("RAnkle"))[:, 1] / 2
    inverted = float(np.mean(top > feet))
    if inverted > 0.5:
        found.append(
            f"the head is below the feet in {inverted:.0%} of the frames: is the image upside down, y upwards, or the "
            "joints in another order (--layout)?"
        )
    hips, shoulders = ((joint(f"L{name}") - joint(f"R{name}"))[:, 0] for name in ("Hip", "Shoulder"))
    height = np.ptp(keypoints[..., 1], axis=1)
    wide = np.minimum(abs(hips), abs(shoulders)) > 0.05 * height  # seen from the side they say nothing
    crossed = float(np.mean(hips[wide] * shoulders[wide] < 0)) if wide.any() else 0.0
    if crossed > 0.5:
        found.append(
            f"left and right are exchanged between hips and shoulders in {crossed:.0%} of the frames that show both: "
            "are the joints in another order (--layout)?"
        )
    ratios = [
        np.median(np.linalg.norm(joint(f"L{a}") - joint(f"L{b}"), axis=-1) + 1)
        / np.median(np.linalg.norm(joint(f"R{a}") - joint(f"R{b}"), axis=-1) + 1)
        for a, b in _LIMBS
    ]
    uneven = sum(max(ratio, 1 / ratio) > LARGEST_RATIO for ratio in ratios)
    if uneven > 1:
        found.append(
            f"{uneven} of 4 limb bones differ more than {LARGEST_RATIO:g} times between left and right: are the joints "
            "in another order (--layout)?"
        )
    swaps = side_swaps(keypoints, skeleton)
    if len(swaps):
        found.append(
            f"left and right change places {len(swaps)} times from a frame to the next, first at frame {swaps[0]} of "
            "the person: the detector mixes them up"
        )
    return found


def side_swaps(keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """The frames, from 1, in which left and right joints stand where the other side's stood in the frame before.

    Exchanged, the limbs would move less than a quarter as far, and they are apart: more than a tenth of the body.
    """
    left, right = (keypoints[:, list(side)] for side in (skeleton.joints_left, skeleton.joints_right))

    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a - b, axis=-1).mean(axis=-1)

    straight = distance(left[1:], left[:-1]) + distance(right[1:], right[:-1])
    exchanged = distance(left[1:], right[:-1]) + distance(right[1:], left[:-1])
    height = np.ptp(keypoints[1:, :, 1], axis=1)
    return np.flatnonzero((exchanged < straight / 4) & (straight > 0.2 * height)) + 1


def outside(keypoints: np.ndarray, width: int, height: int) -> str | None:
    """A wrong image size shows in joints (..., 2), pixels, that lie outside it."""
    part = float(np.mean(((keypoints < 0) | (keypoints > (width, height))).any(axis=-1)))
    if part <= 0.2:
        return None
    return f"{part:.0%} of the joints lie outside {width}x{height} pixels; check --width and --height"
