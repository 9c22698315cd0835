"""MPI-INF-3DHP's evaluation and export: rows, valid frames, whole sequences, MATLAB files, and the script."""

import contextlib
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat

import main_3dhp
from benchmarks.mean_pose import mean_pose_errors
from common.answers import SequenceAnswers
from common.arguments import MPI_INF_3DHP as DEFAULTS
from common.arguments import parse_options
from common.checkpoints import Checkpoint
from common.clip_text import TextTower, TextTowerConfig, random_text_tower
from common.datasets import DATASETS, Dataset, load_dataset
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.evaluation import Sampling, evaluate
from common.mat_export import write_mat_files
from common.npz_files import write_npz
from common.protocols import mean_errors, setting_poses
from common.results import as_data, log_lines, report
from common.run_report import run_report
from common.runs import dataset_of
from common.skeleton import MPI_INF_3DHP
from common.text_prompts import NO_ACTION_PROMPT
from tests.conftest import SMALL, Files3DHP, seeded_state
from tests.mpi_inf_3dhp_files import TestSet
from tests.test_evaluation import Oracle
from tests.test_release_compat import GOLDEN
from tests.test_score_3dhp import check_same, score, score_in_octave

SHARED = Path(__file__).parents[2] / "shared" / "data" / "cmu_3dhp"
SETTINGS = ("P_Agg", "J_Agg_est", "R_Agg", "J_Agg", "P_Best", "J_Best")
MIXED = "Trained on univ_annot3, measured against annot3: two truths, not comparable with numbers of one"


@pytest.fixture
def clips(mpi_files):
    """TS1 of 20 frames, TS2 of 5, TS5 of 21 and TS6 of 9."""
    return load_dataset("3dhp", mpi_files.save().folder, "ori", training=False).test


@pytest.fixture
def model(clips):
    tower = random_text_tower(config=TextTowerConfig(width=32, layers=1, heads=4))
    return Oracle.build(DenoiserConfig(9, 16, 1), MPI_INF_3DHP, NO_ACTION_PROMPT, tower, GaussianDiffusion())


def with_valid(clip, valid):
    return replace(clip, valid=np.asarray(valid, bool))


class Off(Oracle):
    """The truth, each hypothesis of each frame moved along x by `offset(poses_2d)` (H,), metres."""

    def answer(self, clips, offset):
        super().answer(clips, torch.zeros(1, 17, 3))
        self.offset = offset

    def sample(self, x_2d, prompts, noise):
        samples = super().sample(x_2d, prompts, noise)
        moved = torch.stack([torch.stack([self.offset(pose) for pose in window], dim=1) for window in x_2d])
        samples[..., 0] += moved[:, None, :, :, None]
        return samples


def off_by_frame(model, clips, table):
    """Make `model` err by `table` (H, N) metres in frame n of every clip."""
    frames = {clip.poses_2d[n].tobytes(): n for clip in clips for n in range(clip.num_frames)}
    table = torch.as_tensor(table, dtype=torch.float32)
    model.__class__ = Off
    model.answer(clips, lambda pose: table[:, frames[pose.numpy().tobytes()]])


def test_every_frame_counts_once_and_valid_ones_alone(model, clips):
    """Windows of 9 of a clip of 20 frames are 0..8, 9..17 and 11..19: seven frames come twice."""
    clip = with_valid(clips[0], np.arange(20) != 4)
    off_by_frame(model, [clip], 0.01 * np.arange(20)[None])
    found = evaluate(model, [clip], Sampling(9, 1, 1, 2))
    expected = 10 * np.delete(np.arange(20), 4).mean()
    for errors in (found.average(""), found.frame_average("")):
        for setting in SETTINGS:
            np.testing.assert_allclose(errors[1][setting], expected, rtol=1e-4)
    assert found.num_frames == 19


def test_fault_11_errors_are_each_sequences_own(model, clips):
    still = [with_valid(clips[0], [True] * 20), with_valid(clips[1], [True] * 2 + [False] * 3), clips[2], clips[3]]
    model.answer(still, torch.zeros(1, 17, 3) + torch.tensor([0.1, 0, 0]))
    found = evaluate(model, still, Sampling(9, 1, 2, 3))
    tables = found.rows("")
    assert [(name, table.num_frames) for name, table in tables.items()] == [
        ("TS1", 20), ("TS2", 2), ("TS5", 21), ("TS6", 9)
    ]  # fmt: skip
    for table in tables.values():
        np.testing.assert_allclose(table.errors[1]["P_Agg"], [100, 100], rtol=1e-4)


def test_sequences_weigh_the_same_in_one_mean_and_frames_in_the_other(model, clips):
    short, long = clips[1], clips[2]
    frames = {pose.tobytes() for pose in short.poses_2d}
    model.__class__ = Off
    model.answer([short, long], lambda pose: torch.tensor([0.3 if pose.numpy().tobytes() in frames else 0.1]))
    found = evaluate(model, [short, long], Sampling(9, 1, 1, 4))
    np.testing.assert_allclose(found.average("")[1]["P_Agg"], 200, rtol=1e-4)
    np.testing.assert_allclose(found.frame_average("")[1]["P_Agg"], (5 * 300 + 21 * 100) / 26, rtol=1e-4)


def test_p_best_is_chosen_once_a_batch_on_valid_frames(model, clips):
    clip = with_valid(clips[0], [True] * 9 + [False] * 9 + [True] * 2)
    table = np.zeros((2, 20))
    table[0, :9], table[1, :9] = 0.1, 0.2  # in the first window hypothesis 0 is better
    table[0, 9:18] = 9  # ... and far off where no frame counts
    table[0, 18:], table[1, 18:] = 0.4, 0.3
    off_by_frame(model, [clip], table)

    def p_best(batch_windows):
        found = evaluate(model, [clip], Sampling(9, 2, 1, batch_windows))
        return found.rows("")["TS1"].errors[1]["P_Best"]

    np.testing.assert_allclose(p_best(3), 1000 * (9 * 0.1 + 2 * 0.4) / 11, rtol=1e-4)
    np.testing.assert_allclose(p_best(1), 1000 * (9 * 0.1 + 2 * 0.3) / 11, rtol=1e-4)


def test_no_valid_frame_anywhere_is_never_nan(model, clips):
    """In a window, in a batch, in a sequence, in all of them."""
    none = with_valid(clips[2], [False] * 21)
    some = with_valid(clips[0], [False] * 18 + [True] * 2)
    model.answer([none, some], torch.zeros(2, 17, 3) + torch.tensor([0.1, 0, 0]))
    options = parse_options(["-num_proposals", "2", "--p2"], DEFAULTS, "")
    checkpoint = Checkpoint(model.denoiser.config, MPI_INF_3DHP, (), 1000, 1.0, {}, "", "", False, {}, "TS", 1)
    found = evaluate(model, [none, some], Sampling(9, 2, 1, 1, p2=True))
    np.testing.assert_allclose(found.average("")[1]["P_Best"], 100, rtol=1e-4)
    np.testing.assert_allclose(found.average("")[2]["P_Best"], 0, atol=1e-2)
    for text in (report(found, options, checkpoint), log_lines(found, options, checkpoint)):
        assert "No valid frame, so no error and no part in the means: TS5" in text
        assert "nan" not in text
    data = as_data(found, options, checkpoint, Path("a.bin"))
    assert json.dumps(data, allow_nan=False)
    assert data["subjects"]["all"]["sequences"]["TS5"] == {"frames": 0, "joint_errors": {}}
    assert "nan" not in re.sub(r"base64,[^\"]*", "", run_report(data, found.clips, MPI_INF_3DHP, "a.json"))
    for answers in found.answers:
        assert all(np.isfinite(poses).all() for poses in answers.poses.values())
    found = evaluate(model, [none], Sampling(9, 2, 1, 1))
    assert found.average("") == found.frame_average("") == {}
    data = as_data(found, options, checkpoint, Path("a.bin"))
    assert json.dumps(data, allow_nan=False)
    assert "No frame counts" in run_report(data, found.clips, MPI_INF_3DHP, "a.json")
    assert "TS5" in report(found, options, checkpoint)
    assert found.answers[0].joint_errors("P_Agg").shape == (1, 0, 17)


def test_answers_are_whole_sequences_in_order(model, clips):
    hypotheses = torch.zeros(2, 17, 3)
    hypotheses[1, :, 0] = 0.2
    model.answer(clips, hypotheses)
    found = evaluate(model, clips, Sampling(9, 2, 3, 2))
    assert [answers.clip.row for answers in found.answers] == ["TS1", "TS2", "TS5", "TS6"]
    for answers in found.answers:
        truth = answers.clip.poses_3d
        assert set(answers.poses) == set(SETTINGS)
        assert answers.poses["P_Agg"].shape == (3, *truth.shape)
        np.testing.assert_allclose(answers.poses["J_Best"][2], truth, atol=1e-6)
        np.testing.assert_allclose(
            answers.poses["P_Agg"][1] - truth, np.broadcast_to([0.1, 0, 0], truth.shape), atol=1e-6
        )


def test_joint_errors_are_those_of_the_tables(model, clips):
    clip = replace(with_valid(clips[0], np.arange(20) % 3 > 0), activity=np.arange(20) % 7 + 1)
    torch.manual_seed(0)
    model.answer([clip], torch.randn(3, 17, 3) / 10)
    found = evaluate(model, [clip], Sampling(9, 3, 2, 2))
    (answers,) = found.answers
    for setting in SETTINGS:
        errors = answers.joint_errors(setting)
        assert errors.shape == (2, 13, 17)
        np.testing.assert_allclose(errors.mean(axis=(1, 2)), found.rows("")["TS1"].errors[1][setting], rtol=1e-5)
    np.testing.assert_array_equal(answers.activity, clip.activity[clip.valid])
    assert replace(answers, clip=clips[0]).activity is None


def test_settings_agree_with_plain_numpy():
    random = np.random.default_rng(0)
    samples, target = random.normal(size=(2, 3, 4, 5, 17, 3)), random.normal(size=(2, 5, 17, 3))
    valid, counted = random.random((2, 2, 5)) > 0.3
    nearest = random.integers(4, size=(2, 3, 1, 5, 17))
    weighted = random.normal(size=(2, 3, 5, 17, 3))
    means = {"P_Agg": torch.from_numpy(samples.mean(axis=2)), "R_Agg": torch.from_numpy(weighted)}
    chosen = {"J_Agg_est": torch.from_numpy(nearest[:, :, :, ::-1].copy()), "J_Agg": torch.from_numpy(nearest)}
    poses = setting_poses(*map(torch.from_numpy, (samples, target, valid)), means, chosen, align=False)
    assert tuple(poses) == SETTINGS
    found = mean_errors(poses, torch.from_numpy(target), torch.from_numpy(counted))
    errors = np.linalg.norm(samples - target[:, None, None], axis=-1)  # (B, K, H, F, J)
    for step in range(3):
        of_step = errors[:, step]
        best = np.argmin([of_step[:, h][valid].mean() for h in range(4)])
        expected = {
            "J_Best": of_step.min(axis=1)[counted].mean(axis=0),
            "P_Best": of_step[:, best][counted].mean(axis=0),
            "P_Agg": np.linalg.norm(samples[:, step].mean(axis=1) - target, axis=-1)[counted].mean(axis=0),
            "J_Agg": np.take_along_axis(of_step, nearest[:, step], axis=1)[:, 0][counted].mean(axis=0),
            "J_Agg_est": np.take_along_axis(of_step, nearest[:, step, :, ::-1], axis=1)[:, 0][counted].mean(axis=0),
            "R_Agg": np.linalg.norm(weighted[:, step] - target, axis=-1)[counted].mean(axis=0),
        }
        for setting, error in expected.items():
            np.testing.assert_allclose(found[setting][step], error)


def answers_of(clips, num_steps):
    """Numbers that say where they belong: setting, step, frame, joint, coordinate."""
    found = []
    for number, clip in enumerate(clips):
        index = np.indices((num_steps, clip.num_frames, 17, 3)).astype(np.float32)
        of_pose = number + index[0] / 8 + index[1] / 64 + index[2] / 2048 + index[3] / 8192
        found.append(SequenceAnswers(clip, {"P_Agg": of_pose, "J_Agg": -of_pose}))
    return found


@pytest.mark.parametrize("num_steps", [1, 3])
def test_mat_files_for_scipy(clips, tmp_path, num_steps):
    answers = answers_of(clips, num_steps)
    paths = write_mat_files(tmp_path / "run", answers)
    assert [path.name for path in paths] == ["inference_data_P_Agg.mat", "inference_data_J_Agg.mat"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(path.name for path in paths)
    for path, setting in zip(paths, ("P_Agg", "J_Agg"), strict=True):
        found = loadmat(path)
        assert [name for name in found if name.startswith("TS")] == ["TS1", "TS2", "TS5", "TS6"]
        for of_sequence in answers:
            array = found[of_sequence.clip.row]
            assert array.dtype == np.float64
            assert array.shape == (3, 17, of_sequence.clip.num_frames, num_steps)  # K = 1 keeps its axis
            poses = of_sequence.poses[setting]
            for step in range(num_steps):
                np.testing.assert_allclose(array[:, :, 4, step], 1000 * poses[step, 4].T.astype(float), rtol=1e-12)


@pytest.mark.skipif(shutil.which("octave") is None, reason="GNU Octave is not here")
@pytest.mark.parametrize("num_steps", [1, 3])
def test_mat_files_for_octave(clips, tmp_path, num_steps):
    answers = answers_of(clips, num_steps)
    write_mat_files(tmp_path, answers)
    script = (
        "x = load('inference_data_P_Agg.mat');"
        f"for step = 1:{num_steps}; printf('%d ', class(x.TS5)(1) == 'd', size(x.TS5, 1), size(x.TS5, 2), "
        "size(x.TS5, 3), size(x.TS5, 4)); printf('%.10f ', x.TS5(:, 3, 8, step)); printf('\\n'); end"
    )
    found = subprocess.run(
        ["octave", "--no-gui", "--norc", "--eval", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    for step, line in enumerate(found.stdout.splitlines()):
        *shape, x, y, z = map(float, line.split())
        assert shape == [1, 3, 17, 21, num_steps]
        np.testing.assert_allclose([x, y, z], 1000 * answers[2].poses["P_Agg"][step, 7, 2].astype(float), rtol=1e-9)


def test_a_failure_leaves_no_half_a_file(clips, tmp_path):
    before = write_mat_files(tmp_path, answers_of(clips, 1))[0].read_bytes()
    spoiled = answers_of(clips, 2)
    spoiled[2].poses["P_Agg"] = spoiled[2].poses["P_Agg"][0]  # not what it must be
    with pytest.raises(ValueError, match="axes"):
        write_mat_files(tmp_path, spoiled)
    assert (tmp_path / "inference_data_P_Agg.mat").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_fault_6_the_prompt_fills_the_tower():
    assert (
        sum(part.num_learned + part.num_static for part in NO_ACTION_PROMPT) == TextTowerConfig().context_length == 77
    )


def test_the_mean_pose_is_measured_as_an_evaluation_is(clips):
    clip = with_valid(clips[0], np.arange(20) < 12)
    still = replace(clip, poses_3d=np.repeat(clip.poses_3d[:1], 20, axis=0))
    shifted = replace(still, poses_3d=still.poses_3d + np.float32([0.1, 0, 0]))
    tables = mean_pose_errors(Dataset(DATASETS["3dhp"], train=[still], validation=[], test=[shifted]), 9)
    assert tables["TS1"].num_frames == 12
    np.testing.assert_allclose(tables["TS1"].errors[1]["P_Agg"], 100, rtol=1e-4)


# --- the script ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An epoch on the small files, evaluated at its end; TS6 has no valid frame. Tests must not write over it."""
    folder = tmp_path_factory.mktemp("mpi")
    files = Files3DHP(folder / "data")
    files.test["TS6"]["valid"][:] = 0
    files.test["TS5"]["valid"][2:6] = 0
    files.save()
    write_npz(files.path_train, data=files.train, annotation="univ_annot3")
    write_npz(files.path_test, data=files.test, annotation="annot3")
    base = [*SMALL, "--device", "cpu", "--data-dir", str(files.folder), "-c", str(folder / "run")]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert main_3dhp.main([*base, "-num_proposals", "2", "-sampling_timesteps", "2", "-str", "S1"]) == 0
    assert shown.getvalue().count(MIXED) == 1
    return base, folder / "run"


def test_training_ends_with_tables_and_mat_files(trained):
    _, folder = trained
    names = {path.name for path in folder.iterdir()}
    mat = {f"inference_data_{setting}.mat" for setting in SETTINGS}
    assert mat | {"3dhp_test_log_H2_K2.txt", "results_H2_K2.json", "best_epoch_1_1.bin", "prediction.png"} <= names
    found = json.loads((folder / "results_H2_K2.json").read_text())
    rows = found["subjects"]["all"]["sequences"]
    assert {name: row["frames"] for name, row in rows.items()} == {"TS1": 20, "TS2": 5, "TS5": 17, "TS6": 0}
    assert found["annotation"] == "annot3"
    assert found["action_prompt"] == "none"
    assert [name for name, setting in found["settings"].items() if setting["oracle"]] == ["P_Best", "J_Best"]
    for setting in SETTINGS:
        errors = np.array([row["protocol_1"][setting] for row in rows.values() if row["frames"]])
        np.testing.assert_allclose(found["average"]["protocol_1"][setting], errors.mean(axis=0))
        weighted = np.average(errors, axis=0, weights=[20, 5, 17])
        np.testing.assert_allclose(found["subjects"]["all"]["frame_average"]["protocol_1"][setting], weighted)
    log = (folder / "3dhp_test_log_H2_K2.txt").read_text()
    assert f"step 1 Protocol #1   (MPJPE) sequence-wise average P_Agg: {errors_of(found, 'P_Agg'):f} mm" in log
    assert "----TS6----\nno valid frame" in log
    assert "3D truth: annot3\n" in log
    assert f"# {MIXED}\n" in log
    assert MIXED in found["notes"]


def test_the_result_and_its_report_have_pck(trained):
    _, folder = trained
    found = json.loads((folder / "results_H2_K2.json").read_text())
    scores = json.loads((folder / "scores_H2_K2" / "mpii_3dhp_scores_annot3.json").read_text())
    report = (folder / "report.html").read_text()
    assert "PCK over its threshold" in report
    for setting, of_result in found["pck"]["settings"].items():
        of_scorer = scores["settings"][setting]["steps"]["2"]["mean_over_sequences"]
        assert of_result["pck"] == pytest.approx(of_scorer["pck"]["Total"])
        assert of_result["auc"] == of_scorer["auc"]["Total"]
        assert f"{of_result['pck']:.2f}</td>" in report
        assert of_result["curve"][found["pck"]["thresholds_mm"].index(150)] == of_result["pck"]
        assert of_result["curve"] == sorted(of_result["curve"])
    assert [(clip["name"], clip["frames"]) for clip in found["clips"]] == [
        ("TS1 camera 0", 20),
        ("TS2 camera 0", 5),
        ("TS5 camera 0", 17),
        ("TS6 camera 0", 0),
    ]
    assert "TS6 camera" not in report  # no frame counts: it is neither good nor bad


def test_the_scores_are_of_what_was_measured(trained):
    _, folder = trained
    found = json.loads((folder / "results_H2_K2.json").read_text())
    scores = json.loads((folder / "scores_H2_K2" / "mpii_3dhp_scores_annot3.json").read_text())
    assert list(scores["settings"]) == list(SETTINGS)
    for setting, steps in found["average"]["protocol_1"].items():
        for step, error in enumerate(steps, start=1):
            of_step = scores["settings"][setting]["steps"][str(step)]
            assert of_step["mean_over_sequences"]["mpjpe"]["average"] == pytest.approx(error, rel=1e-5)
            assert (folder / "scores_H2_K2" / f"mpii_3dhp_evaluation_sequencewise_ori_{setting}_t{step}.csv").is_file()
    assert scores["settings"]["J_Best"]["oracle"]
    assert "TS6 has no valid frame: left out" in scores["notes"]
    assert MIXED in scores["notes"]


def errors_of(found, setting):
    return found["average"]["protocol_1"][setting][-1]


def test_the_mat_files_hold_the_answers_that_were_measured(trained):
    base, folder = trained
    found = json.loads((folder / "results_H2_K2.json").read_text())
    test = load_dataset("3dhp", base[base.index("--data-dir") + 1], "ori", training=False).test
    for setting in SETTINGS:
        content = loadmat(folder / f"inference_data_{setting}.mat")
        for clip in test:
            poses = content[clip.subject].transpose(3, 2, 1, 0)
            assert poses.shape == (2, *clip.poses_3d.shape)
            assert not poses[:, :, 14].any()
            if clip.valid.any():
                errors = np.linalg.norm(poses - 1000 * clip.poses_3d, axis=-1)[:, clip.valid].mean(axis=(1, 2))
                row = found["subjects"]["all"]["sequences"][clip.subject]
                np.testing.assert_allclose(errors, row["protocol_1"][setting], rtol=1e-5)


def test_validation_is_the_mean_over_sequences_on_valid_frames(trained):
    _, folder = trained
    row = json.loads((folder / "training_log.jsonl").read_text())
    assert row["3d_pos_valid"] > 0
    assert main_3dhp.main([*trained[0], "--evaluate", "best_epoch_1_1.bin"]) == 0
    assert errors_of(json.loads((folder / "results_H1_K1.json").read_text()), "P_Agg") == pytest.approx(
        row["3d_pos_valid"], rel=1e-5
    )


def test_evaluation_of_some_sequences_with_both_protocols(trained, tmp_path, capsys):
    base, folder = trained
    checkpoint = str(folder / "best_epoch_1_1.bin")
    argv = [*base, "-c", str(tmp_path), "--evaluate", checkpoint, "-ste", "TS1,TS5", "--p2", "-b", "1", "-f", "7"]
    assert main_3dhp.main(argv) == 0
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "results_H1_K1_run-best_epoch_1_1_TS1-TS5_f7.json").read_text())
    assert list(found["subjects"]["all"]["sequences"]) == ["TS1", "TS5"]
    assert found["average"].keys() == {"protocol_1", "protocol_2"}
    assert errors_of({"average": {"protocol_1": found["average"]["protocol_2"]}}, "P_Agg") < errors_of(found, "P_Agg")
    for text in ("mean over sequences", "mean over frames", "J-Best* P1", "3D truth: annot3", "told none"):
        assert text in shown
    assert loadmat(tmp_path / "inference_data_J_Agg.mat")["TS5"].shape == (3, 17, 21, 1)


@pytest.mark.parametrize("option", [["--debug", "-b", "1"], ["--debug"], ["--downsample", "2"]])
def test_what_leaves_frames_out_exports_nothing(trained, tmp_path, capsys, option):
    base, folder = trained
    assert main_3dhp.main([*base, "-c", str(tmp_path), "--evaluate", str(folder / "last.bin"), *option]) == 0
    assert "no files for the dataset's own scorer" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.mat"))
    assert not list(tmp_path.glob("scores*"))


def test_each_evaluation_has_scores_of_its_own(trained, tmp_path, capsys):
    base, folder = trained
    argv = [*base, "-c", str(tmp_path), "--evaluate", str(folder / "best_epoch_1_1.bin")]
    assert main_3dhp.main([*argv, "-sampling_timesteps", "3"]) == main_3dhp.main(argv) == 0
    shown = capsys.readouterr().out
    assert shown.count("P-Agg: the mean") == shown.count(MIXED) == 2  # once an evaluation
    (
        tmp_path / "scores_H1_K1_run-best_epoch_1_1" / "mpii_3dhp_scores_univ_annot3.json"
    ).touch()  # the data was of another truth then
    assert main_3dhp.main(argv) == 0
    names = {
        number: {path.name for path in (tmp_path / f"scores_H1_K{number}_run-best_epoch_1_1").iterdir()}
        for number in (1, 3)
    }
    for number, of_run in names.items():
        csvs = {
            f"mpii_3dhp_evaluation_sequencewise_ori_{name}_t{k + 1}.csv" for name in SETTINGS for k in range(number)
        }
        assert of_run == csvs | {"mpii_3dhp_scores_annot3.json", "mpii_3dhp_pck_annot3.png"}


def test_a_checkpoint_says_which_truth_it_was_trained_on(trained, tmp_path, capsys):
    base, folder = trained
    content = torch.load(folder / "last.bin", weights_only=True)
    assert content["annotation"] == "univ_annot3"
    argv = [*base, "-c", str(tmp_path), "--evaluate", str(tmp_path / "a.bin"), "-ste", "TS2"]
    for annotation, note in (
        ("annot3, presumably (the file does not say)", None),
        ("univ_annot3", MIXED),
        (None, "Trained on: the checkpoint does not say which 3D truth"),  # a file of before
    ):
        of_file = {**content, "annotation": annotation}
        torch.save({name: value for name, value in of_file.items() if value is not None}, tmp_path / "a.bin")
        assert main_3dhp.main(argv) == 0
        shown = capsys.readouterr().out
        found = json.loads((tmp_path / "results_H1_K1_a_TS2.json").read_text())
        assert [line for line in found["notes"] if line.startswith("Trained on")] == ([note] if note else [])
        assert shown.count("Trained on") == (note is not None)
    torch.save({**content, "annotation": "annot3"}, tmp_path / "a.bin")
    assert main_3dhp.main([*base, "-c", str(tmp_path), "--resume", str(tmp_path / "a.bin"), "-e", "2"]) == 1
    assert "was trained on annot3; the data is univ_annot3: go on with the data of before" in capsys.readouterr().err


def test_the_evaluation_its_poses_and_octave_give_one_answer(trained, tmp_path):
    """Every cell of every CSV, of truth that float32 rounds."""
    base, folder = trained
    files, random = TestSet(tmp_path, {"TS1": 60, "TS5": 30}), np.random.default_rng(7)
    data = {}
    for name, truth in files.truth.items():
        poses = truth["annot3"] = truth["annot3"] + random.random(truth["annot3"].shape) / 3
        data[name] = {
            "data_2d": random.uniform(0, 1000, (poses.shape[-1], 17, 2)),
            "data_3d": poses[:, :, 0].transpose(2, 1, 0),
            "valid": truth["valid_frame"][0],
            "activity": truth["activity_annotation"][0].astype(int),
        }
    files.predictions = {}
    files.save()
    write_npz(tmp_path / "data" / "data_test_3dhp_ori.npz", data=data, annotation="annot3")
    argv = [*base, "--data-dir", str(tmp_path / "data"), "-c", str(files.run), "-num_proposals", "2"]
    argv += ["--evaluate", str(folder / "best_epoch_1_1.bin"), "-sampling_timesteps", "2"]
    assert main_3dhp.main(argv) == 0
    assert score(files) == 0
    num_cells = 2 * len(SETTINGS) * 36 * (4 + 8)
    assert check_same(files.run / "scores_H2_K2_run-best_epoch_1_1", files.out) == num_cells
    if shutil.which("octave-cli"):
        done = score_in_octave(files, tmp_path / "octave")
        assert done.returncode == 0, done.stderr
        assert check_same(files.run / "scores_H2_K2_run-best_epoch_1_1", tmp_path / "octave") == num_cells


def test_the_text_is_encoded_once_in_an_evaluation(trained, tmp_path, monkeypatch):
    base, folder = trained
    texts = []
    forward = TextTower.forward
    monkeypatch.setattr(TextTower, "forward", lambda self, *x: texts.append(len(x[0])) or forward(self, *x))
    assert (
        main_3dhp.main([*base, "-c", str(tmp_path), "--evaluate", str(folder / "last.bin"), "-num_proposals", "3"]) == 0
    )
    assert texts == [1]


def test_render_draws_a_test_sequence(trained, tmp_path):
    base, folder = trained
    poses = tmp_path / "poses.npy"
    argv = [*base, "--evaluate", str(folder / "last.bin"), "--render", "--viz-subject", "TS5"]
    argv += ["--viz-output", str(tmp_path / "a.png"), "--viz-export", str(poses)]
    assert main_3dhp.main(argv) == 0
    assert np.load(poses).shape == (21, 17, 3)
    assert (tmp_path / "a.png").stat().st_size > 0


def test_nothing_to_choose_an_epoch_on(mpi_files, tmp_path, capsys):
    for content in mpi_files.test.values():
        content["valid"][:] = 0
    argv = [*SMALL, "--device", "cpu", "--data-dir", str(mpi_files.save().folder), "-c", str(tmp_path / "run")]
    assert main_3dhp.main(argv) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: no valid frame to choose the best epoch on; give --no-eval")
    assert error.count("\n") == 1


def release_state():
    """The tensors of a release checkpoint of MPI-INF-3DHP at the small size: no verb, more of the sentence learned."""
    shapes = json.loads((GOLDEN / "release_tiny_state.json").read_text())
    del shapes["pose_estimator.ctx_verb"]
    learned = {"subject": 5, "speed": 8, "head": 8, "body": 8, "arm": 12, "leg": 12}
    shapes |= {f"pose_estimator.ctx_{name}": [number, 32] for name, number in learned.items()}
    return {f"module.{name}": tensor for name, tensor in seeded_state(shapes).items()}


def test_the_public_releases_checkpoints_are_evaluated(mpi_files, tmp_path, capsys):
    torch.save({"epoch": 7, "model_pos": release_state()}, tmp_path / "release.bin")
    base = ["--device", "cpu", "--data-dir", str(mpi_files.save().folder), "-c", str(tmp_path), "-b", "2"]
    argv = [*base, "-ste", "TS5,TS6", "--evaluate", "release.bin", "-num_proposals", "3"]
    assert main_3dhp.main(argv) == 1
    assert "add --compat-release" in capsys.readouterr().err
    assert main_3dhp.main([*argv, "--compat-release"]) == 0
    found = json.loads((tmp_path / "results_H3_K1_release.json").read_text())
    assert found["compat_release"]
    assert errors_of(found, "J_Best") < errors_of(found, "J_Agg")
    assert loadmat(tmp_path / "inference_data_J_Agg.mat")["TS6"].shape == (3, 17, 9, 1)


def test_fault_15_is_back_in_a_run_that_asks_for_the_release(mpi_files):
    argv = ["--data-dir", str(mpi_files.save().folder), "-ste", "TS5"]
    for more, aspect in (([], 0.993236), (["--compat-release"], 1)):
        dataset = dataset_of(parse_options([*argv, *more], DEFAULTS, ""))
        for clips in (dataset.test, dataset.validation):
            intrinsics = clips[0].camera.intrinsics
            assert intrinsics[1] / intrinsics[0] == pytest.approx(aspect)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
def test_the_cmu_files_train_evaluate_and_export(tmp_path):
    argv = [*SMALL, "--device", "cpu", "--data-dir", str(SHARED), "-c", str(tmp_path / "run"), "-ste", "TS5,TS6"]
    assert main_3dhp.main([*argv, "-str", "S1", "--subset", "0.02", "-f", "27", "-b", "270"]) == 0
    found = loadmat(tmp_path / "run" / "inference_data_P_Agg.mat")
    assert (found["TS5"].shape, found["TS6"].shape) == ((3, 17, 320, 1), (3, 17, 249, 1))
    rows = json.loads((tmp_path / "run" / "results_H1_K1.json").read_text())["subjects"]["all"]["sequences"]
    assert {name: row["frames"] for name, row in rows.items()} == {"TS5": 276, "TS6": 249}
