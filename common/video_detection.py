"""People's keypoints in a video, with rtmlib's detectors (an optional package, imported only when it is used).

rtmlib's BodyWithFeet: YOLOX finds people, RTMPose finds Halpe-26's joints of each, both as ONNX files.
"""

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from common.errors import DataError, UsageError
from common.files import write_json
from common.keypoint_formats import Detections, Person
from common.video_frames import ImageSequence

LAYOUT = "halpe26"
MODES = ("lightweight", "balanced", "performance")
"""rtmlib's pairs of models, from fast to good."""
BRING_KEYPOINTS = "or bring keypoints that another detector found (data/README.md, Bringing 2D detections)"

Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""An image (height, width, 3) uint8, RGB -> keypoints (people, 26, 2) and scores (people, 26)."""


def load_detector(
    mode: str = "balanced", detector: str | os.PathLike | None = None, pose_model: str | os.PathLike | None = None
) -> Detector:
    """rtmlib's detector of people and joints.

    Args:
        mode: one of MODES: which models rtmlib downloads, or finds in its cache.
        detector, pose_model: ONNX files in place of the download: a YOLOX for people, an RTMPose for Halpe-26.

    Raises:
        UsageError: rtmlib is not installed.
        DataError: a model is not to be had, or is none.
    """
    for path in (detector, pose_model):
        if path is not None and not Path(path).is_file():
            raise DataError(f"{path} not found; give the ONNX file of a model, {BRING_KEYPOINTS}")
    try:
        from rtmlib import YOLOX, BodyWithFeet, RTMPose
    except ImportError as error:
        raise UsageError(
            f"a video needs a 2D detector, and rtmlib is not here ({error}); pip install -r requirements-predict.txt, "
            f"{BRING_KEYPOINTS}"
        ) from None
    models = BodyWithFeet.MODE[mode]
    people = _model(YOLOX, detector, models["det"], models["det_input_size"])
    joints = _model(RTMPose, pose_model, models["pose"], models["pose_input_size"])

    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = np.ascontiguousarray(image[..., ::-1])  # they know OpenCV's order of colours
        boxes = people(image)
        if not len(boxes):  # RTMPose would take the whole image for a person
            return np.empty((0, 26, 2)), np.empty((0, 26))
        return joints(image, bboxes=boxes)

    return detect


def _model(kind: type, path: str | os.PathLike | None, url: str, size: tuple[int, int]):
    """One of rtmlib's models, from a file or by a download."""
    source = str(path) if path is not None else url
    if path is None:
        print(f"model    {url.rsplit('/', 1)[-1]}, downloaded if it is not in rtmlib's cache")
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            model = kind(source, model_input_size=size)
            if path is not None:  # any size will do that the file itself states
                stated = model.session.get_inputs()[0].shape[2:]
                if all(isinstance(length, int) for length in stated):
                    model.model_input_size = tuple(stated) if kind.__name__ == "YOLOX" else tuple(stated[::-1])
    except Exception as error:  # a download, a zip file and ONNX Runtime fail in ways of their own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        if path is not None:
            raise DataError(f"{path} is no model that ONNX Runtime can load ({reason})") from None
        raise DataError(
            f"rtmlib's model {url.rsplit('/', 1)[-1]} cannot be downloaded ({reason}); give --detector and "
            f"--pose-model, {BRING_KEYPOINTS}"
        ) from None
    return model


def detect_people(images: ImageSequence, detect: Detector, progress: bool = True) -> Detections:
    """Everybody in every image.

    Raises:
        DataError: nobody is found in any image, the images cannot be read, or the models do not fit.
    """
    frames = []
    for image in tqdm(
        images, desc=f"detecting in {images.path.name}", unit="frame", leave=False, disable=not progress or None
    ):
        try:
            keypoints, scores = detect(image)
        except Exception as error:  # what ONNX Runtime and rtmlib make of models of another kind
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise DataError(f"the detector does not work ({reason}); expected a YOLOX and an RTMPose model") from None
        if keypoints.shape[1:] != (26, 2):
            raise DataError(f"the pose model gives {keypoints.shape[1:]} a person; expected Halpe-26's 26 joints")
        frames.append(
            [
                Person(np.asarray(points, np.float64), np.asarray(trust, np.float64).clip(0), float(np.mean(trust)))
                for points, trust in zip(keypoints, scores, strict=True)
                if np.any(trust > 0)
            ]
        )
    if not any(frames):
        raise DataError(
            f"no person found in the {len(frames)} frames of {images.path}; try another --detector-mode, "
            f"{BRING_KEYPOINTS}"
        )
    return Detections("rtmlib", LAYOUT, False, frames, 0, images.size)


def write_detections(path: Path, detections: Detections) -> None:
    """As rtmlib's results are brought (data/README.md): the long work need not be done twice."""
    write_json(
        path,
        [
            {
                "frame_id": number,
                "keypoints": [person.keypoints.round(2).tolist() for person in people],
                "scores": [person.confidences.round(4).tolist() for person in people],
            }
            for number, people in enumerate(detections.frames)
        ],
    )
