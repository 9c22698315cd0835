"""Joint layouts of 2D detectors, and how each joint of our skeletons is made of theirs.

A conversion is data: target joint -> recipes, and a recipe is the weights of source joints, which sum to 1. The first
recipe whose sources were all found in a frame makes the joint there; later ones are for joints that are hidden.

What Human3.6M's joints mean, and what a detector's point stands for them:

    pelvis    the middle of the hips: made so, or the detector's own.
    thorax    the base of the neck, from which the shoulders hang: about 8 cm above the middle of the shoulders of who
              stands with the arms down, a fifth of the way from the pelvis to there. So it is 1.2 times the middle of
              the shoulders less 0.2 times the pelvis; with raised arms that is some centimetres too high. Halpe has a
              neck, which is taken as it is.
    spine     halfway from pelvis to thorax. Human3.6M's lies some centimetres nearer to the back; no detector has that.
    neck      Human3.6M's point lies inside the head, near the nose. Detectors have the nose, some centimetres in front
              of it. From behind, where OpenPose leaves the nose out, it is the middle of the ears.
    head      the top of the head. Halpe has it. COCO and OpenPose do not: it is put above the ears, half as far as they
              are above the middle of the shoulders. An estimate: it follows the neck and not a nod of the head.

Legs and arms are the detector's own; on clothed people they are some centimetres from Human3.6M's joint centres.

Sources: the layouts are those of COCO (Lin et al. 2014), Halpe (Fang et al. 2022) and OpenPose (Cao et al. 2019); the
weights are our own.
"""

from dataclasses import dataclass

import numpy as np

from common.skeleton import H36M, MPI_INF_3DHP

Recipe = dict[str, float]
"""Source joint -> weight; the weights sum to 1."""
Conversion = dict[str, tuple[Recipe, ...]]
"""Target joint -> recipes, the best first; in the order of the target's joints."""


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
        Layout("3dhp17", MPI_INF_3DHP.joint_names, 17),
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


def _ordered(target: tuple[str, ...], conversion: Conversion) -> Conversion:
    return {name: conversion[name] for name in target}


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


def _without_head_top(pelvis: Recipe, shoulders: Recipe) -> Conversion:
    """Human3.6M's joints from a layout without a head top, given what is its pelvis and middle of the shoulders."""
    thorax = _blend((1.2, shoulders), (-0.2, pelvis))
    trunk = {
        "pelvis": (pelvis,),
        "spine": (_blend((0.5, pelvis), (0.5, thorax)),),
        "thorax": (thorax,),
        "neck": (_HEAD_POINTS[-1], *_HEAD_POINTS[:-1]),
        "head": tuple(_blend((1.5, point), (-0.5, shoulders)) for point in _HEAD_POINTS),
    }
    return _ordered(H36M.joint_names, {**_LIMBS, **trunk})


_COCO_TO_H36M = _without_head_top(_HIPS, _SHOULDERS)
_HALPE_TO_H36M = _ordered(
    H36M.joint_names,
    {
        **_LIMBS,
        "pelvis": ({"middle_hip": 1.0},),
        "spine": ({"middle_hip": 0.5, "neck": 0.5},),
        "thorax": ({"neck": 1.0},),
        "neck": ({"nose": 1.0},),
        "head": ({"head": 1.0},),
    },
)
# 3DHP's spine lies 0.49 of the way from pelvis to neck and its head 0.32 of the way from neck to head top, on average
# over the annotations of its test sequence TS5.
_HALPE_TO_3DHP = _ordered(
    MPI_INF_3DHP.joint_names,
    {
        **_LIMBS,
        "head_top": ({"head": 1.0},),
        "neck": ({"neck": 1.0},),
        "pelvis": ({"middle_hip": 1.0},),
        "spine": ({"middle_hip": 0.5, "neck": 0.5},),
        "head": ({"neck": 2 / 3, "head": 1 / 3},),
    },
)

CONVERSIONS: dict[tuple[str, str], Conversion] = {
    ("coco17", "h36m17"): _COCO_TO_H36M,
    ("coco133", "h36m17"): _COCO_TO_H36M,
    ("coco18", "h36m17"): _without_head_top(_HIPS, {"neck": 1.0}),  # OpenPose's neck is the middle of the shoulders
    ("body25", "h36m17"): _without_head_top({"middle_hip": 1.0}, {"neck": 1.0}),
    ("halpe26", "h36m17"): _HALPE_TO_H36M,
    ("halpe136", "h36m17"): _HALPE_TO_H36M,
    ("h36m17", "h36m17"): _kept(H36M.joint_names),
    ("halpe26", "3dhp17"): _HALPE_TO_3DHP,
    ("halpe136", "3dhp17"): _HALPE_TO_3DHP,
    ("3dhp17", "3dhp17"): _kept(MPI_INF_3DHP.joint_names),
}
"""(source layout, target layout) -> how the target's joints are made."""


def sources_of(target: str) -> list[str]:
    """The layouts that can be turned into `target`."""
    return [source for source, other in CONVERSIONS if other == target]


def made_joints(source: str, target: str) -> list[str]:
    """The target's joints that are no single joint of the source."""
    return [name for name, recipes in CONVERSIONS[source, target].items() if len(recipes[0]) > 1]


def convert_joints(
    keypoints: np.ndarray, confidences: np.ndarray, source: str, target: str = "h36m17"
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of one layout as those of another.

    Args:
        keypoints: (..., J, 2), pixels, all joints of the source layout in its order; NaN where a joint was not found.
        confidences: (..., J).
        source, target: names of LAYOUTS for which there is a conversion.

    Returns:
        (..., J', 2), NaN where no recipe has all its sources, and (..., J'): a made joint's confidence is the least of
        its sources', 0 where there is no joint.
    """
    names = LAYOUTS[source].joint_names
    points, trusts = [], []
    for recipes in CONVERSIONS[source, target].values():
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
