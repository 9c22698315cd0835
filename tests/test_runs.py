"""The scripts from their command lines to their files, on small data: train, evaluate, resume, draw, and go wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

import main_gt
from common.checkpoints import BEST
from common.clip_text import TextTower
from common.datasets import load_dataset
from common.npz_files import read_npz
from tests.conftest import ROOT, SMALL, Files
from tests.test_datasets import write_custom
from tests.test_release_compat import tiny_state

SUBJECTS = ["-str", "S1", "-ste", "S9", "--device", "cpu"]


class Run:
    """A trained run's folder, and the command line that goes on with it."""

    def __init__(self, files, folder):
        self.files, self.folder = files, folder
        self.base = [*SMALL, *SUBJECTS, "--data-dir", str(files.folder), "-c", str(folder)]

    def __call__(self, *argv):
        return main_gt.main([*self.base, *argv])

    def results(self, stem):
        return json.loads((self.folder / f"results_{stem}.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two epochs on the small files; tests must not write over its checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    run = Run(Files(folder / "data", "h36m").save(), folder / "run")
    assert (
        run("-e", "2", "-cf", "1", "-num_proposals", "2", "-sampling_timesteps", "2", "--export-training-curves") == 0
    )
    return run


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run, to write into."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return Run(trained.files, tmp_path / "run")


def test_training_leaves_everything_behind(trained):
    names = {path.name for path in trained.folder.iterdir()}
    assert {
        "best_epoch_1_1.bin", "last.bin", "epoch_1.bin", "epoch_2.bin", "training_log.txt", "training_log.jsonl",
        "options.json", "h36m_test_log_H2_K2.txt", "results_H2_K2.json", "prediction.png", "training_curves.png",
        "manifest.json", "report.html",
    } == names  # fmt: skip
    lines = (trained.folder / "training_log.txt").read_text().splitlines()
    assert len(lines) == 2
    number = r"\d+\.\d+"
    for epoch, line in enumerate(lines, 1):
        assert re.fullmatch(
            rf"\[{epoch}\] time {number} lr {number} 3d_train {number} 3d_pos_train {number} 3d_pos_valid {number}",
            line,
        )
    assert json.loads((trained.folder / "options.json").read_text())["epochs"] == 2
    sizes = {name: (trained.folder / name).stat().st_size for name in names}
    assert sizes["best_epoch_1_1.bin"] < sizes["last.bin"] / 2  # no optimizer, and never the text tower


def test_the_log_and_the_json_say_the_same_and_what_the_numbers_are(trained):
    text = (trained.folder / "h36m_test_log_H2_K2.txt").read_text()
    found = trained.results("H2_K2")
    for name in ("J_Best", "P_Best", "P_Agg", "J_Agg", "J_Agg_est", "R_Agg"):
        value = found["average"]["protocol_1"][name][1]
        assert f"step 1 Protocol #1   (MPJPE) action-wise average {name}: {value:f} mm" in text
        walking = found["subjects"]["all"]["actions"]["Walking"]["protocol_1"][name][0]
        assert f"step 0 : Protocol #1 Error (MPJPE) {name}: {walking:f} mm" in text
    assert [name for name, setting in found["settings"].items() if setting["oracle"]] == ["P_Best", "J_Best"]
    kinds = {name: setting["kind"] for name, setting in found["settings"].items()}
    assert [name for name, kind in kinds.items() if kind == "deployable"] == ["P_Agg", "J_Agg_est", "R_Agg"]
    assert kinds["J_Agg"] == "needs the true root"
    assert "J-Best: each joint of the hypothesis closest to the truth; needs the 3D truth -- an oracle" in text
    assert found["action_prompt"] == "given"
    assert found["checkpoint_chosen_on"] == "the test subjects S9, as the field does"
    assert "was told each clip's true action" in text
    for action in found["subjects"]["all"]["actions"].values():
        settings = {name: np.array(errors) for name, errors in action["protocol_1"].items()}
        assert (settings["J_Best"] <= settings["P_Best"] + 1e-9).all()
        assert all((settings["J_Best"] <= errors + 1e-9).all() for errors in settings.values())


def test_evaluation_options(run):
    assert run("--evaluate", "best_epoch_1_1.bin", "--p2", "-a", "Walk", "--by-subject", "--downsample", "2") == 0
    found = run.results("H1_K1_Walk_every2")
    assert list(found["subjects"]) == ["S9"]
    assert list(found["subjects"]["S9"]["actions"]) == ["Walking"]
    assert found["average"].keys() == {"protocol_1", "protocol_2"}
    assert found["subjects"]["S9"]["actions"]["Walking"]["frames"] == 4 * (18 + 18)  # 10 and 11 frames in windows of 9


def test_evaluation_is_repeatable_and_does_not_depend_on_the_batch(run):
    found = []
    for windows in ("1", "7"):
        assert run("--evaluate", "best_epoch_1_1.bin", "-num_proposals", "3", "-b", windows) == 0
        found.append(run.results("H3_K1")["average"]["protocol_1"])
    for name in ("P_Agg", "J_Agg", "J_Agg_est", "R_Agg", "J_Best"):  # P-Best is chosen once a batch
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5)


def test_the_neutral_prompt_is_another_answer_in_a_file_of_its_own(run, capsys):
    assert run("--evaluate", "best_epoch_1_1.bin", "--action-prompt", "neutral") == 0
    assert run("--evaluate", "best_epoch_1_1.bin") == 0
    assert "was not told the action" in capsys.readouterr().out
    neutral, given = run.results("H1_K1_neutral"), run.results("H1_K1")
    assert neutral["action_prompt"] == "neutral"
    assert neutral["average"] != given["average"]


def test_shorter_windows(run):
    assert run("--evaluate", "best_epoch_1_1.bin", "-f", "1", "-s", "1", "-b", "4") == 0
    assert run.results("H1_K1_f1")["frames"] == 4 * (20 + 21 + 22)


def test_what_was_measured_is_in_the_files_names(run):
    every = ["--evaluate", "last.bin", "-f", "9"]
    assert run(*every) == run(*every, "-a", "Walk", "-f", "3") == run(*every, "--downsample", "2", "--debug") == 0
    names = {path.name for path in run.folder.glob("*_H1_K1*")}
    stems = ("H1_K1_last", "H1_K1_last_Walk_f3", "H1_K1_last_every2_debug")
    assert names == {
        f"{kind}_{stem}.{end}" for stem in stems for kind, end in (("results", "json"), ("h36m_test_log", "txt"))
    }
    assert any("--debug" in note and "not a result" in note for note in run.results(stems[2])["notes"])
    assert not any("--debug" in note for note in run.results(stems[0])["notes"])


def test_the_text_is_encoded_once_per_action_in_an_evaluation(run, monkeypatch):
    texts = []
    forward = TextTower.forward
    monkeypatch.setattr(TextTower, "forward", lambda self, *x: texts.append(len(x[0])) or forward(self, *x))
    assert run("--evaluate", "best_epoch_1_1.bin", "-num_proposals", "3", "-sampling_timesteps", "3") == 0
    assert texts == [1, 1]  # Walking and Sitting, for 12 clips, 3 hypotheses, 3 steps and mirror images


def test_the_text_is_encoded_once_per_action_in_a_training_batch(tmp_path, monkeypatch):
    run = Run(Files(tmp_path / "data", "h36m").save(), tmp_path / "run")
    texts = []
    forward = TextTower.forward
    monkeypatch.setattr(TextTower, "forward", lambda self, *x: texts.append(len(x[0])) or forward(self, *x))
    assert run("--no-eval", "--text-dropout", "0", "--debug") == 0
    assert texts[0] == 2  # 72 windows of two actions


def test_resuming_ends_where_an_undisturbed_run_does(trained, tmp_path):
    run = Run(trained.files, tmp_path / "run")
    run.folder.mkdir()
    shutil.copy(trained.folder / "epoch_1.bin", run.folder)
    assert run("-e", "2", "--resume", "epoch_1.bin") == 0
    theirs, ours = (torch.load(folder / "last.bin", weights_only=True) for folder in (trained.folder, run.folder))
    assert theirs["epoch"] == ours["epoch"] == 2
    assert theirs["training"]["learning_rate"] == ours["training"]["learning_rate"] == 3e-3 * 0.993**2
    for name, weight in theirs["weights"].items():
        assert torch.equal(weight, ours["weights"][name]), name
    for state, other in zip(
        theirs["training"]["optimizer"]["state"].values(), ours["training"]["optimizer"]["state"].values(), strict=True
    ):
        assert torch.equal(state["exp_avg_sq"], other["exp_avg_sq"])
    assert theirs["training"]["num_steps"] == ours["training"]["num_steps"] == 2
    without_time = [re.sub(r"time \S+", "", (f / "training_log.txt").read_text()) for f in (trained.folder, run.folder)]
    assert without_time[0] == without_time[1]


def test_going_on_keeps_the_runs_own_options(tmp_path, capsys):
    files = Files(tmp_path / "data", "h36m")
    files.positions_3d["S5"], files.positions_2d["S5"] = files.positions_3d["S1"], files.positions_2d["S1"]
    run = Run(files.save(), tmp_path / "run")
    its_own = ["-str", "S1,S5", "--val-subjects", "S5", "--text-dropout", "1", "--warmup", "3", "--subset", "0.5"]
    assert run(*its_own, "-lrd", "0.9", "-b", "81") == 0
    before = json.loads((run.folder / "options.json").read_text())
    call = ["-c", str(run.folder), "--resume", "last.bin", "--device", "cpu", "-e", "2"]
    capsys.readouterr()
    assert main_gt.main(call) == 0
    assert "note:" not in capsys.readouterr().out
    after = json.loads((run.folder / "options.json").read_text())
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"epochs", "resume"}
    assert torch.load(run.folder / "last.bin", weights_only=True)["selection"].startswith("held-out")
    assert main_gt.main([*call, "-e", "3", "-lrd", "0.5"]) == 0
    assert "note: -lrd is 0.5 from here on; the run had 0.9" in capsys.readouterr().out


@pytest.mark.parametrize("value", [{"batch_size": "9"}, {"actions": [1]}, {"nolog": 1}, {"dataset": "moon"}])
def test_odd_options_in_a_checkpoint(run, capsys, value):
    content = torch.load(run.folder / "last.bin", weights_only=True)
    torch.save({**content, "options": {**content["options"], **value}}, run.folder / "odd.bin")
    call = ["-c", str(run.folder), "--device", "cpu", "--resume", "odd.bin", "-e", "3"]
    fails(capsys, 1, "odd.bin lacks a part of a checkpoint", lambda: main_gt.main(call))


def test_a_log_that_cannot_be_written_changes_nothing(run, tmp_path, capsys):
    (tmp_path / "file").touch()
    run.base.remove("--nolog")
    before = contents(run.folder)
    fails(capsys, 1, "-l .*file is a file; name a folder", lambda: run("-l", str(tmp_path / "file")))
    assert contents(run.folder) == before
    fresh = Run(run.files, tmp_path / "fresh")
    fresh.base.remove("--nolog")
    fails(capsys, 1, "-l .*/x cannot be written to", lambda: fresh("-l", str(tmp_path / "file" / "x")))
    assert not fresh.folder.exists()


def test_a_new_run_does_not_destroy_an_old_one(run, capsys):
    before = (run.folder / "last.bin").read_bytes()
    assert run("--no-eval", "-e", "1") == 0
    assert "moved to" in capsys.readouterr().out
    assert (run.folder / "earlier_1" / "last.bin").read_bytes() == before


def test_no_eval_keeps_the_last_epoch_as_the_best(tmp_path):
    run = Run(Files(tmp_path / "data", "h36m").save(), tmp_path / "run")
    assert run("--no-eval", "--export-training-curves", "-e", "2") == 0
    assert (run.folder / "training_log.txt").read_text().count("3d_pos_valid -") == 2
    assert torch.load(run.folder / "best_epoch_1_1.bin", weights_only=True)["epoch"] == 2
    assert run.results("H1_K1")["checkpoint_chosen_on"].startswith("nothing: the last epoch")


def test_held_out_subjects_choose_the_epoch(tmp_path, capsys):
    files = Files(tmp_path / "data", "h36m")
    files.positions_3d["S5"], files.positions_2d["S5"] = files.positions_3d["S1"], files.positions_2d["S1"]
    run = Run(files.save(), tmp_path / "run")
    assert run("-str", "S1,S5", "--val-subjects", "S5") == 0
    assert "chosen on held-out training subjects S5" in capsys.readouterr().out
    assert run.results("H1_K1")["checkpoint_chosen_on"] == "held-out training subjects S5 (--val-subjects)"


def test_humaneva_trains_with_15_joints_and_leaves_j_agg_out(tmp_path, capsys):
    files = Files(tmp_path / "data", "humaneva15").save()
    argv = ["-d", "humaneva15", "--data-dir", str(files.folder), "-c", str(tmp_path / "run"), "--p2"]
    argv += ["-str", "Train/S1", "-ste", "Validate/S1", "--device", "cpu"]
    assert main_gt.main([*SMALL, *argv]) == 0
    assert "Left out: J-Agg-est, R-Agg, J-Agg" in capsys.readouterr().out
    found = json.loads((tmp_path / "run" / "results_H1_K1.json").read_text())
    assert found["average"]["protocol_2"].keys() == {"J_Best", "P_Best", "P_Agg"}
    assert found["subjects"]["all"]["actions"].keys() == {"Walking", "Jog"}


def test_custom_video_gives_predictions_and_no_errors(run, tmp_path, capsys):
    write_custom(tmp_path)
    options = ["-d", "custom", "-k", "mine", "-ste", "street.mp4", "--data-dir", str(tmp_path), "-num_proposals", "3"]
    assert run("--evaluate", "best_epoch_1_1.bin", *options, "--action-prompt", "neutral") == 0
    assert "no 3D truth" in capsys.readouterr().out
    found = read_npz(run.folder / "custom_predictions_H3_K1_neutral_mine_street.mp4.npz")
    poses, spread = found["positions_3d"]["street.mp4"]["custom"][0], found["spread"]["street.mp4"]["custom"][0]
    assert poses.shape == (12, 17, 3)
    assert spread.shape == (12, 17)
    assert spread[:, 1:].min() > 0
    assert not poses[:, 0].any()
    assert found["metadata"]["unit"] == "metres"
    assert run("--evaluate", "best_epoch_1_1.bin", *options) == 0
    given = read_npz(run.folder / "custom_predictions_H3_K1_mine_street.mp4.npz")
    assert given["metadata"]["told"] == {"street.mp4": {"custom": ""}}


def test_render_draws_the_prediction(run, tmp_path):
    picture, poses = tmp_path / "a" / "clip.gif", tmp_path / "clip.npy"
    options = ["--viz-subject", "S9", "--viz-action", "Sitting", "--viz-export", str(poses)]
    evaluate = ["--evaluate", "best_epoch_1_1.bin", "-num_proposals", "2", "-f", "2"]  # 22 frames are 11 whole windows
    outputs = ["--viz-output", str(picture), "--viz-size", "2", "--viz-limit", "3"]
    test = load_dataset("h36m", run.files.folder, "gt", subjects_test=["S9"], training=False).test
    truth = [clip.poses_3d for clip in test if clip.action == "Sitting"]
    errors = []
    for camera in range(4):
        assert run(*evaluate, "--render", *options, "--viz-camera", str(camera), *(outputs if camera == 2 else [])) == 0
        errors.append(1000 * np.linalg.norm(np.load(poses) - truth[camera], axis=-1).mean())
    assert picture.read_bytes()[:6] == b"GIF89a"
    assert run(*evaluate, "-a", "Sitting") == 0
    measured = run.results("H2_K1_Sitting_f2")["average"]["protocol_1"]["P_Agg"][0]
    assert np.mean(errors) == pytest.approx(measured, rel=1e-5)


def test_tensorboard_gets_numbers_and_a_picture(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Run(Files(tmp_path / "data", "h36m").save(), tmp_path / "run")
    run.base.remove("--nolog")
    assert run("-l", str(tmp_path / "log")) == 0
    events = EventAccumulator(str(tmp_path / "log")).Reload()
    assert {"loss/train_mm", "error/train_mm", "error/validation_mm", "learning_rate"} <= set(events.Tags()["scalars"])
    assert events.Tags()["images"] == ["poses"]


def test_bf16_is_near_and_another_number(run):
    assert run("--evaluate", "best_epoch_1_1.bin") == 0
    plain = run.results("H1_K1")["average"]["protocol_1"]["P_Agg"][0]
    assert run("--evaluate", "best_epoch_1_1.bin", "--precision", "bf16-mixed") == 0
    mixed = run.results("H1_K1_bf16-mixed")["average"]["protocol_1"]["P_Agg"][0]
    assert mixed != plain
    assert mixed == pytest.approx(plain, rel=0.02)


def fails(capsys, code, expected, call):
    """`call` ends with the exit code and one clear line that says `expected`."""
    capsys.readouterr()
    assert call() == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert re.search(expected, lines[0]), lines[0]


def test_the_tower_of_the_training_is_taken_unless_another_is_asked_for(run, capsys):
    argv = [word for word in run.base if word not in ("--text-encoder", "random")]
    argv += ["--evaluate", "last.bin", "--debug"]
    assert main_gt.main(argv) == 0
    assert "Text tower: random weights" in capsys.readouterr().out
    fails(capsys, 1, "give --text-encoder random again", lambda: main_gt.main([*argv, "--text-encoder", "clip"]))


def test_checkpoints_that_do_not_fit(run, tmp_path, capsys):
    def evaluate(name, *more):
        return lambda: run("--evaluate", name, *more)

    folder = run.folder
    fails(capsys, 1, "absent.bin not found; checkpoints there: best_epoch", evaluate("absent.bin"))
    whole = (folder / "last.bin").read_bytes()
    (folder / "half.bin").write_bytes(whole[: len(whole) // 2])
    fails(capsys, 1, "half.bin is damaged", evaluate("half.bin"))
    (folder / "text.bin").write_text("hello")
    fails(capsys, 1, "text.bin is no checkpoint; name a file", evaluate("text.bin"))
    torch.save({"a": 1}, folder / "other.bin")
    fails(capsys, 1, "other.bin is no DSGDiffu checkpoint", evaluate("other.bin"))
    torch.save([1], folder / "list.bin")
    fails(capsys, 1, "list.bin holds a list", evaluate("list.bin"))
    fails(capsys, 1, "was trained with -cs 16; -cs 32 was given", evaluate("last.bin", "-cs", "32"))
    fails(capsys, 2, "was trained with -f 9; -f 27 was given: give -f 9 or fewer", evaluate("last.bin", "-f", "27"))
    fails(
        capsys,
        2,
        "-sampling_timesteps 2000 is more than -timestep 1000",
        evaluate("last.bin", "-sampling_timesteps", "2000"),
    )
    fails(capsys, 1, "leave --compat-release out", evaluate("last.bin", "--compat-release"))
    humaneva = ["-d", "humaneva15", "-ste", "Validate/S1"]
    fails(capsys, 1, r"skeleton 'h36m' \(17 joints\); the data has 'humaneva15'", evaluate("last.bin", *humaneva))
    fails(capsys, 1, "holds weights alone", lambda: run("--resume", "best_epoch_1_1.bin"))
    content = torch.load(folder / "last.bin", weights_only=True)
    content["weights"].popitem()
    torch.save(content, folder / "less.bin")
    fails(capsys, 1, "less.bin: its weights do not fit", evaluate("less.bin"))
    del content["network"]
    torch.save(content, folder / "lacks.bin")
    fails(capsys, 1, "lacks.bin lacks a part", evaluate("lacks.bin"))
    content["version"] = 99
    torch.save(content, folder / "future.bin")
    fails(capsys, 1, "has version 99", evaluate("future.bin"))


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("weights", [1, 2]),
        ("weights", {"denoiser.embedding.weight": "text"}),
        ("options", None),
        ("scale", "1"),
        ("epoch", "2"),
        ("epoch", -5),
        ("num_timesteps", 10**30),
        ("num_timesteps", 0),
        ("scale", np.inf),
        ("version", "1\n2"),
        ("version", torch.tensor([1, 2])),
        ("tower_source", "a\nb"),
        ("tower_fingerprint", "another"),
        ("network", {"num_frames": 9, "width": 16, "depth": 2, "dropout": 0.0, "a\nb": 1}),
        ("network", {"num_frames": 9, "width": 8 * 10**5, "depth": 2, "dropout": 0.0}),
        ("network", {"num_frames": 9, "width": 16, "depth": 10**9, "dropout": 0.0}),
        ("network", {"num_frames": 9, "width": 16, "depth": 2, "dropout": np.nan}),
        ("training", 5),
        ("selection", 3),
        ("network", {"num_frames": 9, "width": 12, "depth": 2, "dropout": 0.0}),
        ("network", {"num_frames": 9.5, "width": 16, "depth": 2, "dropout": 0.0}),
        ("network", 7),
        ("skeleton", {"name": "h36m"}),
        ("skeleton", []),
        ("prompt_parts", [{"name": "verb", "text": 5, "num_learned": 1, "num_static": 2}]),
        ("prompt_parts", [{"name": "verb", "text": None, "num_learned": 1, "num_static": 2}]),
        ("prompt_parts", [{"name": "verb", "text": None, "num_learned": -1, "num_static": 78}]),
    ],
)
def test_a_checkpoint_with_an_odd_part_is_refused(run, capsys, part, value):
    content = torch.load(run.folder / "last.bin", weights_only=True)
    torch.save({**content, part: value}, run.folder / "odd.bin")
    fails(capsys, 1, "odd.bin", lambda: run("--evaluate", "odd.bin"))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda weight: weight.fill_(torch.nan), "no finite numbers; .* take an earlier epoch's"),
        (lambda weight: weight.double().fill_(1e300), "no finite numbers"),
        (lambda weight: weight.int(), "no plain tensor of real numbers"),
        (lambda weight: weight.to(torch.complex64), "no plain tensor of real numbers"),
        (lambda weight: weight.to_sparse(), "holds more than tensors"),
        (lambda weight: torch.zeros(1).expand(10**6, 10**6), "a tensor of 1000000000000 numbers has 1"),
        (lambda weight: [1.0, 2.0], "no tensor with a name"),
    ],
    ids=["NaN", "beyond float32", "int", "complex", "sparse", "one number for many", "list"],
)
def test_odd_weights_are_refused(run, capsys, make, named):
    content = torch.load(run.folder / "last.bin", weights_only=True)
    weights = content["weights"]
    weights["denoiser.head.1.weight"] = make(weights["denoiser.head.1.weight"])
    torch.save(content, run.folder / "odd.bin")
    fails(capsys, 1, f"odd.bin:? .*{named}", lambda: run("--evaluate", "odd.bin"))


def test_a_weight_without_a_name_is_refused(run, capsys):
    content = torch.load(run.folder / "last.bin", weights_only=True)
    content["weights"][5] = torch.zeros(3)
    torch.save(content, run.folder / "odd.bin")
    fails(capsys, 1, "odd.bin: a weight is no tensor with a name", lambda: run("--evaluate", "odd.bin"))


def test_a_checkpoint_with_other_bytes_in_its_middle_is_refused(run, capsys):
    path = run.folder / "last.bin"
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=True)["weights"]["denoiser.embedding.weight"].numpy().tobytes()
    place = content.index(weight)
    content[place : place + 64] = bytes(64)
    (run.folder / "zeros.bin").write_bytes(content)
    torch.load(run.folder / "zeros.bin", weights_only=True)  # which sees nothing wrong
    fails(capsys, 1, "zeros.bin is damaged .*checksum says[)]; copy it again", lambda: run("--evaluate", "zeros.bin"))
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(run.folder / "packed.bin", "w", zipfile.ZIP_DEFLATED) as other:
        for part in whole.namelist():
            other.writestr(part, whole.read(part))
    fails(capsys, 1, "packed.bin is damaged", lambda: run("--evaluate", "packed.bin"))


def test_a_checkpoint_runs_no_code(run, tmp_path, capsys):
    torch.save({"format": "DSGDiffu checkpoint", "model": Evil(tmp_path / "marker")}, run.folder / "evil.bin")
    fails(capsys, 1, "holds more than tensors", lambda: run("--evaluate", "evil.bin"))
    assert not (tmp_path / "marker").exists()


def test_another_text_tower_is_refused(run, tmp_path, capsys):
    content = torch.load(run.folder / "last.bin", weights_only=True)
    content["tower_fingerprint"] = "0123"
    torch.save(content, run.folder / "clip.bin")
    fails(capsys, 1, "was trained with the text tower", lambda: run("--evaluate", "clip.bin"))


def test_wrong_input_is_one_line_and_nothing_is_written(tmp_path, capsys):
    files = Files(tmp_path / "data", "h36m").save()
    folder = tmp_path / "run"
    base = [*SMALL, *SUBJECTS, "--data-dir", str(files.folder), "-c", str(folder)]
    no_clip = [word for word in base if word not in ("--text-encoder", "random")]
    blocker = tmp_path / "file"
    blocker.touch()
    for code, expected, argv in (
        (2, "-b 2 is smaller than -s 9", [*base, "-b", "2"]),
        (2, "unrecognized arguments: --nonsense", [*base, "--nonsense"]),
        (2, "the width must be a multiple of 8", [*base, "-cs", "12"]),
        (2, "no subject 'S3'", [*base, "-ste", "S3"]),
        (2, "no action begins with 'Fly'", [*base, "-a", "Fly"]),
        (2, "-lr is inf; expected a finite number", [*base, "-lr", "inf"]),
        (2, "-scale is inf; expected a finite number", [*base, "-scale", "inf"]),
        (2, "one of them is empty", [*base, "-a", ","]),
        (2, "--seed is 9999999999", [*base, "--seed", "9999999999"]),
        (2, "device 'meta' cannot be used", [*base, "--device", "meta"]),
        (2, "-gpu is 'x'", [word for word in base if word not in ("--device", "cpu")] + ["-gpu", "x"]),
        (2, "device 'toaster' cannot be used", [*base, "--device", "toaster"]),
        (1, "data_2d_h36m_sh.npz not found", [*base, "-k", "sh"]),
        (1, "nowhere.*not found; data/README.md", [*base, "--data-dir", str(tmp_path / "nowhere")]),
        (1, "cannot be written to", [*base, "-c", str(blocker / "run")]),
        (1, "-c .*file is a file; name a folder", [*base, "-c", str(blocker)]),
        (1, "no such file", [*no_clip, "--clip-weights", str(tmp_path / "absent.pt")]),
        (1, "File name too long", [*base, "-k", "n" * 300]),
        (1, "File name too long", [*base, "--evaluate", "n" * 300]),
        (1, "File name too long", [*no_clip, "--clip-weights", "n" * 300]),
        (1, "cannot be written to", [*base, "-c", str(tmp_path / ("n" * 300))]),
    ):
        fails(capsys, code, expected, lambda argv=argv: main_gt.main(argv))
        assert not folder.exists()


def test_a_users_mistake_shows_no_traceback():
    command = [sys.executable, "main.py", "--evaluate", "best_epoch_1_1.bin", "-c", "checkpoint/none"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 1
    assert found.stderr.startswith("error: ")
    assert found.stderr.count("\n") == 1


def test_importing_the_scripts_runs_nothing():
    command = [sys.executable, "-c", "import main, main_gt, main_3dhp"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_training_ends_by_evaluating_the_best_epoch(tmp_path):
    run = Run(Files(tmp_path / "data", "h36m").save(), tmp_path / "run")
    assert run("-e", "4", "-lr", "0.1", "-lrd", "1") == 0  # at this rate the error goes up and down
    rows = [json.loads(line) for line in (run.folder / "training_log.jsonl").read_text().splitlines()]
    errors = [row["3d_pos_valid"] for row in rows]
    best = 1 + int(np.argmin(errors))
    assert best < 4
    found = run.results("H1_K1")
    assert found["epoch"] == best
    assert found["average"]["protocol_1"]["P_Agg"][0] == pytest.approx(errors[best - 1], rel=1e-5)


def test_a_resumed_run_looks_for_the_best_epoch_after_no_eval_too(tmp_path):
    run = Run(Files(tmp_path / "data", "h36m").save(), tmp_path / "run")
    assert run("--no-eval") == 0
    assert run("--resume", "last.bin", "-e", "2") == 0
    assert run.results("H1_K1")["epoch"] == 2


def test_going_on_from_an_older_epoch_leaves_a_later_best_aside(run, capsys):
    for name in ("best_epoch_1_1.bin", "last.bin"):
        content = torch.load(run.folder / name, weights_only=True)
        torch.save({**content, "epoch": 2}, run.folder / name)
    assert run("--resume", "epoch_1.bin", "-e", "2") == 0
    assert "is of a later epoch" in capsys.readouterr().out
    assert torch.load(run.folder / "earlier_best_1.bin", weights_only=True)["epoch"] == 2
    assert torch.load(run.folder / "best_epoch_1_1.bin", weights_only=True)["epoch"] == 2


def test_a_best_epoch_chosen_on_others_is_not_reported_as_chosen_here(tmp_path, capsys):
    files = Files(tmp_path / "data", "h36m")
    files.positions_3d["S5"], files.positions_2d["S5"] = files.positions_3d["S1"], files.positions_2d["S1"]
    run = Run(files.save(), tmp_path / "run")
    run.base += ["-str", "S1,S5"]
    assert run("--no-eval") == 0
    before = (run.folder / "best_epoch_1_1.bin").read_bytes()
    expected = "the loss of epoch 2 was no finite number, .* 1 by now; the last good checkpoint is .*last.bin"
    fails(capsys, 1, expected, lambda: broken_off(run, "--val-subjects", "S5"))
    assert (run.folder / "best_epoch_1_1.bin").read_bytes() == before  # it gives way to another best alone
    assert run("--resume", "last.bin", "-e", "2", "--val-subjects", "S5") == 0
    assert "was chosen on nothing" in capsys.readouterr().out
    assert (run.folder / "earlier_best_1.bin").read_bytes() == before
    assert torch.load(run.folder / "best_epoch_1_1.bin", weights_only=True)["selection"].startswith("held-out")
    assert run.results("H1_K1")["checkpoint_chosen_on"].startswith("held-out training subjects S5")
    assert run("--evaluate", "last.bin") == 0
    assert run.results("H1_K1_last")["checkpoint_chosen_on"].startswith("nothing")


def broken_off(run, *argv):
    """Go on from weights whose answers are no numbers: the next epoch ends the run."""
    content = torch.load(run.folder / "last.bin", weights_only=True)
    weights = {name: torch.full_like(weight, 3e38) for name, weight in content["weights"].items()}
    torch.save({**content, "weights": weights}, run.folder / "broken.bin")
    return run("--resume", "broken.bin", "-e", "2", *argv)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_resume_that_is_refused_changes_nothing(run, tmp_path, capsys):
    content = torch.load(run.folder / "last.bin", weights_only=True)
    for name, value in (
        ("history", [1, 2]), ("history", [{}]), ("learning_rate", "x"), ("best", None), ("num_steps", "x"),
        ("best", {BEST: [np.nan, 1]}), ("best", {BEST: [1.0]}), ("best", {BEST: [1.0, "x"]}), ("num_steps", -100),
        ("history", [{**content["training"]["history"][0], "lr": np.nan}]), ("skipped_in_row", 10**6),
        ("optimizer", []), ("optimizer", {"state": {}, "param_groups": []}), ("processes", 0), ("processes", "2"),
        ("progress", {}), ("progress", {**content["training"]["progress"], "batches": -1}),
    ):  # fmt: skip
        odd = {**content, "training": {**content["training"], name: value}}
        torch.save(odd, tmp_path / f"odd_{name}_{len(str(value))}.bin")
    before = contents(run.folder)
    elsewhere = tmp_path / "elsewhere.bin"
    elsewhere.write_bytes((run.folder / "best_epoch_1_1.bin").read_bytes())
    fails(capsys, 1, "holds weights alone", lambda: run("--resume", str(elsewhere), "-e", "3"))
    fails(capsys, 2, "is at epoch 2 already, -e is 2; give a larger -e", lambda: run("--resume", "last.bin", "-e", "2"))
    for path in tmp_path.glob("odd_*.bin"):
        fails(capsys, 1, "training state does not fit", lambda path=path: run("--resume", str(path), "-e", "3"))
    assert contents(run.folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_auto_begins_no_new_run_where_last_bin_is_a_link_that_leads_away(run, tmp_path, capsys):
    (run.folder / "last.bin").rename(tmp_path / "last.bin")
    (run.folder / "last.bin").symlink_to(tmp_path / "last.bin")
    before = contents(run.folder)
    fails(capsys, 1, "last.bin leads out of the run's folder, to", lambda: run("--resume", "auto", "-e", "3"))
    (tmp_path / "last.bin").unlink()
    fails(capsys, 1, "last.bin not found", lambda: run("--resume", "auto", "-e", "3"))
    assert contents(run.folder).keys() == before.keys() - {"last.bin"}


def test_anothers_file_does_not_say_where_to_write(run, tmp_path, monkeypatch):
    content = torch.load(run.folder / "last.bin", weights_only=True)
    content["options"] |= {"log": str(tmp_path / "planted"), "nolog": False}
    torch.save(content, tmp_path / "theirs.bin")
    monkeypatch.chdir(tmp_path)
    base = [*SUBJECTS, "-c", str(tmp_path / "mine"), "--debug", "--no-eval", "-e", "3"]
    assert main_gt.main([*base, "--resume", str(tmp_path / "theirs.bin")]) == 0
    assert not (tmp_path / "planted").exists()
    assert (tmp_path / "log").exists()


def test_what_was_forced_and_made_with_what_is_in_the_results(run, capsys):
    shutil.copy(run.files.folder / "data_2d_h36m_gt.npz", run.files.folder / "data_2d_h36m_other.npz")
    assert run("-k", "other", "--evaluate", "last.bin", "--force") == 0
    assert "2D input: other, and trained on another, gt (--force)" in capsys.readouterr().out
    found = next(run.folder.glob("results_*other*.json"))
    found = json.loads(found.read_text())
    assert any("trained on another, gt" in note for note in found["notes"])
    assert found["made_with"]["packages"]["torch"]
    assert "data_2d_h36m_other.npz" in found["made_with"]["data"]["sha256"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda averages, _: averages.update(exp_avg=torch.zeros(1)),
        lambda averages, _: averages.update(exp_avg_sq=averages["exp_avg_sq"].T),
        lambda averages, _: averages.update(exp_avg=averages["exp_avg"].T.contiguous().T),
        lambda averages, _: averages.update(exp_avg=averages["exp_avg"] * torch.nan),
        lambda averages, _: averages.update(exp_avg_sq=averages["exp_avg_sq"] - 1),
        lambda averages, _: averages.update(exp_avg=averages["exp_avg"].int()),
        lambda averages, _: averages.update(step=torch.zeros(5)),
        lambda averages, _: averages.update(step=3),
        lambda averages, _: averages.pop("exp_avg"),
        lambda _, group: group.update(betas="x"),
        lambda _, group: group.update(weight_decay=-5.0),
        lambda _, group: group.update(fused=None),
    ],
    ids=[
        "shape", "transposed", "order in memory", "NaN", "negative", "int", "steps", "step", "absent", "betas",
        "weight decay", "not fused",
    ],
)  # fmt: skip
def test_an_odd_optimizer_is_refused(run, capsys, spoil):
    """Some of these made the fused step read where there is nothing: the process ended without a word."""
    content = torch.load(run.folder / "last.bin", weights_only=True)
    optimizer = content["training"]["optimizer"]
    averages = next(averages for averages in optimizer["state"].values() if averages["exp_avg"].shape == (16, 5))
    spoil(averages, optimizer["param_groups"][0])
    torch.save(content, run.folder / "odd.bin")
    fails(capsys, 1, "odd.bin: its training state does not fit", lambda: run("--resume", "odd.bin", "-e", "3"))


def test_only_a_runs_own_files_are_moved_aside(tmp_path):
    run = Run(Files(tmp_path / "data", "h36m").save(), tmp_path / "run")
    run.folder.mkdir()
    (run.folder / "notes.txt").write_text("mine")
    (run.folder / "best_epoch_1_1.bin").write_text("somebody's weights")
    (run.folder / "scores_H20_K10").mkdir()
    assert run("--no-eval") == 0
    assert (run.folder / "earlier_1" / "scores_H20_K10").is_dir()
    assert (run.folder / "notes.txt").read_text() == "mine"
    assert (run.folder / "earlier_1" / "best_epoch_1_1.bin").read_text() == "somebody's weights"


def test_the_public_releases_checkpoints_are_evaluated(tmp_path, capsys):
    files = Files(tmp_path / "data", "h36m").save()
    folder = tmp_path / "run"
    folder.mkdir()
    state = {f"module.{name}": tensor for name, tensor in tiny_state().items()}
    state |= {"module.betas": torch.ones(1000), "module.sqrt_recipm1_alphas_cumprod": torch.ones(1000)}
    content = {"epoch": 7, "lr": np.float64(0.1), "random_state": np.random.RandomState(1), "optimizer": {}}
    torch.save({**content, "model_pos": state}, folder / "release.bin")
    argv = [*SUBJECTS, "--data-dir", str(files.folder), "-c", str(folder), "--evaluate", "release.bin"]
    fails(capsys, 1, "add --compat-release", lambda: main_gt.main(argv))
    assert main_gt.main([*argv, "--compat-release", "-num_proposals", "2", "-b", "3"]) == 0
    found = json.loads((folder / "results_H2_K1_release.json").read_text())
    assert found["compat_release"]
    assert found["epoch"] == 7
    state.popitem()
    del state["module.pose_estimator.head.1.weight"]
    torch.save({**content, "model_pos": state}, folder / "release.bin")
    fails(capsys, 1, "its weights do not fit", lambda: main_gt.main([*argv, "--compat-release"]))


def test_warmup_raises_the_rate_step_by_step(tmp_path):
    run = Run(Files(tmp_path / "data", "h36m").save(), tmp_path / "run")
    assert run("--no-eval", "-e", "3", "-b", "324", "--warmup", "10", "-lrd", "0.5", "-lr", "0.001") == 0
    content = torch.load(run.folder / "last.bin", weights_only=True)["training"]
    assert content["num_steps"] == 6  # two batches an epoch
    (group,) = content["optimizer"]["param_groups"]
    assert group["lr"] == pytest.approx(0.001 * 0.25 * 6 / 10)
