"""Poses to pictures: a contact sheet (.png), an animation (.gif, .mp4) or a page (.html) of what the lifter predicted.

The caller hands over a `Scene` and a file name. Every panel is an object that makes its artists once and moves them
for each frame; nothing here computes a pose. Letters: H hypotheses, F frames, J joints.
"""

import contextlib
import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import cast

import imageio_ffmpeg
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection
from PIL import Image
from tqdm import tqdm

from common.errors import DataError, UsageError
from common.files import replacing
from common.pose_page import write_page
from common.scenes import (
    ELEVATION,
    GRID_SPACING,
    SIDE_COLOURS,
    SIDES,
    Scene,
    choose_frames,
    floor_and_radius,
    joint_sides,
    keypoint_box,
)
from common.video_frames import ImageSequence, Video, open_images

TEXT, FAINT_TEXT, FLOOR, GRID, SHADOW, BORDER = "#222222", "#777777", "#F7F7F7", "#DCDCDC", "#CFCFCF", "#CCCCCC"

DPI = 100
SHEET_DPI = 150
SHEET_CELL = 2.1  # inches
GIF_TICK = 0.01  # seconds: a gif's unit of time
GIF_SHORTEST = 2  # ticks: viewers slow shorter frames down


def render(
    path: str | os.PathLike,
    scene: Scene,
    *,
    num_frames: int = 6,
    size: float = 5,
    limit: int = 0,
    downsample: int = 1,
    skip: int = 0,
    bitrate: int = 3000,
    video: Video | None = None,
    show_progress: bool = True,
) -> int | None:
    """Draw `scene` as the suffix of `path` asks: .png a contact sheet, .gif and .mp4 animations, .html a page.

    Args:
        path: the file to write; its folder is made if need be, an older file is replaced.
        scene: what to draw.
        num_frames: columns of a contact sheet; the others take no notice.
        size, bitrate, show_progress: as in `write_animation`; the others take no notice.
        limit, skip: as in `write_animation`.
        downsample: the same, and of a page; contact sheets take no notice.
        video: as in `write_animation`; a page has none.

    Returns:
        What `write_animation` does; None of the others.

    Raises:
        UsageError: another suffix, an option out of its range, or a video for a page.
        DataError: the video is absent, cannot be read, or is over before `skip`.
    """
    check_output(path, video=video)
    suffix = Path(path).suffix.lower()
    if suffix == ".png":
        write_contact_sheet(path, scene, num_frames, limit=limit, skip=skip, video=video)
    elif suffix == ".html":
        write_page(path, scene, limit=limit, downsample=downsample, skip=skip)
    else:
        return write_animation(
            path,
            scene,
            size=size,
            limit=limit,
            downsample=downsample,
            skip=skip,
            bitrate=bitrate,
            video=video,
            show_progress=show_progress,
        )
    return None


def check_output(
    path: str | os.PathLike,
    suffixes: tuple[str, ...] = (".gif", ".mp4", ".png", ".html"),
    video: Video | None = None,
) -> None:
    """Worth asking before the long work, not after it.

    Raises:
        UsageError: `path` ends in none of `suffixes`, or it is a page, which cannot show the `video`.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in suffixes:
        expected = " or ".join([", ".join(suffixes[:-1]), suffixes[-1]] if len(suffixes) > 1 else suffixes)
        raise UsageError(f"cannot render to {Path(path).name!r}: found suffix {suffix!r}, expected {expected}")
    if suffix.lower() == ".html" and video is not None:
        raise UsageError(f"cannot render to {Path(path).name!r} with a video: a page has none; take .mp4, .gif or .png")


def check_video(path: str | os.PathLike) -> None:
    """Raise DataError unless `path` is a video whose first frame can be read: worth asking before the long work."""
    with contextlib.closing(_read_video(path, [0])) as frames:
        next(frames)


def write_contact_sheet(
    path: str | os.PathLike,
    scene: Scene,
    num_frames: int = 6,
    *,
    limit: int = 0,
    skip: int = 0,
    video: Video | None = None,
) -> None:
    """Write a .png with one column for each of `num_frames` frames, evenly spread over the clip.

    Rows: the 2D input, cropped to where the person is; the prediction; the ground truth, if any.

    Args:
        path: the .png to write; its folder is made if need be, an older file is replaced.
        scene: what to draw.
        num_frames: columns; a shorter clip has one for each of its frames.
        limit, skip, video: as in `write_animation`.

    Raises:
        UsageError: the suffix is not .png, or an option is out of its range.
        DataError: the video is absent, cannot be read, or is over before `skip`.
    """
    check_output(path, (".png",))
    with replacing(path) as part:
        _sheet(scene, num_frames, limit, skip, video).save(part, format="PNG", dpi=(SHEET_DPI, SHEET_DPI))


def contact_sheet(scene: Scene, num_frames: int = 6) -> np.ndarray:
    """What `write_contact_sheet` writes, as (height, width, 3) uint8."""
    return np.asarray(_sheet(scene, num_frames, limit=0, skip=0, video=None))


def _sheet(scene: Scene, num_frames: int, limit: int, skip: int, video: Video | None) -> Image.Image:
    if num_frames < 1:
        raise UsageError(f"the contact sheet has {num_frames} frames; expected at least 1")
    clip = choose_frames(scene, limit, downsample=1, skip=skip)
    columns = np.linspace(0, len(clip) - 1, min(num_frames, len(clip))).round().astype(int)
    frames = [clip[column] for column in columns]
    images = dict(_read_video(video, frames)) if video is not None else {}
    return _pixels(_draw_sheet(scene, frames, images))


def write_animation(
    path: str | os.PathLike,
    scene: Scene,
    *,
    size: float = 5,
    limit: int = 0,
    downsample: int = 1,
    skip: int = 0,
    bitrate: int = 3000,
    video: Video | None = None,
    show_progress: bool = True,
) -> int:
    """Write a .gif or .mp4 with the panels "Input", "Prediction" and, if there is one, "Ground truth".

    The animation runs at the clip's own speed. A .gif is put together in memory (about a megabyte for each
    frame at size 5) and shows at most 50 frames a second, slowing faster ones down: take .mp4 or `downsample`.

    Args:
        path: the file to write; its folder is made if need be, an older file is replaced.
        scene: what to draw.
        size: height of a panel in hundreds of pixels.
        limit: draw only so many frames of the clip, counted after `skip` and before `downsample`; 0 is all.
        downsample: draw every n-th frame.
        skip: leave out the first frames, of the clip and of the video alike, so that they stay in step.
        bitrate: of an .mp4, kbit/s.
        video: the clip's video or the folder of its images, frame for frame, drawn behind the 2D keypoints; where it
            ends the animation ends.
        show_progress: a progress bar on standard error.

    Returns:
        how many frames it has.

    Raises:
        UsageError: another suffix, or an option out of its range.
        DataError: the video is absent, cannot be read, or is over before `skip`.
    """
    check_output(path, (".gif", ".mp4"))
    if size <= 0 or bitrate <= 0:
        raise UsageError(f"size is {size} and bitrate is {bitrate}; expected positive numbers")
    frames = choose_frames(scene, limit, downsample, skip)
    animation = _Animation(scene, frames, size, has_video=video is not None)
    drawn = _draw_frames(animation, frames, video)
    progress = tqdm(drawn, total=len(frames), desc=Path(path).name, unit="frame", disable=not show_progress)
    fps = scene.fps / downsample
    with replacing(path) as part, contextlib.closing(drawn):
        if part.suffix.lower() == ".gif":
            _save_gif(part, progress, len(frames), fps, one_palette=video is None)
        else:
            _save_mp4(part, progress, fps, bitrate)
    return animation.num_shown


# What is drawn: panels


class _InputPanel:
    """2D keypoints over the video frame, or over nothing."""

    def __init__(self, axes, scene: Scene, box: tuple[float, float, float, float], unit: float, has_video: bool):
        """`box`: left, right, top, bottom of the visible part, pixels. `unit`: the width of a prediction's bone."""
        self.keypoints = np.asarray(scene.keypoints_2d, float)
        self.bones = np.array(scene.skeleton.bones)
        width, height = scene.image_size
        sides = joint_sides(scene.skeleton)
        left, right, top, bottom = box
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
        axes.patch.set_visible(False)
        for spine in axes.spines.values():
            spine.set(color=BORDER, linewidth=0.4 * unit)
        self.image = None
        if has_video:
            self.image = axes.imshow(np.full((1, 1, 3), 255, np.uint8), extent=(0, width, height, 0), zorder=0)
            axes.set(xlim=(left, right), ylim=(bottom, top))
        # Against a photograph the bones need a light rim.
        rim = [Stroke(linewidth=1.7 * unit, foreground="white"), Normal()] if has_video else None
        self.lines = LineCollection(
            self.keypoints[0][self.bones],
            colors=[SIDE_COLOURS[sides[joint]] for joint, _ in self.bones],
            linewidths=0.85 * unit,
            capstyle="round",
            path_effects=rim,
            zorder=2,
        )
        axes.add_collection(self.lines, autolim=False)

    def show(self, frame: int, image: np.ndarray | None = None) -> None:
        self.lines.set_segments(self.keypoints[frame][self.bones])
        if self.image is not None:
            blank = np.full((1, 1, 3), 255, np.uint8)
            self.image.set_data(blank if image is None else image)


class _PosePanel:
    """A pose on a round piece of floor that follows the root."""

    def __init__(self, axes, scene: Scene, poses, hypotheses, radius: float, floor: float, unit: float):
        """`poses` (F, J, 3) and `hypotheses` (H, F, J, 3) or None: world, metres. `radius`, `floor`: metres."""
        self.axes, self.radius, self.floor = axes, radius, floor
        self.poses = np.asarray(poses, float)
        self.hypotheses = None if hypotheses is None else np.asarray(hypotheses, float)
        self.root = scene.skeleton.root
        self.bones = np.array(scene.skeleton.bones)
        sides = joint_sides(scene.skeleton)
        self.bone_colours = np.array([SIDE_COLOURS[sides[joint]] for joint, _ in self.bones])
        azimuth, elevation = np.radians([scene.azimuth, ELEVATION])
        self.towards_viewer = np.array(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        )

        axes.set_axis_off()
        axes.patch.set_visible(False)
        axes.computed_zorder = False
        axes.set_proj_type("ortho")
        axes.view_init(elev=ELEVATION, azim=scene.azimuth)
        axes.set_box_aspect((1, 1, 1), zoom=1.47)

        def lines(segments, **style):
            collection = Line3DCollection(segments, capstyle="round", **style)
            axes.add_collection3d(collection)
            return collection

        bones = self.poses[0][self.bones]
        self.disc = Poly3DCollection([self._circle(0.0, 0.0)], facecolors=FLOOR, edgecolors=GRID, zorder=0)
        self.disc.set_linewidth(0.3 * unit)
        axes.add_collection3d(self.disc)
        self.grid = lines(self._grid(0.0, 0.0), colors=GRID, linewidths=0.3 * unit, zorder=1)
        self.shadow = lines(bones, colors=SHADOW, linewidths=0.9 * unit, zorder=2)
        self.thin = None
        if self.hypotheses is not None:
            H = len(self.hypotheses)
            self.thin = lines(
                self._hypothesis_bones(0),
                colors=np.tile(self.bone_colours, H),
                linewidths=0.3 * unit,
                alpha=_hypothesis_alpha(H),
                zorder=3,
            )
        self.lines = lines(bones, colors=self.bone_colours, linewidths=unit, zorder=4)

    def show(self, frame: int) -> None:
        pose = self.poses[frame]
        x, y, _ = pose[self.root]
        r = self.radius
        # Seen from above, the floor's near edge hangs below its middle: make room for it.
        low = self.floor - 0.13 * r
        self.axes.set(xlim=(x - r, x + r), ylim=(y - r, y + r), zlim=(low, low + 2 * r))
        self.disc.set_verts([self._circle(x, y)])
        self.grid.set_segments(self._grid(x, y))

        bones = pose[self.bones]
        shadow = bones.copy()
        shadow[..., 2] = self.floor
        self.shadow.set_segments(shadow)
        if self.thin is not None:
            self.thin.set_segments(self._hypothesis_bones(frame))
        # Painter's order: the bone that is farthest from the viewer first.
        order = np.argsort(bones.mean(axis=1) @ self.towards_viewer, kind="stable")
        self.lines.set_segments(bones[order])
        self.lines.set_color(self.bone_colours[order])

    def _hypothesis_bones(self, frame: int) -> np.ndarray:
        assert self.hypotheses is not None  # or there is nothing to draw of them
        return self.hypotheses[:, frame][:, self.bones].reshape(-1, 2, 3)

    def _circle(self, x: float, y: float) -> np.ndarray:
        angle = np.linspace(0, 2 * np.pi, 73)
        circle = [x + self.radius * np.cos(angle), y + self.radius * np.sin(angle), np.full_like(angle, self.floor)]
        return np.stack(circle, axis=-1)

    def _grid(self, x: float, y: float) -> np.ndarray:
        """(lines, 2, 3): the lines of a grid that is fixed in the world, cut to the circle around (x, y)."""
        segments = []
        for axis, (along, across) in enumerate(((x, y), (y, x))):
            first = np.ceil((across - self.radius) / GRID_SPACING)
            last = np.floor((across + self.radius) / GRID_SPACING)
            at = np.arange(first, last + 1) * GRID_SPACING
            half = np.sqrt(np.maximum(self.radius**2 - (at - across) ** 2, 0))
            ends = np.empty((len(at), 2, 3))
            ends[:, 0, axis], ends[:, 1, axis] = along - half, along + half
            ends[..., 1 - axis] = at[:, None]
            ends[..., 2] = self.floor
            segments.append(ends)
        return np.concatenate(segments)


def _hypothesis_alpha(num_hypotheses: int) -> float:
    """Many lines are fainter, so that together they stay a haze around the prediction."""
    return float(np.clip(1.2 / np.sqrt(num_hypotheses), 0.15, 0.6))


# Where it is drawn: figures


def _new_figure(width: int, height: int, dpi: int) -> Figure:
    """A white figure of exactly so many pixels. It knows no window system and no pyplot."""
    tiny = 1e-6  # the canvas cuts fractions of a pixel off
    figure = Figure(figsize=(width / dpi + tiny, height / dpi + tiny), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _agg(figure: Figure) -> FigureCanvasAgg:
    return cast(FigureCanvasAgg, figure.canvas)


def _pixels(figure: Figure) -> Image.Image:
    figure.canvas.draw()
    return Image.fromarray(np.asarray(_agg(figure).buffer_rgba())[..., :3].copy())


def _place(figure: Figure, left: float, top: float, width: float, height: float, **kwargs):
    """New axes; the place is in pixels from the figure's upper left corner."""
    W, H = figure.bbox.size
    return figure.add_axes((left / W, 1 - (top + height) / H, width / W, height / H), **kwargs)


def _write(figure: Figure, x: float, y: float, text: str, size: float, **kwargs):
    """Text at a place in pixels from the upper left corner; `size` in pixels."""
    W, H = figure.bbox.size
    options = {"color": TEXT, "ha": "left", "va": "center"} | kwargs
    return figure.text(x / W, 1 - y / H, text, fontsize=size * 72 / figure.dpi, **options)


def _write_title(figure: Figure, x: float, y: float, text: str, size: float, max_width: float) -> None:
    """A line of text that gets smaller until it fits."""
    title = _write(figure, x, y, text, size, weight="bold")
    width = title.get_window_extent(_agg(figure).get_renderer()).width
    if width > max_width:
        title.set_fontsize(title.get_fontsize() * max_width / width)


def _add_legend(figure: Figure, scene: Scene, x: float, y: float, size: float, unit: float) -> None:
    """One line that says which colour is which side; (x, y) is its left end, `size` its text, in pixels."""
    handles = [Line2D([], [], color=SIDE_COLOURS[s], linewidth=unit, solid_capstyle="round") for s in SIDES]
    labels = [f"{SIDES[0]} side", f"{SIDES[1]} side", SIDES[2]]
    if scene.hypotheses is not None:
        count = len(scene.hypotheses)
        handles.append(Line2D([], [], color=FAINT_TEXT, linewidth=0.35 * unit, alpha=0.7))
        labels.append("1 hypothesis" if count == 1 else f"{count} hypotheses")
    W, H = figure.bbox.size
    figure.legend(
        handles,
        labels,
        loc="center left",
        bbox_to_anchor=(x / W, 1 - y / H),
        ncols=len(labels),
        frameon=False,
        fontsize=size * 72 / figure.dpi,
        labelcolor=TEXT,
        handlelength=1.4,
        handletextpad=0.5,
        columnspacing=1.6,
        borderpad=0,
        borderaxespad=0,
    )


def _error_text(scene: Scene, frame: int) -> str:
    if scene.error_mm is None or scene.ground_truth is None:
        return ""
    return f"error {scene.error_mm[frame]:.1f} mm"


def _spread_text(scene: Scene, frame: int) -> str:
    return "" if scene.joint_spread_mm is None else f"spread {scene.joint_spread_mm[frame].mean():.1f} mm"


class _Animation:
    """The figure of an animation: made once, then `show` moves what is in it."""

    def __init__(self, scene: Scene, frames: list[int], size: float, has_video: bool):
        self.scene, self.num_shown = scene, 0
        self.last, _ = scene.number_and_time(frames[-1])  # as a page counts: a part of a clip keeps the clip's numbers
        side = max(DPI * size, 32)  # pixels
        unit = 0.8 * size  # points: the width of a bone
        gap, text = 0.05 * side, 0.042 * side
        header = 0.12 * side if scene.title else 0.02 * side
        headings, footer = 0.08 * side, 0.11 * side
        image_w, image_h = scene.image_size
        input_width = side * np.clip(image_w / image_h, 0.6, 1.6)
        poses = [("Prediction", scene.prediction, scene.hypotheses)]
        if scene.ground_truth is not None:
            poses.append(("Ground truth", scene.ground_truth, None))
        width = gap + input_width + len(poses) * (gap + side) + gap
        height = header + headings + side + footer
        # Video encoders want even numbers.
        figure = self.figure = _new_figure(2 * round(width / 2), 2 * round(height / 2), DPI)
        if scene.title:
            _write_title(figure, gap, 0.075 * side, scene.title, 1.25 * text, width - 2 * gap)

        top = header + headings
        middle = header + headings / 2
        # The frame of the input keeps clear of its heading.
        axes = _place(figure, gap, top + 0.01 * side, input_width, 0.98 * side)
        axes.set_anchor("N")
        self.input = _InputPanel(axes, scene, (0, image_w, 0, image_h), unit, has_video)
        _write(figure, gap + input_width / 2, middle, "Input", text, ha="center")

        floor, radius = floor_and_radius(scene, frames)
        self.poses = []
        for i, (name, pose, hypotheses) in enumerate(poses):
            left = 2 * gap + input_width + i * (gap + side)
            axes = _place(figure, left, top, side, side, projection="3d")
            self.poses.append(_PosePanel(axes, scene, pose, hypotheses, radius, floor, unit))
            _write(figure, left + side / 2, middle, name, text, ha="center")
        prediction_left = 2 * gap + input_width
        self.spread = _write(figure, prediction_left, middle, "", 0.9 * text, color=FAINT_TEXT)
        self.error = _write(figure, prediction_left + side, middle, "", 0.9 * text, ha="right", color=FAINT_TEXT)

        bottom = height - footer / 2
        _add_legend(figure, scene, gap, bottom, 0.9 * text, unit)
        self.time = _write(figure, width - gap, bottom, "", 0.9 * text, ha="right", color=FAINT_TEXT)

    def show(self, frame: int, image: np.ndarray | None) -> None:
        self.num_shown += 1
        self.input.show(frame, image)
        for panel in self.poses:
            panel.show(frame)
        self.error.set_text(_error_text(self.scene, frame))
        self.spread.set_text(_spread_text(self.scene, frame))
        number, seconds = self.scene.number_and_time(frame)
        self.time.set_text(f"frame {number} of {self.last}    {seconds:.2f} s")


def _draw_sheet(scene: Scene, frames: list[int], images: dict[int, np.ndarray]) -> Figure:
    """The whole sheet, drawn: a column for each of `frames`."""
    cell = SHEET_CELL * SHEET_DPI
    gap, text, unit = 0.06 * cell, 0.065 * cell, 0.9 * SHEET_CELL
    margin, header = 0.16 * cell, 0.24 * cell if scene.title else 0.06 * cell
    headings, footer = 0.13 * cell, 0.16 * cell
    rows = [("Prediction", scene.prediction, scene.hypotheses)]
    if scene.ground_truth is not None:
        rows.append(("Ground truth", scene.ground_truth, None))
    columns = max(len(frames), 1.9)  # the legend needs some room
    width = margin + columns * (cell + gap)
    error_line = 0.07 * cell if _error_text(scene, 0) or _spread_text(scene, 0) else 0
    height = header + headings + (1 + len(rows)) * (cell + gap) + error_line + footer
    figure = _new_figure(round(width), round(height), SHEET_DPI)
    if scene.title:
        _write_title(figure, margin, 0.13 * cell, scene.title, 1.3 * text, width - margin - gap)

    tops = [header + headings + row * (cell + gap) + (row > 1) * error_line for row in range(1 + len(rows))]
    for top, name in zip(tops, ("Input", *(name for name, _, _ in rows)), strict=True):
        _write(figure, margin / 2, top + cell / 2, name, text, rotation=90, ha="center")
    box = keypoint_box(scene, frames)
    floor, radius = floor_and_radius(scene, frames)
    for column, frame in enumerate(frames):
        left = margin + column * (cell + gap)
        number, seconds = scene.number_and_time(frame)
        label = f"frame {number}    {seconds:.2f} s"
        _write(figure, left + cell / 2, header + headings / 2, label, 0.9 * text, ha="center", color=FAINT_TEXT)
        axes = _place(figure, left, tops[0], cell, cell)
        _InputPanel(axes, scene, box, unit, has_video=bool(images)).show(frame, images.get(frame))
        for top, (_, poses, hypotheses) in zip(tops[1:], rows, strict=True):
            axes = _place(figure, left, top, cell, cell, projection="3d")
            _PosePanel(axes, scene, poses, hypotheses, radius, floor, unit).show(frame)
        numbers = [text for text in (_error_text(scene, frame), _spread_text(scene, frame)) if text]
        _write(
            figure,
            left + cell / 2,
            tops[1] + cell + (gap + error_line) / 2,
            "    ".join(numbers),
            0.85 * text,
            ha="center",
            color=FAINT_TEXT,
        )
    _add_legend(figure, scene, margin, height - footer / 2, 0.9 * text, unit)
    return figure


# Frames in, files out


def _read_video(video: Video, frames: Iterable[int]) -> Generator[tuple[int, np.ndarray], None, None]:
    """(index, (height, width, 3) uint8) for each of the increasing indices, up to the video's end.

    Raises:
        DataError: no such file, not a video, or it ends before the first of `frames`.
    """
    images = video if isinstance(video, ImageSequence) else open_images(video)
    wanted = list(frames)
    found = 0
    with contextlib.closing(iter(images)) as reader:
        for index, image in zip(range(wanted[-1] + 1), reader, strict=False):
            if index == wanted[found]:
                found += 1
                yield index, image
    if found == 0:
        first = images.first_frame + wanted[0] + 1
        raise DataError(f"video {images.path} is over before frame {first}; skip fewer frames or take a longer video")


def _draw_frames(animation: _Animation, frames: list[int], video) -> Generator[Image.Image, None, None]:
    images = ((frame, None) for frame in frames) if video is None else _read_video(video, frames)
    with contextlib.closing(images):
        for frame, image in images:
            animation.show(frame, image)
            yield _pixels(animation.figure)


def _save_gif(path: Path, images: Iterable[Image.Image], num_frames: int, fps: float, one_palette: bool) -> None:
    """Without a video every frame has the same few colours, and one palette keeps them from flickering."""
    # Whole ticks that add up: 30 frames a second are 3, 4, 3, 3, 4, ... hundredths.
    ends = np.round(np.arange(num_frames + 1) / (fps * GIF_TICK)).astype(int)
    durations = [int(1000 * GIF_TICK) * max(int(ticks), GIF_SHORTEST) for ticks in np.diff(ends)]
    palette = None

    def quantize(image: Image.Image) -> Image.Image:
        nonlocal palette
        if palette is None or not one_palette:
            palette = image.quantize(255)
        indices = np.array(image.quantize(palette=palette, dither=Image.Dither.NONE))
        # The quantizer mixes the paper with the palest tints; a colour of its own keeps it white.
        indices[(np.asarray(image) == 255).all(axis=-1)] = 255
        colours = palette.getpalette()
        assert colours is not None  # `quantize` gives its image one
        colours = colours[: 3 * 255]
        quantized = Image.fromarray(indices)
        quantized.putpalette(colours + [255] * (3 * 256 - len(colours)))
        return quantized

    quantized = (quantize(image) for image in images)
    first = next(quantized)
    first.save(path, format="GIF", save_all=True, append_images=quantized, duration=durations, loop=0)


def _save_mp4(path: Path, images: Iterable[Image.Image], fps: float, bitrate: int) -> None:
    writer = None
    try:
        for image in images:
            if writer is None:
                writer = imageio_ffmpeg.write_frames(
                    str(path),
                    image.size,
                    fps=fps,
                    codec="libx264",
                    bitrate=f"{bitrate}k",
                    macro_block_size=2,
                    ffmpeg_log_level="error",
                    output_params=["-movflags", "+faststart"],
                )
                writer.send(None)
            writer.send(image.tobytes())
    finally:
        if writer is not None:
            writer.close()
