"""The command, from files to files, and Octave's scorer beside it."""

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from common import score_3dhp
from common.score_3dhp import main
from tests.mpi_inf_3dhp_files import SETTINGS, TestSet, write_v73

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "3dhp_test" / "test_util" / "mpii_test_predictions_ori_py.m"
REAL = ROOT.parent / "shared" / "data" / "3dhp_test" / "TS5" / "annot_data.mat"

octave = pytest.mark.skipif(shutil.which("octave-cli") is None, reason="octave is not installed")
real = pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is not there: MPI-INF-3DHP may not be passed on")


def score(files: TestSet, *more: str) -> int:
    return main(["--predictions", str(files.run), "--test-set", str(files.test_set), "--out", str(files.out), *more])


def score_in_octave(files: TestSet, out: Path, **settings: str) -> subprocess.CompletedProcess:
    given = {"PREDICTIONS": files.run, "TEST_SET": files.test_set, "OUT": out, **settings}
    environment = {**os.environ, **{f"SCORE_3DHP_{name}": str(value) for name, value in given.items()}}
    command = ["octave-cli", "--norc", str(SCRIPT)]
    return subprocess.run(command, env=environment, cwd=files.run, capture_output=True, text=True)


def read_csv(path: Path) -> dict[str, dict[str, str]]:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {next(iter(row.values())): row for row in rows}


def check_same(ours: Path, octaves: Path) -> int:
    """Every CSV has the same name, header, rows, and numbers to 1e-6; returns how many numbers."""
    names = sorted(path.name for path in ours.glob("*.csv"))
    assert names
    assert names == sorted(path.name for path in octaves.glob("*.csv"))
    count = 0
    for name in names:
        a, b = ours / name, octaves / name
        assert a.read_bytes().split(b"\n")[0] == b.read_bytes().split(b"\n")[0]
        rows_a, rows_b = read_csv(a), read_csv(b)
        assert list(rows_a) == list(rows_b)
        for row_a, row_b in zip(rows_a.values(), rows_b.values(), strict=True):
            (_, _, _, _, *cells_a), (_, _, _, _, *cells_b) = row_a.values(), row_b.values()
            assert list(row_a.values())[:4] == list(row_b.values())[:4]
            np.testing.assert_allclose(np.array(cells_a, float), np.array(cells_b, float), rtol=0, atol=1e-6)
            count += len(cells_a)
    return count


def test_the_truth_scores_0_and_an_offset_what_it_is(tmp_path, capsys):
    files = TestSet(tmp_path, {"TS2": 9, "TS6": 5}, num_steps=2)
    exact = {name: truth["annot3"][:, :, 0] - truth["annot3"][:, 14:15, 0] for name, truth in files.truth.items()}
    shifted = {
        name: poses + 180.0 * (np.arange(17) == 4)[:, None] * np.eye(3)[0][:, None, None]
        for name, poses in exact.items()
    }
    files.predictions = {"P_Agg": {name: np.stack([shifted[name], exact[name]], axis=-1) for name in exact}}
    for sequence in files.truth.values():
        sequence["valid_frame"][0, 0] = 1
        wrong = sequence["valid_frame"][0] == 0
        sequence["annot3"][..., wrong] += 1000 * np.random.default_rng(0).normal(size=(3, 17, 1, wrong.sum()))
    files.save()
    assert score(files) == 0
    first = read_csv(files.out / "mpii_3dhp_evaluation_sequencewise_ori_P_Agg_t1.csv")
    assert list(first) == ["TestSeq2", "TestSeq6", "mean over sequences", "mean over frames"]
    for row, name in (("TestSeq2", "TS2"), ("TestSeq6", "TS6")):
        assert int(first[row]["frames"]) == files.truth[name]["valid_frame"].sum()
        assert float(first[row]["mpjpe_RWrist_mm"]) == pytest.approx(180)
        assert float(first[row]["mpjpe_average_mm"]) == pytest.approx(180 / 17)
        assert float(first[row]["pck_Wrist_percent"]) == 50
        assert float(first[row]["pck_Total_percent"]) == pytest.approx(100 * 13 / 14)
    last = read_csv(files.out / "mpii_3dhp_evaluation_activitywise_ori_P_Agg_t2.csv")
    assert float(last["All"]["mpjpe_average_mm"]) == pytest.approx(0, abs=1e-9)
    assert float(last["All"]["auc_Total_percent"]) == pytest.approx(100 * 30 / 31)
    data = json.loads((files.out / "mpii_3dhp_scores_annot3.json").read_text())
    assert data["annotation"] == "annot3"
    assert data["settings"]["P_Agg"]["steps"]["1"]["mean_over_frames"]["pck"]["Wrist"] == 50
    assert "no inference_data_J_Agg.mat: left out" in data["notes"]
    printed = capsys.readouterr().out
    assert "against annot3" in printed
    assert re.search(r"no TS1/annot_data.mat in .*: left out", printed)
    with Image.open(files.out / "mpii_3dhp_pck_annot3.png") as picture:
        assert picture.size == (1050, 690)


def test_annotations_are_two_truths_and_always_said(tmp_path, capsys):
    files = TestSet(tmp_path, {"TS1": 6}).save()
    assert score(files, "--annotation", "univ_annot3") == 0
    assert "against univ_annot3" in capsys.readouterr().out
    row = read_csv(files.out / "mpii_3dhp_evaluation_sequencewise_ori_J_Best_t1.csv")["TestSeq1"]
    assert row["annotation"] == "univ_annot3"
    assert json.loads((files.out / "mpii_3dhp_scores_univ_annot3.json").read_text())["annotation"] == "univ_annot3"
    capsys.readouterr()
    assert score(files) == 1  # the CSVs' names do not say the annotation
    assert "has 2 files of other scores, such as mpii_3dhp_pck_univ_annot3.png" in capsys.readouterr().err
    files.out = tmp_path / "other"
    assert score(files) == 0
    assert read_csv(files.out / "mpii_3dhp_evaluation_sequencewise_ori_J_Best_t1.csv")["TestSeq1"] != row


def write_results(files: TestSet, name: str, annotation: str, dataset: str = "3dhp") -> None:
    content = {"dataset": dataset, "annotation": annotation}
    (files.run / f"results_{name}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("said", ["univ_annot3", "annot3, presumably (the file does not say)"])
def test_the_run_says_which_truth_it_is_against(tmp_path, capsys, said):
    files = TestSet(tmp_path, {"TS1": 6}, settings=("P_Agg",)).save()
    write_results(files, "H1_K1", said)
    write_results(files, "H1_K1_humaneva15", "annot7", "humaneva15")
    kind = said.split(",")[0]
    assert score(files) == 0
    printed = capsys.readouterr().out
    assert f"MPI-INF-3DHP, against {kind}, " in printed
    assert f"against {kind}: as the results_*.json in {files.run} say" in printed
    notes = json.loads((files.out / f"mpii_3dhp_scores_{kind}.json").read_text())["notes"]
    assert f"against {kind}: as the results_*.json in {files.run} say" in notes
    other = "annot3" if kind == "univ_annot3" else "univ_annot3"
    assert score(files, "--annotation", other, "--out", str(tmp_path / "other")) == 0
    assert f"the run's own results are against {kind}: not comparable" in capsys.readouterr().out


def test_a_run_that_says_no_truth_or_two(tmp_path, capsys):
    files = TestSet(tmp_path, {"TS1": 6}, settings=("P_Agg",)).save()
    assert score(files) == 0
    assert "against annot3: no results_*.json in" in capsys.readouterr().out
    write_results(files, "H1_K1", "univ_annot3")
    write_results(files, "H1_K2", "annot3")
    assert score(files) == 1
    assert "against univ_annot3 (results_H1_K1.json) and annot3 (results_H1_K2.json); say" in capsys.readouterr().err
    assert score(files, "--annotation", "annot3") == 0
    (files.run / "results_H1_K2.json").write_text("{")
    assert score(files) == 1
    assert "results_H1_K2.json is no whole JSON" in capsys.readouterr().err


@octave
def test_octave_asks_the_run_too(tmp_path):
    files = TestSet(tmp_path, {"TS1": 6}, settings=("P_Agg",)).save()
    assert "no results_*.json" in score_in_octave(files, tmp_path / "a").stdout
    write_results(files, "H1_K1", "univ_annot3")
    done = score_in_octave(files, tmp_path / "b")
    assert done.stdout.startswith("against univ_annot3\n")
    assert score(files) == 0
    check_same(files.out, tmp_path / "b")
    write_results(files, "H1_K2", "annot3, presumably (the file does not say)")
    done = score_in_octave(files, tmp_path / "c")
    assert (done.returncode, (tmp_path / "c").exists()) == (1, False)
    assert "has results against univ_annot3 and annot3" in done.stderr
    assert score_in_octave(files, tmp_path / "c", ANNOTATION="annot3").returncode == 0


def test_scores_of_two_evaluations_are_not_mixed(tmp_path, capsys):
    files = TestSet(tmp_path, {"TS1": 6}, num_steps=3, settings=("P_Agg",)).save()
    assert score(files) == score(files) == 0  # the same again replaces the same
    before = {path.name: path.read_bytes() for path in files.out.iterdir()}
    TestSet(tmp_path, {"TS1": 6}, num_steps=1, settings=("P_Agg",)).save()
    capsys.readouterr()
    assert score(files) == 1
    assert "has 4 files of other scores, such as mpii_3dhp_evaluation_activitywise_ori_P_Agg_t2.csv" in (
        capsys.readouterr().err
    )
    assert {path.name: path.read_bytes() for path in files.out.iterdir()} == before


@octave
def test_octave_does_not_mix_them_either(tmp_path):
    files = TestSet(tmp_path, {"TS1": 6}, num_steps=3, settings=("P_Agg",)).save()
    assert score_in_octave(files, files.out).returncode == 0
    assert score_in_octave(files, files.out).returncode == 0
    before = {path.name: path.read_bytes() for path in files.out.glob("*.csv")}
    TestSet(tmp_path, {"TS1": 6}, num_steps=1, settings=("P_Agg",)).save()
    done = score_in_octave(files, files.out)
    assert done.returncode == 1
    assert re.search(r"files of other scores, such as mpii_3dhp_evaluation_sequencewise_ori_P_Agg_t[23]", done.stderr)
    assert {path.name: path.read_bytes() for path in files.out.glob("*.csv")} == before


def spoil(field, change):
    def spoiled(files: TestSet) -> None:
        files.truth["TS1"][field] = change(files.truth["TS1"][field])

    return spoiled


def spoil_prediction(change):
    def spoiled(files: TestSet) -> None:
        files.predictions["P_Agg"]["TS1"] = change(files.predictions["P_Agg"]["TS1"])

    return spoiled


def other_steps(files: TestSet) -> None:
    files.predictions["P_Agg"]["TS2"] = np.repeat(files.predictions["P_Agg"]["TS2"], 2, axis=3)


def other_sequences(files: TestSet) -> None:
    del files.truth["TS1"], files.predictions["P_Agg"]["TS2"]


def no_sequences(files: TestSet) -> None:
    files.predictions["P_Agg"] = {"TS9": files.predictions["P_Agg"]["TS1"]}


def nothing_valid(files: TestSet) -> None:
    for truth in files.truth.values():
        truth["valid_frame"][:] = 0


def no_field(files: TestSet) -> None:
    del files.truth["TS1"]["activity_annotation"]


FAULTS = {  # what is wrong, and what Python and Octave say
    "frames": (
        spoil_prediction(lambda poses: poses[:, :, :6]),
        "TS1 has 6 frames; expected the 7 of",
        "TS1 has 6 frames, expected the 7 of",
    ),
    "joints": (spoil_prediction(lambda poses: poses[:, :16]), r"shape \(3, 16, 7, 1\)", r"size \[3 16 7\]"),
    "coordinates": (spoil_prediction(lambda poses: poses[:2]), r"shape \(2, 17, 7, 1\)", r"size \[2 17 7\]"),
    "not finite": (
        spoil_prediction(lambda poses: np.full_like(poses, np.inf)),
        "TS1 has numbers that are",
        "TS1 has numbers that are",
    ),
    "origin": (spoil_prediction(lambda poses: poses + 100), "100 mm off 0", "100 mm off 0"),
    "unit": (
        spoil_prediction(lambda poses: poses / 1000),
        r"expected mm \(is it metres",
        r"expected mm \(is it metres",
    ),
    "steps": (other_steps, "sampling steps differ", "TS2 has 2 sampling steps, expected 1"),
    "other sequences": (other_sequences, "no sequence in common", "no sequence in common"),
    "no sequences": (no_sequences, "has none of TS1, TS2", "no sequence in common"),
    "nothing valid": (nothing_valid, "no sequence has a valid frame", "no sequence has a valid frame"),
    "no field": (no_field, "has no activity_annotation", "has no activity_annotation"),
    "valid frames": (
        spoil("valid_frame", lambda valid: valid[:, :5]),
        "has 5 frames; expected 7",
        "5 valid_frame and 7",
    ),
    "valid values": (
        spoil("valid_frame", lambda valid: 2 * valid),
        "valid_frame has values other than 0 and 1",
        "valid_frame has values other than 0 and 1",
    ),
    "truth": (spoil("annot3", lambda poses: poses[:2]), r"shape \(2, 17, 1, 7\)", r"size \[2 17 1 7\]"),
    "two truths": (
        spoil("annot3", lambda poses: np.repeat(poses, 2, axis=2)),
        r"shape \(3, 17, 2, 7\)",
        r"size \[3 17 2 7\]",
    ),
    "truth not finite": (
        spoil("annot3", lambda poses: np.full_like(poses, np.nan)),
        "annot3 has numbers that are not finite",
        "annot3 has numbers that are not finite",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_odd_files_end_with_one_line(tmp_path, name, capsys):
    spoil_files, message, _ = FAULTS[name]
    files = TestSet(tmp_path, {"TS1": 7, "TS2": 4}, settings=("P_Agg",))
    spoil_files(files)
    files.save()
    assert score(files) == 1
    assert re.search(message, capsys.readouterr().err.strip().split("\n")[-1])
    assert not files.out.exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_scoring(tmp_path, capsys, monkeypatch):
    files = TestSet(tmp_path, {"TS1": 7}, settings=("P_Agg",))
    files.save()
    monkeypatch.setattr(score_3dhp, "read_annotations", lambda *_: pytest.fail("the scoring began"))
    (tmp_path / "file").touch()
    files.out = tmp_path / "file" / "out"
    assert score(files) == 1
    assert re.search("--out .* cannot be written to .Not a directory.; name another folder", capsys.readouterr().err)


@octave
@pytest.mark.parametrize("name", FAULTS)
def test_octave_refuses_the_same(tmp_path, name):
    spoil_files, _, message = FAULTS[name]
    files = TestSet(tmp_path, {"TS1": 7, "TS2": 4}, settings=("P_Agg",))
    spoil_files(files)
    files.save()
    done = score_in_octave(files, files.out)
    assert done.returncode == 1
    assert re.search(message, done.stderr)
    assert not list(files.out.glob("*"))


@pytest.mark.parametrize("given", ["", "mpi_inf_3dhp_test_set"])
def test_folders_around_the_test_set_are_looked_into(tmp_path, given):
    files = TestSet(tmp_path, {"TS1": 4}, settings=("P_Agg",)).save()
    inside = tmp_path / "download" / "mpi_inf_3dhp_test_set" / "mpi_inf_3dhp_test_set"
    shutil.copytree(files.test_set, inside)
    files.test_set = tmp_path / "download" / given
    assert score(files) == 0


@pytest.mark.parametrize("given", ["test_set/TS1", "other", "."])
def test_the_test_sets_folder_is_named(tmp_path, capsys, given):
    folder = tmp_path / "a"
    folder.mkdir()
    files = TestSet(folder, {"TS1": 4}, settings=("P_Agg",)).save()
    (folder / "test_set" / "other").mkdir()
    right = files.test_set
    files.test_set = {"other": right / "other", ".": tmp_path}.get(given, folder / given)
    assert score(files) == 1
    assert f"{right} has: give that\n" in capsys.readouterr().err


def test_absent_files_and_wrong_options(tmp_path, capsys):
    files = TestSet(tmp_path, {"TS1": 4}).save()
    run, there = str(files.run), str(files.test_set)
    saved = tmp_path / "errors.mat"
    savemat(saved, {"sequencewise_per_joint_error": cells(np.ones((17, 3)))})
    for argv, code, message in (
        ([], 2, "nothing to score"),
        (["--predictions", run], 2, "nothing to score"),
        (["--nonsense"], 2, "unrecognized"),
        (["--predictions", run, "--test-set", there, "--annotation", "annot2"], 2, "annot2"),
        (["--per-joint-error", str(saved), "--test-set", there], 2, "has errors already"),
        (["--predictions", str(tmp_path / "no"), "--test-set", there], 1, "is no folder"),
        (["--predictions", there, "--test-set", there], 1, "has no inference_data"),
        (["--predictions", run, "--test-set", run], 1, "has no TS1/annot_data.mat"),
        (["--per-joint-error", str(tmp_path / "no.mat")], 1, "not found"),
        (["--predictions", run, "--test-set", there, "--out", str(saved)], 1, f"{saved} is a file; name a folder"),
    ):
        assert main(argv) == code
        error = capsys.readouterr().err.strip().split("\n")[-1]
        assert error.count("error: ") == 1
        assert message in error
    with h5py.File(files.test_set / "TS1" / "annot_data.mat", "r+") as file:
        del file["annot3"]
    assert score(files) == 1
    assert "has no annot3" in capsys.readouterr().err


# --- Octave and Python ---


@octave
@pytest.mark.parametrize("num_steps", [1, 3])
def test_octave_gives_the_same_numbers(tmp_path, num_steps):
    files = TestSet(tmp_path, {"TS1": 40, "TS3": 25, "TS4": 10, "TS6": 31}, num_steps, seed=num_steps)
    files.truth["TS4"]["valid_frame"][:] = 0
    files.truth["TS3"]["activity_annotation"][0, :9] = 0
    for truth in files.truth.values():
        truth["activity_annotation"][truth["activity_annotation"] == 2] = 6
    del files.predictions["P_Agg"]["TS3"], files.predictions["J_Best"]
    if num_steps == 1:
        files.predictions["J_Agg"] = {name: poses[..., 0] for name, poses in files.predictions["J_Agg"].items()}
    files.save()
    done = score_in_octave(files, tmp_path / "octave")
    assert done.returncode == 0, done.stderr
    for line in ("inference_data_J_Best.mat not found", "P_Agg.mat has no TS3", "TS4 has no valid frame", "Exercising"):
        assert done.stdout.count(line) == 1  # whatever the number of settings and steps
    assert score(files) == 0
    assert check_same(files.out, tmp_path / "octave") > num_steps * 3 * 10 * 36


@octave
@real
@pytest.mark.parametrize("annotation", ["annot3", "univ_annot3"])
def test_octave_gives_the_same_numbers_on_the_real_ts5(tmp_path, annotation):
    files = TestSet(tmp_path, {"TS2": 50, "TS5": 320}, num_steps=2)
    with h5py.File(REAL) as file:
        for name in files.truth["TS5"]:
            files.truth["TS5"][name] = file[name][()].T
    random = np.random.default_rng(5)
    files.predictions = {name: files.noisy(2, random, name) for name in files.predictions}
    files.save()
    shutil.copy(REAL, files.test_set / "TS5" / "annot_data.mat")
    done = score_in_octave(files, tmp_path / "octave", ANNOTATION=annotation)
    assert done.returncode == 0, done.stderr
    assert score(files, "--annotation", annotation) == 0
    assert check_same(files.out, tmp_path / "octave") == 2 * len(SETTINGS) * 12 * 36
    row = read_csv(files.out / "mpii_3dhp_evaluation_sequencewise_ori_J_Agg_t2.csv")["TestSeq5"]
    assert (row["annotation"], row["frames"]) == (annotation, "276")


@octave
def test_octaves_errors_can_be_read_again(tmp_path, capsys):
    files = TestSet(tmp_path, {"TS1": 12, "TS2": 5, "TS5": 20}, settings=("P_Best",))
    files.truth["TS2"]["valid_frame"][:] = 0
    files.truth["TS5"]["activity_annotation"][0, :4] = 0
    files.save()
    done = score_in_octave(files, tmp_path / "octave", SETTINGS="P_Best")
    assert done.returncode == 0, done.stderr
    saved = tmp_path / "octave" / "mpii_3dhp_prediction_ori_P_Best_t1.mat"
    assert main(["--per-joint-error", str(saved), "--out", str(files.out)]) == 0
    assert "P-Best*" in capsys.readouterr().out
    assert check_same(files.out, tmp_path / "octave") > 36 * (4 + 3)  # of both tables
    assert main(["--per-joint-error", str(saved), "--annotation", "univ_annot3"]) == 2
    found, count = loadmat(saved), int(files.truth["TS5"]["valid_frame"].sum())
    for name, shape in (("sequencewise_per_joint_error", (17, 1, count)), ("sequencewise_activity_labels", (count, 1))):
        assert found[name].shape == (6, 1)
        assert found[name][4, 0].squeeze().shape == tuple(size for size in shape if size > 1)


@octave
def test_octave_says_what_is_wrong_with_its_settings(tmp_path):
    files = TestSet(tmp_path, {"TS1": 4}, settings=()).save()
    assert (
        "has none of inference_data_{P_Agg,P_Best,J_Best,J_Agg,J_Agg_est,R_Agg}"
        in score_in_octave(files, files.out).stderr
    )
    assert "expected annot3 or univ_annot3" in score_in_octave(files, files.out, ANNOTATION="annot2").stderr
    done = score_in_octave(files, files.out, SETTINGS="P_Agg,foo")
    assert done.returncode == 1
    assert "no setting is called 'foo'; there are P_Agg,P_Best,J_Best,J_Agg,J_Agg_est,R_Agg" in done.stderr


# --- per-joint errors that others saved ---


def cells(*errors: np.ndarray) -> np.ndarray:
    found = np.empty((len(errors), 1), object)
    found[:, 0] = [*errors]
    return found


def test_saved_errors_without_activities_or_annotation(tmp_path, capsys):
    saved = tmp_path / "mine (1).mat"
    errors = np.full((17, 1, 8), 60.0)
    savemat(saved, {"sequencewise_per_joint_error": cells(np.full((17, 2), 20.0), np.zeros((0, 0)), errors)})
    assert main(["--per-joint-error", str(saved)]) == 0
    printed = capsys.readouterr().out
    assert "an annotation that is not said" in printed
    assert "no activities are known" in printed
    assert "it may be an oracle" in printed
    rows = read_csv(tmp_path / "mine (1)_scores" / "mpii_3dhp_evaluation_sequencewise_ori_mine__1__t1.csv")
    assert [rows[name]["mpjpe_average_mm"] for name in rows] == [f"{value:.9f}" for value in (20, 60, 40, 52)]
    assert list(rows)[:2] == ["TestSeq1", "TestSeq3"]
    assert {row["annotation"] for row in rows.values()} == {"unknown"}
    assert not list(tmp_path.rglob("*activitywise*"))
    more = ["--annotation", "annot3", "--out", str(tmp_path / "annot3")]
    assert main(["--per-joint-error", str(saved), *more]) == 0
    assert "against annot3" in capsys.readouterr().out


@pytest.mark.parametrize("column", [True, False])
def test_the_fields_file_of_errors_and_labels(tmp_path, capsys, column):
    """mpii_3dhp_prediction_ori_<setting>_t<k>.mat: (17, 1, frames) mm and, a row or a column, a label a frame."""
    random = np.random.default_rng(3)
    errors = {1: 100 * random.random((17, 1, 8)), 2: np.zeros((17, 1, 0)), 3: 100 * random.random((17, 1, 5))}
    labels = {1: np.array([1, 1, 1, 3, 3, 3, 3, 7], np.uint8), 2: np.zeros(0), 3: np.array([3, 3, 7, 0, 7], np.uint8)}
    saved = tmp_path / "mpii_3dhp_prediction_ori_J_Agg_t10.mat"
    as_cells = cells(*(found[:, None] if column else found[None] for found in labels.values()))
    content = {"sequencewise_per_joint_error": cells(*errors.values()), "sequencewise_activity_labels": as_cells}
    savemat(saved, content)
    assert main(["--per-joint-error", str(saved)]) == 0
    printed = capsys.readouterr().out
    assert "Sitting" in printed
    assert "1 valid frames have no activity of 1 to 7" in printed
    out = tmp_path / f"{saved.stem}_scores"
    rows = read_csv(out / "mpii_3dhp_evaluation_activitywise_ori_J_Agg_t10.csv")
    assert {name: int(row["frames"]) for name, row in rows.items()} == {
        "Standing/Walking": 3, "Sitting": 6, "Miscellaneous": 3, "All": 13
    }  # fmt: skip
    sitting = np.concatenate([errors[1][..., 3:7], errors[3][..., :2]], axis=-1)
    assert float(rows["Sitting"]["mpjpe_average_mm"]) == pytest.approx(sitting.mean(), abs=1e-8)
    for labels_of_3, message in (
        (np.ones(4), r"cell 3 has shape \(1, 4\); expected 5 numbers"),
        (np.full(5, 1.5), "no whole numbers"),
        (np.full(5, np.nan), "not finite"),
    ):
        content["sequencewise_activity_labels"][2, 0] = labels_of_3[None]
        savemat(saved, content)
        assert main(["--per-joint-error", str(saved)]) == 1
        assert re.search(message, capsys.readouterr().err)
    for wrong, message in ((np.ones((6, 1)), "is no cell array"), (as_cells[:2], "cell 3 has shape")):
        savemat(saved, {**content, "sequencewise_activity_labels": wrong})
        assert main(["--per-joint-error", str(saved)]) == 1
        assert message in capsys.readouterr().err


@octave
def test_saved_errors_in_octaves_text(tmp_path):
    errors = 100 * np.random.default_rng(0).random((17, 30))
    savemat(tmp_path / "in.mat", {"a": errors[:, :9], "b": errors[:, None, 9:]})
    script = """load in.mat
    sequencewise_per_joint_error = {a; b}; sequencewise_activity_labels = {3 * ones(1, 9); 3 * ones(21, 1)};
    save errors.mat"""
    subprocess.run(["octave-cli", "--norc", "--eval", script], cwd=tmp_path, check=True, capture_output=True)
    assert main(["--per-joint-error", str(tmp_path / "errors.mat"), "--out", str(tmp_path)]) == 0
    rows = read_csv(tmp_path / "mpii_3dhp_evaluation_sequencewise_ori_errors_t1.csv")
    assert float(rows["mean over frames"]["mpjpe_average_mm"]) == pytest.approx(errors.mean(), abs=1e-8)
    assert float(rows["TestSeq2"]["mpjpe_neck_mm"]) == pytest.approx(errors[1, 9:].mean(), abs=1e-8)
    assert list(read_csv(tmp_path / "mpii_3dhp_evaluation_activitywise_ori_errors_t1.csv")) == ["Sitting", "All"]


def test_odd_saved_errors_end_with_one_line(tmp_path, capsys):
    saved, name = tmp_path / "errors.mat", "sequencewise_per_joint_error"
    for value, message in (
        (np.ones((17, 3)), "no cell array of 1 to 6"),
        (cells(*[np.ones((17, 3))] * 7), "no cell array of 1 to 6"),
        (cells(np.ones((14, 3))), r"cell 1 has shape \(14, 3\)"),
        (cells(np.ones((17, 3)), np.ones((17, 2, 2))), r"cell 2 has shape \(17, 2, 2\)"),
        (cells(-np.ones((17, 3))), "negative"),
        (cells(np.full((17, 3), np.nan)), "not finite"),
        (cells(np.zeros((0, 0))), "nothing can be scored"),
    ):
        savemat(saved, {name: value})
        assert main(["--per-joint-error", str(saved)]) == 1
        assert re.search(message, capsys.readouterr().err)
    write_v73(saved, other=np.ones((2, 2)))
    assert main(["--per-joint-error", str(saved)]) == 1
    assert f"has no {name}" in capsys.readouterr().err
