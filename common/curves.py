"""Curves as pictures: training, errors over sampling steps and by joint, and PCK over its threshold."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.files import replacing
from common.metrics import AUC_THRESHOLDS, PCK_THRESHOLD

# The colour-blind-safe set of Okabe & Ito (2008), without its yellow, which is too pale for lines.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_PHONE = (4.4, 3.6)
"""Inches: text of this size is still read when the picture is as wide as a phone."""
_LINES = {
    "3d_train": ("loss (training steps)", "#999999"),
    "3d_pos_train": ("error on training clips", "#0072B2"),
    "3d_pos_valid": ("error on validation clips", "#D55E00"),
}


def write_curves(path: Path, history: list[dict]) -> None:
    """Loss and errors (mm) over epochs.

    Args:
        path: the .png to write.
        history: the rows of training_log.jsonl.
    """
    figure, axes = _new_figure(7, 4.2)
    for name, (label, colour) in _LINES.items():
        rows = [row for row in history if name in row]
        if rows:
            epochs, marker = [row["epoch"] for row in rows], "o" if len(rows) == 1 else None
            axes.plot(epochs, [row[name] for row in rows], label=label, color=colour, marker=marker)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="epoch", ylabel="mean joint error, mm", ylim=(0, None))
    axes.legend(frameon=False)
    _write_png(path, figure)


@dataclass(frozen=True)
class Series:
    """One setting's numbers, and how to show it: oracles are dashed, or hollow."""

    label: str
    values: Sequence[float]
    oracle: bool


def steps_svg(series: Sequence[Series], protocol: str) -> bytes:
    """Error (mm) over the sampling steps, a line a setting."""
    figure, axes = _new_figure(*_PHONE)
    for number, line in enumerate(series):
        steps = range(1, len(line.values) + 1)
        axes.plot(steps, line.values, label=line.label, marker="o", markersize=4, **_style(number, line.oracle))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="sampling step", ylabel=f"{protocol}, mm", ylim=(0, None))
    _legend_below(figure)
    return _svg(figure)


def joints_svg(joints: Sequence[str], series: Sequence[Series], protocol: str) -> bytes:
    """Error (mm) of each joint, a mark a setting."""
    figure, axes = _new_figure(_PHONE[0], 1.2 + 0.22 * len(joints))
    for number, marks in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        face = "none" if marks.oracle else colour
        axes.plot(
            marks.values, range(len(joints)), "o", label=marks.label, markeredgecolor=colour, markerfacecolor=face
        )
    axes.set_yticks(range(len(joints)), joints)
    axes.invert_yaxis()
    axes.set(xlabel=f"{protocol}, mm", xlim=(0, None))
    _legend_below(figure)
    return _svg(figure)


@dataclass(frozen=True)
class PckCurve:
    """PCK (percent) over thresholds (mm) of one setting, and how to show it."""

    setting: str
    label: str
    pck: Sequence[float]
    auc: float
    oracle: bool


def write_pck_curves(path: Path, thresholds: Sequence[float], curves: Sequence[PckCurve], title: str) -> None:
    """PCK over the threshold, a line a setting; oracles are dashed.

    Args:
        path: the .png to write.
        thresholds: mm, of each curve's values.
        curves: what to draw.
        title: over the picture.
    """
    figure, axes = _new_figure(7, 4.6)
    _draw_pck(axes, thresholds, curves)
    axes.set_title(title)
    axes.legend(loc="best", framealpha=1)
    _write_png(path, figure)


def pck_svg(thresholds: Sequence[float], curves: Sequence[PckCurve]) -> bytes:
    """The same for a report."""
    figure, axes = _new_figure(*_PHONE)
    _draw_pck(axes, thresholds, curves)
    _legend_below(figure)
    return _svg(figure)


def _draw_pck(axes: Axes, thresholds: Sequence[float], curves: Sequence[PckCurve]) -> None:
    axes.axvspan(0, AUC_THRESHOLDS[-1], color="#f2f2f2", zorder=0)
    axes.axvline(PCK_THRESHOLD, color="#666666", linewidth=1)
    top: dict[str, Any] = {"color": "#666666", "textcoords": "offset points", "xytext": (5, 0)}
    axes.annotate("AUC: the mean over this range", (0, 102), **top)
    axes.annotate(f"PCK: at {PCK_THRESHOLD:g} mm", (PCK_THRESHOLD, 102), **top)
    for number, curve in enumerate(curves):
        axes.plot(thresholds, curve.pck, label=f"{curve.label}: AUC {curve.auc:.1f} %", **_style(number, curve.oracle))
    axes.set(xlabel="threshold, mm", ylabel="PCK, % of joints", xlim=(0, max(thresholds)), ylim=(0, 108))
    axes.set_yticks(range(0, 101, 20))


def _style(number: int, oracle: bool) -> dict:
    return {"color": _COLOURS[number % len(_COLOURS)], "linestyle": "--" if oracle else "-", "linewidth": 1.8}


def _new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches that knows no window system and no pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend_below(figure: Figure) -> None:
    figure.legend(loc="outside lower center", ncols=2, frameon=False)


def _write_png(path: Path, figure: Figure) -> None:
    with replacing(path) as part:
        figure.savefig(part, dpi=150)


def _svg(figure: Figure) -> bytes:
    """The same bytes for the same figure."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "dsgdiffu"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
