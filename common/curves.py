"""The training curves as a picture."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common.files import replacing

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
    axes.set(xlabel="epoch", ylabel="mean joint error, mm", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with replacing(path) as part:
        figure.savefig(part, dpi=150)
