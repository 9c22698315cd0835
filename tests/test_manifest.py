"""What a run says it was made of, and what is refused because it does not fit."""

import hashlib
import importlib.metadata
import json
import subprocess

import pytest
import torch

from common.manifest import code_facts
from tests.conftest import Files
from tests.test_runs import Run, fails


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest")
    files = Files(folder / "data", "h36m").save()
    content = files.path_2d.read_bytes()
    (files.folder / "data_2d_h36m_detected.npz").write_bytes(content)
    run = Run(files, folder / "run")
    assert run("--no-eval", "--seed", "5", "--deterministic") == 0
    torch.use_deterministic_algorithms(False)
    return run


def test_the_manifest_says_what_a_run_was_made_of(run):
    (start,) = json.loads((run.folder / "manifest.json").read_text())
    assert start["options"] == json.loads((run.folder / "options.json").read_text())
    assert start["packages"]["torch"] == importlib.metadata.version("torch")
    assert start["packages"]["open_clip_torch"] == importlib.metadata.version("open_clip_torch")
    assert start["device"]["threads"] == torch.get_num_threads()
    assert start["seeds"] == {"weights, order, noise": 5}
    assert start["deterministic"]
    assert start["data"]["source_2d"] == "gt"
    assert start["data"]["sha256"] == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (run.files.path_3d, run.files.path_2d)
    }
    assert start["text_tower"]["source"].startswith("random")
    assert run("--resume", "last.bin", "-e", "2") == 0
    _, second = json.loads((run.folder / "manifest.json").read_text())
    assert second["goes_on_after_epoch"] == 1
    assert (second["options"]["seed"], second["options"]["deterministic"]) == (5, True)


def test_the_commit_is_that_of_the_code_alone(tmp_path):
    def git(*words):
        command = ["git", "-C", tmp_path, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert code_facts(tmp_path) == {"git_commit": None, "changed": None}
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    (tmp_path / "below").mkdir()
    git("add", ".")
    git("-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "one")
    assert code_facts(tmp_path) == {"git_commit": git("rev-parse", "HEAD"), "changed": False}
    (tmp_path / "file").write_text("2")
    assert code_facts(tmp_path)["changed"]
    assert code_facts(tmp_path / "below") == {"git_commit": None, "changed": None}


def test_an_evaluation_on_another_2d_source_is_refused(run, capsys):
    call = ["--evaluate", "last.bin", "-k", "detected"]
    expected = "was trained on the 2D input 'gt'; this is 'detected'; give -k gt, or go on all the same with --force"
    fails(capsys, 1, expected, lambda: run(*call))
    assert run(*call, "--force") == 0
    assert "note: " in capsys.readouterr().out
    fails(capsys, 2, "--force would do nothing here", lambda: run("--force"))


def altered(run, **parts):
    content = torch.load(run.folder / "last.bin", weights_only=True)
    torch.save({**content, **parts}, run.folder / "other.bin")
    return content


def test_an_evaluation_of_another_skeleton_or_unit_is_refused(run, capsys):
    content = altered(run, units="2D in pixels, 3D in millimetres")
    call = ["--evaluate", "other.bin"]
    expected = "was trained on '2D in pixels, 3D in millimetres'; the data is in '2D in half image widths .* --force"
    fails(capsys, 1, expected, lambda: run(*call))
    assert run(*call, "--force") == 0
    left, right = content["skeleton"]["joints_left"], content["skeleton"]["joints_right"]
    altered(run, skeleton={**content["skeleton"], "name": "twisted", "joints_left": right, "joints_right": left})
    fails(capsys, 1, r"skeleton 'twisted' \(17 joints\); the data has 'h36m' .* --force", lambda: run(*call))
    assert run(*call, "--force") == 0
    assert "note: " in capsys.readouterr().out
    content["skeleton"].update(name="less", joint_names=["a"], parents=[-1], joints_left=[], joints_right=[])
    altered(run, skeleton=content["skeleton"])
    fails(capsys, 1, r"skeleton 'less' \(1 joints\); .* -d$", lambda: run(*call, "--force"))
