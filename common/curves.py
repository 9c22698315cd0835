"""Curves as pictures: training, and PCK over its threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.files import replacing
from common.metrics import AUC_THRESHOLDS, PCK_THRESHOLD

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
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, (label, colour) in _LINES.items():
        rows = [row for row in history if name in row]
        if rows:
            axes.plot([row["epoch"] for row in rows], [row[name] for row in rows], label=label, color=colour)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="mean joint error, mm", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with replacing(path) as part:
        figure.savefig(part, dpi=150)


@dataclass(frozen=True)
class PckCurve:
    """PCK (percent) over thresholds (mm), and how to show it."""

    label: str
    pck: Sequence[float]
    auc: float
    oracle: bool


_PCK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def write_pck_curves(path: Path, thresholds: Sequence[float], curves: Sequence[PckCurve], title: str) -> None:
    """PCK over the threshold, a line a setting; oracles are dashed.

    Args:
        path: the .png to write.
        thresholds: mm, of each curve's values.
        curves: what to draw.
        title: over the picture.
    """
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvspan(0, AUC_THRESHOLDS[-1], color="#f2f2f2", zorder=0)
    axes.axvline(PCK_THRESHOLD, color="#666666", linewidth=1)
    top = {"color": "#666666", "textcoords": "offset points", "xytext": (5, 0)}
    axes.annotate("AUC: the mean over this range", (0, 102), **top)
    axes.annotate(f"PCK: at {PCK_THRESHOLD:g} mm", (PCK_THRESHOLD, 102), **top)
    for number, curve in enumerate(curves):
        axes.plot(
            thresholds,
            curve.pck,
            label=f"{curve.label}: AUC {curve.auc:.1f} %",
            color=_PCK_COLOURS[number % len(_PCK_COLOURS)],
            linestyle="--" if curve.oracle else "-",
            linewidth=1.8,
        )
    axes.set(xlabel="threshold, mm", ylabel="PCK, % of joints", xlim=(0, max(thresholds)), ylim=(0, 108), title=title)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="best", framealpha=1)
    with replacing(path) as part:
        figure.savefig(part, dpi=150)
