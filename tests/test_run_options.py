"""Each option through a script's command line: that it changes what it says, and what it says when it cannot."""

import base64
import gzip
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch

import main
import main_gt
from common.arguments import H36M_GT
from common.checkpoints import read_checkpoint
from common.npz_files import read_npz
from common.results import file_stem
from common.skeleton import H36M
from tests.conftest import SMALL, Files
from tests.test_rendering import write_video
from tests.test_runs import SUBJECTS, Run, fails

SHARED = Path(__file__).parents[2] / "shared" / "data" / "cmu_h36m"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("data"), "h36m").save()


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    run = Run(data, tmp_path_factory.mktemp("trained") / "run")
    assert run("--no-eval") == 0
    return run


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "run")
    return Run(trained.files, tmp_path / "run")


def train(data, folder, *argv):
    """The content of last.bin, and the rows of the log."""
    run = Run(data, folder)
    assert run("--no-eval", *argv) == 0
    rows = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    return torch.load(folder / "last.bin", weights_only=True), rows


def test_no_data_augmentation_halves_the_windows(data, tmp_path):
    windows = ["-b", "324"]  # 36 a batch, as many as there are without their mirror images
    assert train(data, tmp_path / "both", *windows)[0]["training"]["num_steps"] == 2
    assert train(data, tmp_path / "one", *windows, "-no-da")[0]["training"]["num_steps"] == 1


@pytest.mark.parametrize(("flag", "value", "place"), [("-drop", 0.9, "dropout"), ("-scale", 3.0, "scale")])
def test_training_and_evaluation_have_the_same_dropout_and_scale(data, tmp_path, flag, value, place):
    content, rows = train(data, tmp_path / "run", "-e", "2", flag, str(value))
    assert (content["network"] | content)[place] == value
    _, plain = train(data, tmp_path / "plain", "-e", "2")
    assert rows[0]["3d_train"] == plain[0]["3d_train"]  # the first answer is zero, whatever comes before the head
    assert rows[1]["3d_train"] != plain[1]["3d_train"]
    run, errors = Run(data, tmp_path / "run"), []
    for _ in range(2):
        assert run("--evaluate", "best_epoch_1_1.bin", "-sampling_timesteps", "2") == 0
        found = run.results("H1_K2")
        assert found["options"][place] == value
        errors.append(found["average"])
    assert errors[0] == errors[1]  # nothing is dropped any more


def test_fewer_diffusion_steps(data, tmp_path, capsys):
    run = Run(data, tmp_path / "run")
    assert run("--no-eval", "-timestep", "5", "-sampling_timesteps", "5") == 0
    assert torch.load(run.folder / "last.bin", weights_only=True)["num_timesteps"] == 5
    fails(capsys, 2, "6 is more than -timestep 5", lambda: run("--evaluate", "last.bin", "-sampling_timesteps", "6"))
    fails(capsys, 1, "trained with -timestep 5; -timestep 9", lambda: run("--evaluate", "last.bin", "-timestep", "9"))


def test_solvers_give_answers_of_their_own_and_say_so(run):
    evaluate = ["--evaluate", "best_epoch_1_1.bin", "--debug", "-sampling_timesteps", "3"]
    found = {}
    for stem, argv in (
        ("H1_K3_debug", []), ("H1_K3_eta0_debug", ["-eta", "0"]), ("H1_K3_dpm-2m_debug", ["--solver", "dpm++2m"]),
    ):  # fmt: skip
        assert run(*evaluate, *argv) == 0
        found[stem] = run.results(stem)
        assert any("published numbers are DDIM's" in note for note in found[stem]["notes"]) == bool(argv)
    last = [data["average"]["protocol_1"]["P_Agg"] for data in found.values()]
    assert last[0][0] == last[1][0] == last[2][0]  # the first prediction is from the same noise
    assert len({errors[2] for errors in last}) == 3


def test_the_rate_that_was_stepped_is_logged(data, tmp_path):
    _, rows = train(data, tmp_path / "run", "-e", "3", "-b", "324", "--warmup", "5", "-lr", "0.001", "-lrd", "0.5")
    assert [row["lr"] for row in rows] == pytest.approx([0.001 * 2 / 5, 0.0005 * 4 / 5, 0.00025])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_the_cpu_serves_where_no_gpu_is(trained, tmp_path, outcome):
    argv = [word for word in trained.base if word not in ("--device", "cpu")]
    shutil.copy(trained.folder / "last.bin", tmp_path)
    argv += ["-c", str(tmp_path), "--evaluate", "last.bin", "--debug", "-gpu"]
    for gpus in ("0", "0,1"):
        code, printed, complained = outcome(main_gt.main, [*argv, gpus])
        assert (code, complained) == (0, "")
        assert "no CUDA device here: running on the CPU" in printed


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_is_the_same_number(run, capsys):
    evaluate = ["--evaluate", "best_epoch_1_1.bin", "-a", "Sitting", "--debug"]
    errors = []
    for more in ([], ["--compile"]):
        assert run(*evaluate, *more) == 0
        errors.append(run.results("H1_K1_Sitting_debug")["average"]["protocol_1"]["P_Agg"])
    assert errors[0] == pytest.approx(errors[1], rel=1e-5)
    torch._dynamo.reset()
    # pytest's own way would hide the setting when it puts it back, from every test after this one.
    with torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")}):
        fails(capsys, 2, "--compile does not work here.*install a C.. compiler", lambda: run(*evaluate, "--compile"))


def test_what_does_not_fit_into_memory_is_one_line(run, tmp_path, capsys):
    evaluate = ["--evaluate", "best_epoch_1_1.bin"]
    for hypotheses in ("2000000000", "9000000000000000"):
        fails(capsys, 2, "not enough memory", lambda h=hypotheses: run(*evaluate, "-num_proposals", h))
    wide = Run(run.files, tmp_path / "wide")
    fails(capsys, 2, "not enough memory for .* smaller -b", lambda: wide("-cs", "8000000"))
    assert not wide.folder.exists()


def test_other_errors_are_not_taken_for_memory(run, monkeypatch):
    def broken(*_argv, **_options):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr("common.runs.evaluate", broken)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        run("--evaluate", "best_epoch_1_1.bin")


def test_a_validation_error_that_is_no_number_ends_the_run(data, tmp_path, capsys):
    run = Run(data, tmp_path / "run")
    fails(capsys, 1, "validation error of epoch 1 is nan; train again with a lower -lr", lambda: run("-lr", "1e30"))
    assert not list(run.folder.glob("*.bin"))


def test_testing_on_a_training_subject_is_said(data, tmp_path, outcome):
    argv = [*Run(data, tmp_path / "run").base, "--no-eval", "--debug"]
    note = "trained and tested on the same subjects, S9"
    assert outcome(main_gt.main, [*argv, "-str", "S1,S9"])[1].count(note) == 2  # before the training and by the table
    assert note not in outcome(main_gt.main, argv)[1]
    again = outcome(main_gt.main, [*argv[:-2], "--evaluate", "last.bin", "-ste", "S1"])[1]
    assert "trained and tested on the same subjects, S1" in again


def film(path):
    """The number of frames of an .mp4, and its size."""
    frames = imageio_ffmpeg.read_frames(str(path))
    size = next(frames)["size"]
    return sum(1 for _ in frames), size


def test_films_as_they_were_asked_for(run, tmp_path):
    def draw(name, *argv):
        options = ["--viz-subject", "S9", "--viz-action", "Sitting", "--viz-size", "2", "--viz-output"]
        assert run("--evaluate", "best_epoch_1_1.bin", "--render", *options, str(tmp_path / name), *argv) == 0
        return film(tmp_path / name)

    whole, size = draw("whole.mp4", "--viz-no-ground-truth")
    assert whole == 22
    assert draw("some.mp4", "--viz-no-ground-truth", "--viz-skip", "4", "--viz-downsample", "3") == (6, size)
    with_truth = draw("truth.mp4", "--viz-bitrate", "1500")
    assert with_truth[0] == 22
    assert with_truth[1][0] > size[0]  # one panel more
    draw("small.mp4", "--viz-bitrate", "10")
    assert (tmp_path / "small.mp4").stat().st_size < (tmp_path / "truth.mp4").stat().st_size
    write_video(tmp_path / "red.mp4", [(200, 0, 0)] * 8, size=(1000, 1002))
    assert draw("over.mp4", "--viz-video", str(tmp_path / "red.mp4"), "--viz-skip", "2")[0] == 6  # the video ends first
    frames = imageio_ffmpeg.read_frames(str(tmp_path / "over.mp4"))
    width, height = next(frames)["size"]
    first = np.frombuffer(next(frames), np.uint8).reshape(height, width, 3).astype(int)
    assert (first[..., 0] > first[..., 1:].max(axis=-1) + 100).mean() > 0.1


def test_the_page_is_of_the_prediction(run, tmp_path):
    """Its distances between joints are those of the exported poses, whichever way the page turned them."""
    where = ["--viz-subject", "S9", "--viz-action", "Sitting", "--viz-camera", "1"]
    outputs = ["--viz-output", str(tmp_path / "a.html"), "--viz-export", str(tmp_path / "a.npy"), "--viz-skip", "2"]
    assert run("--evaluate", "best_epoch_1_1.bin", "-num_proposals", "3", "--render", *where, *outputs) == 0
    text = (tmp_path / "a.html").read_text()
    scene = json.loads(re.search(r'<script id="scene" type="application/json">(.*?)</script>', text)[1])
    packed = scene["arrays"]["prediction"]
    shown = np.frombuffer(gzip.decompress(base64.b64decode(packed["data"])), "<i2").reshape(packed["shape"])
    shown, exported = shown * packed["step"], np.load(tmp_path / "a.npy")[2:]
    assert shown.shape == exported.shape
    distances = [np.linalg.norm(poses[:, :, None] - poses[:, None], axis=-1) for poses in (shown, exported)]
    np.testing.assert_allclose(*distances, atol=1e-3)
    assert scene["arrays"]["hypotheses"]["shape"] == [3, *shown.shape]
    page = ["--render", "--viz-output", str(tmp_path / "b.html"), "--viz-video", str(tmp_path / "no.mp4")]
    assert run("--evaluate", "best_epoch_1_1.bin", *page) == 2


def test_long_lists_of_actions_do_not_share_a_name(run):
    path = run.folder / "best_epoch_1_1.bin"
    checkpoint = read_checkpoint(path, H36M, compat_release=False)
    names = [f"Action {number} of a very long list" for number in range(9)]
    stems = {file_stem(replace(H36M_GT, actions=(*names, last)), checkpoint, path) for last in ("Sit", "Walk")}
    assert len(stems) == 2
    assert all(len(stem) <= 150 for stem in stems)


def test_a_folder_is_no_file_to_draw_into(run, tmp_path, capsys):
    render = ["--evaluate", "best_epoch_1_1.bin", "--render"]
    fails(capsys, 2, "--viz-export is .* no file", lambda: run(*render, "--viz-export", f"{tmp_path}/new/"))
    fails(capsys, 2, "--viz-output is .* no file", lambda: run(*render, "--viz-output", str(tmp_path)))


def test_a_name_with_a_line_break_is_one_line(run, capsys):
    fails(capsys, 1, "not found", lambda: run("--evaluate", "best_epoch_1_1.bin", "--force", "-k", "gt\nmore"))


def test_a_bad_video_is_found_before_the_sampling(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("common.runs.predict_clip", None)  # a call would be a traceback
    (tmp_path / "text.mp4").write_text("no video")
    render = ["--evaluate", "best_epoch_1_1.bin", "--render", "--viz-output", str(tmp_path / "a.png"), "--viz-video"]
    fails(capsys, 1, "absent.mp4 not found", lambda: run(*render, str(tmp_path / "absent.mp4")))
    fails(capsys, 1, "text.mp4 cannot be read", lambda: run(*render, str(tmp_path / "text.mp4")))


def test_evaluations_that_differ_have_files_of_their_own(run, tmp_path):
    detections = run.files.positions_2d
    other = tmp_path / run.files.folder.name
    shutil.copytree(run.files.folder, other)
    shutil.copytree(run.files.folder, tmp_path / "elsewhere")
    shutil.copytree(run.folder, tmp_path / "apart")
    (other / "data_2d_h36m_gt.npz").rename(other / "data_2d_h36m_other.npz")
    assert read_npz(other / "data_2d_h36m_other.npz")["positions_2d"].keys() == detections.keys()
    evaluate = ["--evaluate", "best_epoch_1_1.bin", "--debug"]
    for stem, argv in (
        ("H1_K1_debug", evaluate),
        ("H1_K1_last_debug", ["--evaluate", "last.bin", "--debug"]),
        ("H1_K1_S1_debug", [*evaluate, "-ste", "S1"]),
        ("H1_K1_seed7_debug", [*evaluate, "--seed", "7"]),
        ("H1_K1_neutral_Sitting_f3_every2_debug", [*evaluate, "-a", "Sitting", "-f", "3", "--downsample", "2",
                                                   "--action-prompt", "neutral"]),
        ("H1_K1_other_debug", [*evaluate, "--force", "-k", "other", "--data-dir", str(other)]),
        ("H1_K1_elsewhere_debug", [*evaluate, "--data-dir", str(tmp_path / "elsewhere")]),
        ("H1_K1_bf16-mixed_debug", [*evaluate, "--precision", "bf16-mixed"]),
        ("H1_K1_apart-best_epoch_1_1_debug", ["--evaluate", str(tmp_path / "apart" / "best_epoch_1_1.bin"), "--debug"]),
    ):  # fmt: skip
        before = set(run.folder.glob("*_H1_K1*_debug*"))
        assert run(*argv) == 0
        new = {path.name for path in set(run.folder.glob("*_H1_K1*")) - before - {run.folder / "results_H1_K1.json"}}
        assert {f"results_{stem}.json", f"h36m_test_log_{stem}.txt"} <= new, stem


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
@pytest.mark.parametrize("script", [main, main_gt], ids=["main", "main_gt"])
def test_the_cmu_files_train_and_evaluate(script, tmp_path):
    argv = [*SMALL, *SUBJECTS, "--data-dir", str(SHARED), "-c", str(tmp_path / "run"), "-a", "Walking,Running"]
    assert script.main([*argv, "-num_proposals", "2", "-sampling_timesteps", "2", "--p2"]) == 0
    found = json.loads((tmp_path / "run" / "results_H2_K2.json").read_text())
    assert found["subjects"]["all"]["actions"].keys() == {"Walking", "Running"}
    assert found["keypoints"] == {main: "cpn_ft_h36m_dbb", main_gt: "gt"}[script]
    frames = {action: row["frames"] for action, row in found["subjects"]["all"]["actions"].items()}
    assert frames == {"Walking": 4 * 17 * 9, "Running": 4 * 8 * 9}  # of 149 and 68 frames
