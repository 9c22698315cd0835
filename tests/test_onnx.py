"""A network as an ONNX file: the same answers as PyTorch's, without what PyTorch's needs; and files that are odd."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from common import runs
from common.arguments import Options
from common.checkpoints import BEST, Checkpoint, write_checkpoint
from common.datasets import DATASETS
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.export_onnx import OPSET
from common.export_onnx import main as export
from common.model import DSGDiffu
from common.onnx_files import BEST_ONNX
from common.onnx_lifter import load_onnx_lifter
from common.skeleton import H36M, MPI_INF_3DHP
from common.trained_lifter import load_lifter
from predict import main
from tests.conftest import ROOT, awaken
from tests.test_prepare_2d import alphapose
from tests.test_release_compat import tiny_state

onnx = pytest.importorskip("onnx", reason="pip install -r requirements-predict.txt")
pytest.importorskip("onnxscript", reason="pip install -r requirements-predict.txt")
pytest.importorskip("onnxruntime", reason="pip install -r requirements-predict.txt")

ONNX = ["--backend", "onnxruntime"]
SIZE = ["--width", "1920", "--height", "1080", "--fps", "50"]
FEW = ["-num_proposals", "2", "-sampling_timesteps", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder: a network whose answers are as large as a person, and its ONNX file, told "Walking"."""
    folder = tmp_path_factory.mktemp("onnx") / "run"
    torch.manual_seed(0)
    tower, parts = runs.random_text_tower(), DATASETS["h36m"].prompt_parts
    config = DenoiserConfig(num_frames=9, width=16, depth=2)
    model = awaken(DSGDiffu.build(config, H36M, parts, tower, GaussianDiffusion(1000, 1.5)))
    checkpoint = Checkpoint(
        network=config, skeleton=H36M, prompt_parts=parts, num_timesteps=1000, scale=1.5, weights=model.trained_state(),
        tower_fingerprint=tower.fingerprint, tower_source=tower.source, compat_release=False,
        options=Options(keypoints="gt", text_encoder="random").as_data(), selection="nothing", epoch=3,
    )  # fmt: skip
    write_checkpoint(folder / BEST, checkpoint)
    assert export(["-c", str(folder), "--verb", "Walking"]) == 0
    return folder


@pytest.fixture(scope="module")
def lifters(run):
    """With ONNX Runtime, and with PyTorch."""
    return load_onnx_lifter(run / BEST_ONNX), load_lifter(run / BEST, "Walking", device="cpu")


@pytest.fixture
def keypoints(tmp_path):
    return str(alphapose(tmp_path / "in"))


# --- the same answers ---


@pytest.mark.parametrize(("B", "H", "F"), [(1, 1, 9), (3, 1, 9), (1, 4, 9), (5, 3, 9), (2, 2, 6), (4, 3, 1)])
def test_the_file_answers_what_the_network_does(lifters, B, H, F):  # noqa: N803
    """For any number of windows, hypotheses and frames, with the action of the export and no other."""
    file, trained = lifters
    torch.manual_seed(B + H + F)
    x_2d, x_t, t = torch.rand(B, F, 17, 2), torch.randn(B, H, F, 17, 3), torch.randint(1000, (B,))
    found = file.run(x_2d, x_t, t)
    with torch.no_grad():
        walking, sitting = (
            trained.model.given(x_2d, trained.texts.prompts(verb, B))(x_t, t) for verb in ("Walking", "Sitting")
        )
    assert walking.abs().max() > 0.3
    torch.testing.assert_close(found, walking, atol=1e-5, rtol=0)
    assert (found - sitting).abs().max() > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        ["-num_proposals", "3", "-sampling_timesteps", "4"],
        ["-f", "5", "--solver", "dpm++2m"],
        ["--fps", "25", "--aggregation", "P_Agg"],
    ],
)
def test_predict_gives_the_same_poses_with_both(run, tmp_path, keypoints, outcome, options):
    found, said = {}, {}
    for backend in (["--verb", "Walking"], ONNX):
        argv = [keypoints, *SIZE, "-c", str(run), *backend, "--out", str(tmp_path / backend[1]), *options]
        code, printed, complained = outcome(main, argv)
        assert code == 0, complained
        found[backend[1]] = dict(np.load(tmp_path / backend[1] / "person_1.npz"))
        said[backend[1]] = printed
    assert "frames a window, told Walking, random text weights\n" in said["Walking"]
    assert "frames a window, ONNX Runtime, told Walking, random text weights\n" in said["onnxruntime"]
    ours, theirs = found.values()
    for name in ("poses_3d", "root", "spread"):
        np.testing.assert_allclose(theirs[name], ours[name], atol=1e-4)
    assert np.abs(ours["poses_3d"]).max() > 0.1
    assert json.loads(str(theirs["options"]))["backend"] == "onnxruntime"
    about = json.loads(str(theirs["about"]))
    assert (about["checkpoint_epoch"], about["trained_on"], about["network_fps"]) == (3, "h36m", 50)


def test_neither_clip_nor_torch_geometric_is_needed(run, tmp_path, keypoints):
    """With the packages out of reach, an ONNX file lifts and a checkpoint does not."""
    program = f"""
import sys
from importlib.abc import MetaPathFinder

class Nowhere(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {{"torch_geometric", "open_clip", "clip", "timm", "torchvision", "safetensors"}}:
            raise ImportError(f"{{name}} is out of reach")

sys.meta_path.insert(0, Nowhere())
from predict import main
argv = [{keypoints!r}, *{SIZE!r}, "-c", {str(run)!r}, *{FEW!r}, "--out", {str(tmp_path / "out")!r}]
assert main([*argv, "--backend", "onnxruntime", "--csv"]) == 0
try:
    main([*argv, "--backend", "torch"])
except ImportError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "is out of reach" in done.stdout.splitlines()[-1]
    assert (tmp_path / "out" / "person_1.csv").is_file()


def test_what_the_file_says_of_itself(run):
    model = onnx.load(run / BEST_ONNX)
    onnx.checker.check_model(model)
    assert [(used.domain, used.version) for used in model.opset_import] == [("", OPSET)]
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "x_2d": ["B", "F", 17, 2], "x_t": ["B", "H", "F", 17, 3], "t": ["B"], "x_start": ["B", "H", "F", 17, 3]
    }  # fmt: skip
    said = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    expected = {
        "format": "DSGDiffu denoiser", "version": 1, "dataset": "h36m", "keypoints": "gt", "num_frames": 9, "fps": 50,
        "num_timesteps": 1000, "scale": 1.5, "schedule": "cosine", "verb": "Walking", "epoch": 3, "checkpoint": BEST,
    }  # fmt: skip
    assert {name: said[name] for name in expected} == expected
    assert said["skeleton"]["joint_names"] == list(H36M.joint_names)
    assert len(said["checkpoint_sha256"]) == 64
    assert str(ROOT).encode() not in (run / BEST_ONNX).read_bytes()  # no path of the machine that exported it


# --- what is refused ---


def _external(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _external_attribute(model):
    value = onnx.TensorProto(data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="weights")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["extra"], value=value))


def _branch(model):
    branch = onnx.helper.make_graph([], "branch", [], [])
    node = onnx.helper.make_node("If", ["t"], ["extra"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


def _say(name, value):
    def change(model):
        (entry,) = (entry for entry in model.metadata_props if entry.key == name)
        entry.value = value

    return change


def _weight(value):
    def change(model):
        for tensor in model.graph.initializer:
            weights = onnx.numpy_helper.to_array(tensor)
            if weights.dtype == np.float32 and weights.ndim == 2:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.full_like(weights, value), tensor.name))

    return change


def _skeleton(model):
    _say("skeleton", json.dumps(vars(MPI_INF_3DHP)))(model)


def _domain(model):
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))


CHANGED = {
    "weights in another file": (_external, "its weights are in another file"),
    "a constant in another file": (_external_attribute, "its weights are in another file"),
    "a graph in the graph": (_branch, "a graph within the operator 'If'"),
    "a foreign operator": (_domain, "of the domain 'com.microsoft'"),
    "an operator that is none": (lambda model: setattr(model.graph.node[0], "op_type", "Nonsense"), "can load"),
    "a function": (lambda model: model.functions.add(name="f"), "it has functions"),
    "other inputs": (lambda model: setattr(model.graph.input[0], "name", "image"), "expected x_2d, x_t, t"),
    "no network of ours": (lambda model: model.ClearField("metadata_props"), "is no network of ours"),
    "a later version": (_say("version", "2"), "has version 2; this code reads 1"),
    "half a description": (_say("num_frames", "{"), "is not as the export writes it"),
    "a number for a name": (_say("verb", "5"), "verb is a int"),
    "lines in a name": (_say("keypoints", '"a\\nb"'), "keypoints is not one line of text"),
    "unknown data": (_say("dataset", '"cats"'), "dataset is none that is known"),
    "another skeleton": (_skeleton, "the skeleton is '3dhp' with 17 joints; h36m has 'h36m' with 17"),
    "endless": (_say("num_timesteps", "1" + "0" * 30), "num_timesteps is not from 1 to 1000000"),
    "frames a second beyond numbers": (_say("fps", "1" + "0" * 400), "fps is no number above 0"),
    "a scale beyond numbers": (_say("scale", "1" + "0" * 400), "scale is no number above 0"),
    "no finite weights": (_weight(np.nan), "expected finite float32 of"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_changed_files_are_one_line(run, tmp_path, keypoints, outcome, case):
    change, fault = CHANGED[case]
    model = onnx.load(run / BEST_ONNX)
    change(model)
    (tmp_path / "changed.onnx").write_bytes(model.SerializeToString())
    refused(outcome, [keypoints, *SIZE, *ONNX, "--evaluate", str(tmp_path / "changed.onnx")], 1, fault, tmp_path / "o")


@pytest.mark.parametrize("kept", [0, 1, 1000, 0.5, 0.99])
def test_cut_files_are_one_line(run, tmp_path, keypoints, outcome, kept):
    content = (run / BEST_ONNX).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    refused(
        outcome, [keypoints, *SIZE, *ONNX, "--evaluate", str(tmp_path / "cut.onnx")], 1, "cut.onnx ", tmp_path / "o"
    )


def refused(outcome, argv, exit_code, fault, out):
    code, _, complained = outcome(main, [*argv, *FEW, "--out", str(out)])
    assert (code, complained.count("\n")) == (exit_code, 1), complained
    assert complained.startswith("error: ")
    assert fault in complained
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "exit_code", "fault"),
    [
        ([*ONNX, "--verb", "Sitting"], 2, "--verb 'Sitting': the prompt in"),
        ([*ONNX, "--verb", ""], 2, "is that of 'Walking'; leave it out"),
        ([*ONNX, "--clip-weights", "x", "--device", "cpu"], 2, "--clip-weights, --device would do nothing here"),
        ([*ONNX, "--compile"], 2, "--compile would do nothing here: --backend onnxruntime takes an ONNX file"),
        ([*ONNX, "-f", "27"], 2, "was trained with -f 9; -f 27 was given"),
        ([*ONNX, "-f", "5", "--overlap", "5"], 2, "--overlap is 5; expected less than a window's 5 frames"),
        ([*ONNX, "--evaluate", "none.onnx"], 1, f"none.onnx not found; ONNX files there: {BEST_ONNX}"),
        ([*ONNX, "--evaluate", BEST], 1, f"{BEST} is no ONNX file"),
        (["--evaluate", BEST_ONNX], 2, f"{BEST_ONNX} is an ONNX file, not a checkpoint; add --backend onnxruntime"),
    ],
)
def test_options_that_do_not_fit_are_one_line(run, tmp_path, keypoints, outcome, options, exit_code, fault):
    refused(outcome, [keypoints, *SIZE, "-c", str(run), *options], exit_code, fault, tmp_path / "o")


def test_another_verb_than_none_is_refused(run, tmp_path, keypoints, outcome):
    out = tmp_path / "none.onnx"
    assert export(["-c", str(run), "--out", str(out)]) == 0
    fault = f"--verb 'Sitting': the prompt in {out} names no action; leave it out, or export"
    refused(outcome, [keypoints, *SIZE, *ONNX, "--evaluate", str(out), "--verb", "Sitting"], 2, fault, tmp_path / "o")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_package_it_is_said_how_to_get_it(run, tmp_path, keypoints, outcome, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    fault = f"ONNX needs the package {package}, which is not here"
    refused(outcome, [keypoints, *SIZE, "-c", str(run), *ONNX], 2, fault, tmp_path / "o")
    assert outcome(export, ["-c", str(run)])[0] == 2


def test_a_file_that_answers_otherwise_is_not_left(run, tmp_path, outcome, monkeypatch):
    """The bytes of another network in place of the exporter's."""
    model = onnx.load(run / BEST_ONNX)
    _weight(0.01)(model)
    monkeypatch.setattr("common.export_onnx.onnx_bytes", lambda *_: model.SerializeToString())
    out = tmp_path / "new" / "a.onnx"
    code, _, complained = outcome(export, ["-c", str(run), "--out", str(out)])
    assert (code, complained.count("\n")) == (1, 1)
    assert "ONNX Runtime's answer differs from PyTorch's by" in complained
    assert not out.parent.exists()


def test_exports_that_cannot_be_are_one_line(run, tmp_path, outcome):
    torch.save({"epoch": 7, "model_pos": tiny_state()}, tmp_path / "release.bin")
    for argv, exit_code, fault in (
        ([], 2, "whose network? Give -c"),
        (["-c", str(run), "--out", "a.bin"], 2, "--out is a.bin; expected a name that ends in .onnx"),
        (["-c", str(run), "--out", ""], 2, "--out is empty"),
        (["-c", str(run), "--evaluate", "none.bin"], 1, f"none.bin not found; checkpoints there: {BEST}"),
        (["-c", str(run), "--evaluate", BEST_ONNX], 1, BEST_ONNX),
        (["--evaluate", str(tmp_path / "release.bin")], 2, "holds the public release's variant of the network"),
    ):
        code, _, complained = outcome(export, argv)
        assert (code, complained.count("\n")) == (exit_code, 1), complained
        assert fault in complained
