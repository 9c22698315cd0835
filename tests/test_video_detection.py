"""rtmlib's detectors on models that are made here: boxes and joints at known places, and what is said without them."""

import sys

import numpy as np
import pytest
from PIL import Image

from common.errors import DataError, UsageError
from common.keypoint_formats import read_detections
from common.video_detection import detect_people, load_detector, write_detections
from common.video_frames import open_images


def constant_model(path, input_shape, **outputs):
    """An ONNX file that answers the same whatever it sees; what it sees counts 0 times."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "zero"], ["nothing"]),
    ]
    constants = [numpy_helper.from_array(np.float32(0), "zero")]
    for name, value in outputs.items():
        constants.append(numpy_helper.from_array(value.astype(np.float32), f"{name}_value"))
        nodes.append(helper.make_node("Add", [f"{name}_value", "nothing"], [name]))
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, value.shape) for name, value in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def people_model(path, boxes):
    """YOLOX with its boxes (people, 4), pixels of an image that fills its 416 x 416, and scores (people,)."""
    found = np.array([[*box, 0.9] for box in boxes], float).reshape(1, -1, 5)
    return constant_model(path, [1, 3, 416, 416], dets=found, labels=np.zeros(found.shape[:2]))


def joints_model(path, num_joints=26):
    """RTMPose of 192 x 256: joint j is at (10 + 6 j, 20 + 8 j) of what it sees, with a confidence of 0.5 + j / 100."""
    x, y = np.zeros((1, num_joints, 384)), np.zeros((1, num_joints, 512))
    for joint in range(num_joints):
        x[0, joint, 2 * (10 + 6 * joint)] = y[0, joint, 2 * (20 + 8 * joint)] = 0.5 + joint / 100
    return constant_model(path, [1, 3, 256, 192], simcc_x=x, simcc_y=y)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (416, 416), (number, 0, 0)).save(folder / f"{number}.png")
    return open_images(folder)


@pytest.mark.parametrize("mode", ["lightweight", "balanced"])
def test_people_are_found_where_the_models_say(tmp_path, images, mode):
    """The model's own input size counts, whatever the mode's would be."""
    pytest.importorskip("rtmlib", reason="pip install -r requirements-predict.txt")
    boxes = [[100, 50, 196, 178], [200, 100, 296, 228]]
    detect = load_detector(mode, people_model(tmp_path / "p.onnx", boxes), joints_model(tmp_path / "j.onnx"))
    found = detect_people(images, detect, progress=False)
    assert (found.layout, found.size, [len(people) for people in found.frames]) == ("halpe26", (416, 416), [2, 2, 2])
    # RTMPose sees a box enlarged by 1.25 about its middle: here half the size of its input, times 1.25.
    scale = 1.25 * 96 / 192
    for person, (left, top, right, bottom) in zip(found.frames[1], boxes, strict=True):
        corner = np.array([(left + right) / 2, (top + bottom) / 2]) - scale * np.array([192, 256]) / 2
        expected = corner + scale * np.stack([10 + 6 * np.arange(26), 20 + 8 * np.arange(26)], axis=-1)
        np.testing.assert_allclose(person.keypoints, expected, atol=0.01)
        np.testing.assert_allclose(person.confidences, 0.5 + np.arange(26) / 100, atol=1e-3)
    write_detections(tmp_path / "detections.json", found)
    again = read_detections(tmp_path / "detections.json")
    assert again.layout == "halpe26"
    for people, before in zip(again.frames, found.frames, strict=True):
        for person, same in zip(people, before, strict=True):
            np.testing.assert_allclose(person.keypoints, same.keypoints, atol=0.01)


def test_nobody_is_found(tmp_path, images):
    pytest.importorskip("rtmlib", reason="pip install -r requirements-predict.txt")
    nobody = constant_model(
        tmp_path / "p.onnx", [1, 3, 416, 416], dets=np.array([[[0, 0, 9, 9, 0.01]]]), labels=np.zeros((1, 1))
    )
    detect = load_detector("lightweight", nobody, joints_model(tmp_path / "j.onnx"))
    with pytest.raises(
        DataError, match=r"no person found in the 3 frames of .*images; try another --detector-mode, or "
    ):
        detect_people(images, detect, progress=False)


def test_a_pose_model_of_other_joints(tmp_path, images):
    pytest.importorskip("rtmlib", reason="pip install -r requirements-predict.txt")
    people = people_model(tmp_path / "p.onnx", [[100, 50, 196, 178]])
    detect = load_detector("lightweight", people, joints_model(tmp_path / "j.onnx", 17))
    with pytest.raises(DataError, match=r"gives \(17, 2\) a person; expected Halpe-26's 26 joints"):
        detect_people(images, detect, progress=False)


def test_models_in_each_other_s_place(tmp_path, images):
    pytest.importorskip("rtmlib", reason="pip install -r requirements-predict.txt")
    people = people_model(tmp_path / "p.onnx", [[100, 50, 196, 178]])
    detect = load_detector("lightweight", joints_model(tmp_path / "j.onnx"), people)
    with pytest.raises(DataError, match=r"the detector does not work .*; expected a YOLOX and an RTMPose model"):
        detect_people(images, detect, progress=False)


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(DataError, match=r"none\.onnx not found; give the ONNX file of a model, or bring keypoints"):
        load_detector(detector=tmp_path / "none.onnx")
    pytest.importorskip("rtmlib", reason="pip install -r requirements-predict.txt")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(DataError, match=r"text\.onnx is no model that ONNX Runtime can load"):
        load_detector(detector=tmp_path / "text.onnx", pose_model=tmp_path / "text.onnx")


def test_without_rtmlib_the_message_says_how_to_go_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "rtmlib", None)
    with pytest.raises(
        UsageError, match=r"pip install -r requirements-predict.txt, or bring keypoints .*data/README.md"
    ):
        load_detector()


def test_a_download_that_fails_says_how_to_go_on(monkeypatch, tmp_path):
    pytest.importorskip("rtmlib", reason="pip install -r requirements-predict.txt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("socket.getaddrinfo", _no_network)
    with pytest.raises(
        DataError, match=r"yolox.*zip cannot be downloaded .*; give --detector and --pose-model, or bring"
    ):
        load_detector("lightweight")


def _no_network(*_, **__):
    raise OSError("no network in tests")
