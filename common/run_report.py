"""An evaluation as one HTML page: tables, curves, the worst and the best clips, and every option."""

import base64
import io
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
from PIL import Image

from common.arguments import Options
from common.curves import PckCurve, Series, joints_svg, pck_svg, steps_svg
from common.evaluation import PROTOCOLS, ClipResult
from common.rendering import contact_sheet
from common.scenes import Scene, clip_scene
from common.settings import LEGEND, SETTINGS
from common.skeleton import Skeleton
from common.templates import fill

RANKED_BY = "P_Agg"
"""The setting by which a clip is good or bad: the one that needs nothing."""
NUM_PICTURES = 3
"""Of the worst clips, and of the best."""


def run_report(data: dict, clips: Sequence[ClipResult], skeleton: Skeleton, source: str) -> str:
    """The page's text. Its numbers are those of the JSON, so that the two cannot differ.

    Args:
        data: what the evaluation's JSON holds (`common.results.as_data`).
        clips: of the same evaluation, in the order of data["clips"].
        skeleton: whose joints these are.
        source: the JSON's name.
    """
    protocols = {
        f"protocol_{number}": name for number, name in PROTOCOLS.items() if f"protocol_{number}" in data["average"]
    }
    settings = list(data["average"].get("protocol_1", ()))
    measured = [(clip, found) for clip, found in zip(data["clips"], clips, strict=True) if clip["frames"]]
    ranked = sorted(measured, key=lambda each: each[0]["protocol_1"][RANKED_BY], reverse=True)
    worst = ranked[: min(NUM_PICTURES, (len(ranked) + 1) // 2)]
    best = ranked[len(worst) :][::-1][:NUM_PICTURES]
    return fill(
        "run_report.html",
        data=data,
        source=source,
        row=next(iter(data["subjects"][next(iter(data["subjects"]))])).removesuffix("s"),
        protocols=protocols,
        settings=[(name, SETTINGS[name].marked) for name in settings],
        legend=LEGEND,
        curves=_curves(data, protocols),
        ranked_by=SETTINGS[RANKED_BY].label,
        ranked=[clip for clip, _ in ranked],
        pictures=[
            (heading, [(clip, _picture(found, skeleton)) for clip, found in of_kind])
            for heading, of_kind in (("Worst clips", worst), ("Best clips", best))
            if of_kind
        ],
        options=_options(data["options"]),
    )


def _curves(data: dict, protocols: dict[str, str]) -> list[tuple[str, str]]:
    """(what it shows, the picture as a data URL) of each curve."""

    def series(errors: dict[str, list[float]]) -> list[Series]:
        return [Series(SETTINGS[name].marked, values, SETTINGS[name].oracle) for name, values in errors.items()]

    found = []
    for protocol, name in protocols.items():
        found.append((f"{name} over the sampling steps", steps_svg(series(data["average"][protocol]), name)))
    for subject, of_subject in data["subjects"].items():
        for protocol, errors in of_subject["average"]["joint_errors"].items():
            whose = "" if subject == "all" else f"{subject}: "
            name = protocols[protocol]
            found.append((f"{whose}{name} of each joint, last step", joints_svg(data["joints"], series(errors), name)))
    if "pck" in data:
        curves = [
            PckCurve(name, SETTINGS[name].marked, score["curve"], score["auc"], SETTINGS[name].oracle)
            for name, score in data["pck"]["settings"].items()
        ]
        found.append(
            ("PCK over its threshold, mean over sequences, last step", pck_svg(data["pck"]["thresholds_mm"], curves))
        )
    return [(title, _data_url("image/svg+xml", picture)) for title, picture in found]


def shown_scene(found: ClipResult, skeleton: Skeleton) -> Scene:
    """The frames of a clip that the evaluation kept, as a scene without a title; at least one frame was measured."""
    clip = found.clip
    frames = np.array(list(found.shown))
    part = replace(clip, **{name: array[frames] for name, array in clip.arrays().items()})
    scene = clip_scene(part, np.stack(list(found.shown.values()), axis=1), skeleton)
    return replace(scene, frame_numbers=frames, title="")


def _picture(found: ClipResult, skeleton: Skeleton) -> str:
    sheet = contact_sheet(shown_scene(found, skeleton), len(found.shown))
    buffer = io.BytesIO()
    # A hundred colours are enough for lines, and make a third of the bytes.
    Image.fromarray(sheet).quantize(100, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return _data_url("image/png", buffer.getvalue())


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _options(given: dict) -> list[tuple[str, str, bool]]:
    """(flag, value, whether it differs from the default) of every option that has a flag."""
    usual, flags = Options().as_data(), {entry.name for entry in fields(Options) if entry.metadata}

    def text(value: object) -> str:
        return ",".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)

    return [
        (Options().flag(name), text(value), value != usual.get(name)) for name, value in given.items() if name in flags
    ]
