"""Joint layouts of 2D detectors, and how each joint of Human3.6M's skeleton is made of theirs.

A conversion is data: target joint -> recipes, and a recipe is the weights of source joints, which sum to 1. The first
recipe whose sources were all found in a frame makes the joint there; later ones are for joints that are hidden.

Legs and arms are the detector's own; on clothed people they are some centimetres from Human3.6M's joint centres. What
COCO and OpenPose lack is made so that it lies where it lies in Human3.6M's mean pose, the mean over its training set
relative to the pelvis. MMPose publishes that pose (target_mean in its Human3.6M configs, of joint3d_rel_stats.pkl). On
the line from the pelvis to the middle of the shoulders, 393 mm long there, its joints are at

    spine 0.55, thorax 1.13, neck 1.28, head 1.52 times that length, within 1 mm of the line.

    pelvis    the middle of the hips: made so, or the detector's own.
    thorax    the base of the neck, from which the shoulders hang: 1.13 times the middle of the shoulders less 0.13
              times the pelvis. With raised arms, and the shoulders with them, that is some centimetres too high.
    spine     halfway from pelvis to thorax (in the mean pose 0.49 of the way).
    neck      Human3.6M's point lies inside the head, behind and below the nose: three quarters of the way from the
              middle of the shoulders to the nose, as the field has it. Where OpenPose leaves the nose out, from
              behind, the middle of the ears stands for it.
    head      the top of the head. COCO and OpenPose have none: it is 1.4 times as far from the middle of the shoulders
              as the ears, for in the mean pose it is 1.85 times as far as the neck, and 0.75 * 1.85 = 1.39. It follows
              the neck and not a nod of the head.

CMU motion in Human3.6M's format says nothing of it, for its thorax is another point, below the line of the shoulders:
least squares give 0.95 for the sample (1492 frames) in place of 1.13.

Most published demos of Human3.6M's networks convert COCO as GAST-Net (Liu et al. 2021) does: thorax = shoulders +
(nose - shoulders) / 3, then lowered in the image by two thirds of the eyes' height above the nose; neck as above;
spine = the middle of shoulders and hips, pushed sideways; head = as high above the eyes as they are above the nose. In
the mean pose, with the nose where the neck says, that third is 49 mm above the shoulders, our 0.13 is 51, Human3.6M's
thorax 53. But the third leans with every turn and nod of the head, and the shifts are along the image's axes, so that
they do not turn with the person. Hence our own thorax, spine and head, and the field's neck.

Halpe has a neck and a top of the head. They are taken as they are, with the spine halfway to the neck and the nose for
Human3.6M's neck, as MotionBERT (Zhu et al. 2023) does.

Sources: the layouts are those of COCO (Lin et al. 2014), Halpe (Fang et al. 2022) and OpenPose (Cao et al. 2019).
"""

from dataclasses import dataclass

import numpy as np

from common.skeleton import H36M, Skeleton

Recipe = dict[str, float]
"""Source joint -> weight; the weights sum to 1."""
Conversion = dict[str, tuple[Recipe, ...]]
"""Human3.6M's joint -> recipes, the best first; in the order of the joints."""


@dataclass(frozen=True)
class Layout:
    """A detector's joints."""

    name: str
    joint_names: tuple[str, ...]
    """The body's joints, which come first."""
    num_joints: int
    """All joints of a person in a file; those after the body's (face, hands) are not used."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_COCO = _names(
    "nose LEye REye LEar REar LShoulder RShoulder LElbow RElbow LWrist RWrist LHip RHip LKnee RKnee LAnkle RAnkle"
)
_HALPE = _COCO + _names("head neck middle_hip LBigToe RBigToe LSmallToe RSmallToe LHeel RHeel")
_OPENPOSE_ARMS = _names("nose neck RShoulder RElbow RWrist LShoulder LElbow LWrist")
_OPENPOSE_LEGS = _names("RHip RKnee RAnkle LHip LKnee LAnkle REye LEye REar LEar")
_OPENPOSE_FEET = _names("LBigToe LSmallToe LHeel RBigToe RSmallToe RHeel")
_BODY25 = (*_OPENPOSE_ARMS, "middle_hip", *_OPENPOSE_LEGS, *_OPENPOSE_FEET)

LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("coco17", _COCO, 17),
        Layout("coco18", (*_OPENPOSE_ARMS, *_OPENPOSE_LEGS), 18),
        Layout("body25", _BODY25, 25),
        Layout("halpe26", _HALPE, 26),
        Layout("coco133", _COCO, 133),
        Layout("halpe136", _HALPE, 136),
        Layout("h36m17", H36M.joint_names, 17),
    )
}
"""coco18 and body25 are OpenPose's; coco133 (COCO-WholeBody) and halpe136 have face and hands as well."""

LAYOUTS_OF_COUNT = {
    count: [layout.name for layout in LAYOUTS.values() if layout.num_joints == count]
    for count in sorted({layout.num_joints for layout in LAYOUTS.values()})
}
"""Joint count -> the layouts with so many joints."""


def _kept(names: tuple[str, ...]) -> Conversion:
    return {name: ({name: 1.0},) for name in names}


def _ordered(conversion: Conversion) -> Conversion:
    return {name: conversion[name] for name in H36M.joint_names}


_LIMBS = _kept(H36M.joint_names[1:7] + H36M.joint_names[11:])  # legs and arms: the same names in every layout


def _blend(*parts: tuple[float, Recipe]) -> Recipe:
    """A recipe of recipes."""
    total: Recipe = {}
    for weight, recipe in parts:
        for joint, share in recipe.items():
            total[joint] = total.get(joint, 0.0) + weight * share
    return total


_HIPS = {"LHip": 0.5, "RHip": 0.5}
_SHOULDERS = {"LShoulder": 0.5, "RShoulder": 0.5}
_HEAD_POINTS = ({"LEar": 0.5, "REar": 0.5}, {"LEar": 1.0}, {"REar": 1.0}, {"nose": 1.0})
"""What stands for the ears' height, the best first: seen from the side, one ear hides the other."""


def _beyond(start: Recipe, end: Recipe, share: float) -> Recipe:
    """The point at `share` of the way from one to the other; beyond the other where it is more than 1."""
    return _blend((1 - share, start), (share, end))


def _without_head_top(pelvis: Recipe, shoulders: Recipe) -> Conversion:
    """Human3.6M's joints from a layout without a head top, given what is its pelvis and middle of the shoulders."""
    thorax = _beyond(pelvis, shoulders, 1.13)
    trunk = {
        "pelvis": (pelvis,),
        "spine": (_beyond(pelvis, thorax, 0.5),),
        "thorax": (thorax,),
        "neck": tuple(_beyond(shoulders, point, 0.75) for point in (_HEAD_POINTS[-1], *_HEAD_POINTS[:-1])),
        "head": tuple(_beyond(shoulders, point, 1.4) for point in _HEAD_POINTS),
    }
    return _ordered({**_LIMBS, **trunk})


_COCO_TO_H36M = _without_head_top(_HIPS, _SHOULDERS)
_HALPE_TO_H36M = _ordered(
    {
        **_LIMBS,
        "pelvis": ({"middle_hip": 1.0},),
        "spine": ({"middle_hip": 0.5, "neck": 0.5},),
        "thorax": ({"neck": 1.0},),
        "neck": ({"nose": 1.0},),
        "head": ({"head": 1.0},),
    },
)

CONVERSIONS: dict[str, Conversion] = {
    "coco17": _COCO_TO_H36M,
    "coco18": _without_head_top(_HIPS, {"neck": 1.0}),  # OpenPose's neck is the middle of the shoulders
    "body25": _without_head_top({"middle_hip": 1.0}, {"neck": 1.0}),
    "halpe26": _HALPE_TO_H36M,
    "coco133": _COCO_TO_H36M,
    "halpe136": _HALPE_TO_H36M,
    "h36m17": _kept(H36M.joint_names),
}
"""Layout -> how Human3.6M's joints are made of it; every one of LAYOUTS has one."""


SKELETON_JOINTS: dict[str, dict[str, str]] = {
    "h36m": {},
    "humaneva15": {},
    "3dhp": {"head_top": "head", "neck": "thorax", "head": "neck"},
}
"""Skeleton -> its joints that Human3.6M has under another name: the same places of the body, as near as the data sets'
own definitions come to each other."""


def joints_in_h36m(skeleton: Skeleton) -> list[int]:
    """Which of Human3.6M's joints stands for each of the skeleton's: `points[..., joints_in_h36m(skeleton), :]`."""
    other_names = SKELETON_JOINTS[skeleton.name]
    return [H36M.joint_names.index(other_names.get(name, name)) for name in skeleton.joint_names]


def made_joints(layout: str) -> list[str]:
    """Human3.6M's joints that are no single joint of the layout."""
    return [name for name, recipes in CONVERSIONS[layout].items() if len(recipes[0]) > 1]


def convert_joints(keypoints: np.ndarray, confidences: np.ndarray, layout: str) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of a detector as Human3.6M's.

    Args:
        keypoints: (..., J, 2), pixels, all joints of the layout in its order; NaN where a joint was not found.
        confidences: (..., J).
        layout: a name of LAYOUTS.

    Returns:
        (..., 17, 2), NaN where no recipe has all its sources, and (..., 17): a made joint's confidence is the least of
        its sources', 0 where there is no joint.
    """
    names = LAYOUTS[layout].joint_names
    points, trusts = [], []
    for recipes in CONVERSIONS[layout].values():
        point = np.full((*keypoints.shape[:-2], 2), np.nan)
        trust = np.zeros(confidences.shape[:-1])
        for recipe in recipes:
            joints = [names.index(joint) for joint in recipe]
            made = np.tensordot(keypoints[..., joints, :], np.array(list(recipe.values())), axes=(-2, 0))
            fresh = np.isnan(point[..., 0]) & ~np.isnan(made[..., 0])
            point = np.where(fresh[..., None], made, point)
            trust = np.where(fresh, confidences[..., joints].min(axis=-1), trust)
        points.append(point)
        trusts.append(trust)
    return np.stack(points, axis=-2), np.stack(trusts, axis=-1)
