"""From a video or keypoints to 3D poses and their files: what predict.py does."""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from common.arguments import ONNX_RUNTIME, PredictOptions, parse_predict_options
from common.bvh_export import check_bvh, write_bvh
from common.camera import LEVEL, Camera, image_coordinates, normalize_screen_coordinates
from common.clips import Clip
from common.errors import DataError, UsageError, exit_code, memory_in_one_line
from common.files import NotWrittenError, find_in_run, move_aside, writable_folder
from common.input_cameras import PinholeCamera, camera_from_fov, guessed_camera, read_intrinsics
from common.keypoint_checks import outside
from common.lifted_files import write_csv, write_lifted
from common.lifting import Lifted, Lifter, lift
from common.onnx_files import BEST_ONNX
from common.onnx_lifter import load_onnx_lifter
from common.pose_input import PersonTrack, PoseInput, is_keypoints, of_detections, read_keypoints
from common.rendering import render
from common.scenes import clip_scene
from common.solvers import Solver
from common.video_detection import detect_people, load_detector, write_detections
from common.video_frames import ImageSequence, open_images

_FILES = tuple(f"person_*{suffix}" for suffix in (".npz", ".csv", ".bvh", ".png", ".html", ".mp4", ".gif"))
"""What is written of the people."""
_OF_NETWORK = (
    "dataset", "text_encoder", "clip_weights", "compat_release", "num_frames", "solver", "eta", "gpu", "device",
    "precision", "compile", "num_proposals", "sampling_timesteps",
)  # fmt: skip
"""Options that `load_lifter` takes."""


class Network(Lifter, Protocol):
    """What lifts, and what is said of it."""

    @property
    def dataset(self) -> str:
        """What it was trained on."""
        ...

    @property
    def epoch(self) -> int: ...

    @property
    def num_timesteps(self) -> int:
        """T, of its diffusion."""
        ...


@dataclass(frozen=True)
class Shot:
    """What all people of an input share."""

    found: PoseInput
    images: ImageSequence | None
    """What they are seen in, where that is at hand."""
    camera: Camera | PinholeCamera
    fps: float

    @property
    def to_world(self) -> Rotation:
        """Camera space to a world with z up; for a camera that nothing is known of: it is level."""
        return self.camera.rotation if isinstance(self.camera, Camera) else LEVEL


def predict_script(argv: Sequence[str] | None, description: str) -> int:
    """Parse, predict, and turn a user's mistake into one line; returns the exit code."""

    def work() -> None:
        options = parse_predict_options(argv, description)
        with memory_in_one_line("-num_proposals, -sampling_timesteps or -f"):
            predict(options)

    return exit_code(work)


def predict(options: PredictOptions) -> None:
    """Find the people, lift each, write what the options ask for.

    Raises:
        UsageError, DataError: one line.
    """
    if options.bvh:
        check_bvh()
    path = Path(options.input)
    images = detect = None
    if not is_keypoints(path):
        _refuse_given(options, ("video", "width", "height", "layout", "first_frame", "subject", "action", "view"), path)
        images = _open_input(path)
        detect = load_detector(options.detector_mode, options.detector, options.pose_model)
    elif options.video:
        images = open_images(options.video)
    if detect is None:
        _refuse_given(options, ("detector_mode", "detector", "pose_model"), path)
    with writable_folder(options.folder, "--out"):
        model = load_model(options)
        if detect is not None:
            assert images is not None  # it has been opened with the detector
            detections = detect_people(images, detect)
            write_detections(options.folder / "detections.json", detections)
            print(f"wrote    {options.folder / 'detections.json'}")
            found = of_detections(detections, str(path), model.skeleton, options.person, options.min_confidence)
        else:
            found = read_keypoints(
                path,
                model.skeleton,
                layout=options.layout,
                first_frame=options.first_frame,
                person=options.person,
                min_confidence=options.min_confidence,
                subject=options.subject,
                action=options.action,
                view=options.view,
            )
        print(f"read     {found.read}")
        _print_notes(found.notes)
        camera = choose_camera(options, found, images)
        print(f"camera   {camera.width}x{camera.height}, {camera_source(camera)}")
        shot = Shot(found, images, camera, choose_fps(options, found, images, model))
        if earlier := move_aside(options.folder, _FILES):
            print(f"         {options.folder} held people already: moved to {earlier}")
        for person, stem in zip(found.people, _file_stems(found.people), strict=True):
            predict_person(options, model, shot, person, options.folder / stem)
    longest = max(len(person.keypoints) for person in found.people)
    if (options.page or options.render) and options.viz_skip >= longest:
        raise UsageError(
            f"--viz-skip is {options.viz_skip}, but nobody has more than {longest} frames; what else was asked for is "
            f"in {options.folder}"
        )


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"         {note}")


def _open_input(path: Path) -> ImageSequence:
    try:
        return open_images(path)
    except DataError as error:
        if path.is_dir():
            raise
        raise DataError(
            f"{path} is no video that ffmpeg can decode, and no keypoints (.json, .npz; data/README.md lists them)"
        ) from error


def _refuse_given(options: PredictOptions, names: Sequence[str], path: Path) -> None:
    """Options that say nothing of an input of this kind."""
    idle = [options.flag(name) for name in names if name in options.given]
    if idle:
        kind = "keypoints" if is_keypoints(path) else "a video or images"
        raise UsageError(f"{', '.join(idle)} would do nothing here: {path} is {kind}; leave out what is not meant")


def load_model(options: PredictOptions) -> Network:
    """The network of -c and --evaluate.

    Raises:
        UsageError, DataError: one line.
    """
    path, model, told = (_onnx_network if options.backend == ONNX_RUNTIME else _torch_network)(options)
    if options.sampling_timesteps > model.num_timesteps:
        raise UsageError(
            f"-sampling_timesteps {options.sampling_timesteps} is more than the {model.num_timesteps} "
            f"that {path} was trained with; give fewer"
        )
    if options.overlap is not None and options.overlap >= model.num_frames:
        raise UsageError(f"--overlap is {options.overlap}; expected less than a window's {model.num_frames} frames")
    print(f"network  {path}, epoch {model.epoch}: {model.dataset}, {model.num_frames} frames a window{told}")
    return model


def _torch_network(options: PredictOptions) -> tuple[Path, Network, str]:
    """(its file, the network, what is to be said of it)."""
    # Imported here: ONNX files need none of what PyTorch's network is made of.
    from common.checkpoints import BEST, find_checkpoint
    from common.trained_lifter import load_lifter

    path = find_checkpoint(options.evaluate or BEST, Path(options.checkpoint or "."))
    if path.suffix == ".onnx":
        raise UsageError(f"{path} is an ONNX file, not a checkpoint; add --backend {ONNX_RUNTIME}")
    asked = {name: getattr(options, name) for name in _OF_NETWORK if name in options.given}
    model = load_lifter(path, options.verb, **asked)
    return path, model, f", {_told(model.verb, model.model.prompt_encoder.tower.source)}"


def _onnx_network(options: PredictOptions) -> tuple[Path, Network, str]:
    path = find_in_run(options.evaluate or BEST_ONNX, Path(options.checkpoint or "."), "ONNX files", "*.onnx")
    model = load_onnx_lifter(path, options.num_frames, Solver(options.solver, options.eta))
    verb = model.description.verb
    if "verb" in options.given and options.verb != verb:
        whose = f"is that of '{verb}'" if verb else "names no action"
        raise UsageError(
            f"--verb '{options.verb}': the prompt in {path} {whose}; leave it out, or export the network with this one"
        )
    return path, model, f", ONNX Runtime, {_told(verb, model.description.text_tower)}"


def _told(verb: str, tower: str) -> str:
    """What the network's prompt is: `tower` says where the weights are from that encode it."""
    return (f"told {verb}" if verb else "told no action") + (
        ", random text weights" if tower.startswith("random") else ""
    )


def choose_camera(options: PredictOptions, found: PoseInput, images: ImageSequence | None) -> Camera | PinholeCamera:
    """That of --intrinsics, of --fov, the input's own, or a guess.

    Raises:
        UsageError: nobody says how large the image is.
        DataError: the calibration does not fit.
    """
    given = (options.width, options.height) if options.width and options.height else None
    size = given or (images.size if images else found.size)
    if options.intrinsics and (camera := read_intrinsics(options.intrinsics, size)):
        return camera
    if size is None:
        raise UsageError(
            f"nothing says how large the image of {options.input} is: give --width and --height, or --video"
        )
    if options.fov:
        return camera_from_fov(*size, options.fov, f"{options.fov:g} degrees across the image's longer side (--fov)")
    if found.camera is not None and size == found.size:
        return found.camera
    return guessed_camera(*size)


def camera_source(camera: Camera | PinholeCamera) -> str:
    """Where its numbers are from."""
    return camera.source if isinstance(camera, PinholeCamera) else f"the data set's calibration of {camera.name}"


def camera_data(camera: Camera | PinholeCamera) -> dict:
    """A camera as plain values, pixels."""
    assert camera.intrinsics is not None  # `choose_camera` takes no other
    width, height = camera.width, camera.height
    focal = camera.intrinsics[:2].astype(float) * width / 2
    centre = image_coordinates(camera.intrinsics[2:4].astype(float), width, height)
    if isinstance(camera, PinholeCamera):
        lens = {"distortion": list(camera.distortion), "distortion_model": "OpenCV: k1, k2, p1, p2, k3"}
    else:
        lens = {
            "distortion": camera.intrinsics[4:].tolist(),
            "distortion_model": "Human3.6M: radial 3, tangential 2 (common/camera.py, project_to_2d)",
        }
    return {
        "width": width, "height": height, "fx": focal[0], "fy": focal[1], "cx": centre[0], "cy": centre[1],
        **lens, "source": camera_source(camera),
    }  # fmt: skip


def choose_fps(options: PredictOptions, found: PoseInput, images: ImageSequence | None, model: Network) -> float:
    """Frames a second: --fps, the video's, the file's, or, saying so, the network's."""
    known = options.fps or (images.fps if images else None) or found.fps
    if known is None:
        print(f"fps      {model.fps:g}, those of the network's data, taken for granted (--fps says otherwise)")
        return model.fps
    print(f"fps      {known:g}")
    return known


def _file_stems(people: Sequence[PersonTrack]) -> list[str]:
    """A file name for each; two whose names look alike get a number."""
    stems: list[str] = []
    for person in people:
        stem = unique = f"person_{re.sub(r'[^A-Za-z0-9+-]', '_', person.name)[:60]}"
        for number in itertools.count(2):
            if unique not in stems:
                break
            unique = f"{stem}_{number}"
        stems.append(unique)
    return stems


def predict_person(options: PredictOptions, model: Network, shot: Shot, person: PersonTrack, stem: Path) -> None:
    """Lift one person, and write all files of them: `stem` and a suffix."""
    lifted = lift(
        person.keypoints,
        shot.camera,
        model,
        confidences=person.confidences,
        fps=shot.fps,
        num_hypotheses=options.num_proposals,
        sampling_timesteps=options.sampling_timesteps,
        overlap=options.overlap,
        aggregation=options.aggregation,
        seed=options.seed,
        name=person.name,
        progress=f"person {person.name}",
    )
    index = person.first + np.arange(len(person.keypoints))
    frames, seconds = shot.found.first_number + index, index / shot.fps
    notes = [*person.notes]
    if note := outside(person.keypoints, shot.camera.width, shot.camera.height):
        notes.append(f"warning: {note}")
    if lifted.resampled_to:
        notes.append(f"resampled to the network's {lifted.resampled_to:g} frames a second, and back")
    print(f"person   {person.name}: frames {frames[0]} to {frames[-1]}")
    _print_notes(notes)

    def named(suffix: str) -> Path:
        return stem.with_name(stem.name + suffix)

    write_lifted(
        named(".npz"),
        lifted,
        model.skeleton,
        person.confidences,
        frames,
        seconds,
        shot.fps,
        camera_data(shot.camera),
        options.as_data(),
        {
            "person": person.name,
            "read": shot.found.read,
            "notes": notes,
            "checkpoint_epoch": model.epoch,
            "trained_on": model.dataset,
            "network_fps": model.fps,
        },
    )
    print(f"wrote    {named('.npz')}")
    if options.csv:
        write_csv(named(".csv"), lifted, model.skeleton, frames, seconds)
        print(f"wrote    {named('.csv')}")
    if options.bvh:
        positions = shot.to_world.apply((lifted.poses_3d + lifted.root[:, None]).reshape(-1, 3))
        distance = write_bvh(named(".bvh"), positions.reshape(lifted.poses_3d.shape), model.skeleton, shot.fps)
        print(f"wrote    {named('.bvh')}: fixed bones, joints {1000 * distance:.0f} mm from the poses' on average")
    draw_person(options, model, shot, person, lifted, named)


def draw_person(
    options: PredictOptions,
    model: Network,
    shot: Shot,
    person: PersonTrack,
    lifted: Lifted,
    named: Callable[[str], Path],
) -> None:
    """The contact sheet, and the page and the film if they are asked for; one that cannot be made is a note.

    Raises:
        NotWrittenError: one line.
    """
    size = shot.camera.width, shot.camera.height
    known = shot.camera if isinstance(shot.camera, Camera) else None
    clip = Clip(
        subject=shot.found.title + (f", person {person.name}" if len(shot.found.people) > 1 else ""),
        action="",
        camera=known,
        poses_2d=normalize_screen_coordinates(lifted.keypoints, *size),
        poses_3d=None,
        root=None,
        size=size,
        fps=shot.fps,
    )
    scene = clip_scene(clip, lifted.hypotheses, model.skeleton, lifted.poses_3d)
    scene = replace(scene, frame_numbers=person.first + np.arange(scene.num_frames))
    video = shot.images and replace(shot.images, first_frame=person.first)

    def draw(suffix: str, **words: Any) -> int | None:
        try:
            shown = render(named(suffix), scene, **words)
        except NotWrittenError:
            raise
        except (UsageError, DataError) as error:  # of this person: the others may have what it takes
            print(f"         no picture of person {person.name}: {named(suffix).name}: {error}")
            return None
        print(f"wrote    {named(suffix)}")
        return shown

    draw(".png", video=video)
    part: dict[str, Any] = {
        "limit": max(options.viz_limit, 0),
        "downsample": options.viz_downsample,
        "skip": options.viz_skip,
    }
    if options.page:
        draw(".html", **part)
    if options.render:
        shown = draw(f".{options.render}", size=options.viz_size, video=video, **part)
        there = len(range(options.viz_skip, scene.num_frames, options.viz_downsample))
        asked = -(-options.viz_limit // options.viz_downsample) if options.viz_limit > 0 else there
        if shown is not None and shown < asked:
            end = "the video ends" if shown < there else f"person {person.name} is there no longer"
            print(f"         the film has {shown} of {asked} frames: {end}")
