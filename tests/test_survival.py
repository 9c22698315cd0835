"""Runs that are stopped, killed or run out of disk, and gone on with: they end as those that nothing happened to."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch

from common import evaluation, training
from common.signals import SIGNALS
from tests.conftest import ROOT, Files
from tests.test_runs import Run, fails

KILLS = int(os.environ.get("DSGDIFFU_KILLS", "3"))
"""How often the killed run is killed."""
LONGER = ["-e", "2", "-b", "216", "--ema", "0.9", "--clip-grad", "0.5", "-drop", "0.1", "--text-dropout", "0.9"]
"""Two epochs of three steps, with all that draws or averages."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("data"), "h36m").save()


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    run = Run(data, tmp_path_factory.mktemp("undisturbed") / "run")
    run.base.remove("--nolog")
    assert run(*LONGER, "-l", str(run.folder / "log")) == 0
    return run


@pytest.fixture
def run(data, tmp_path):
    run = Run(data, tmp_path / "run")
    run.base.remove("--nolog")
    run.base += [*LONGER, "-l", str(run.folder / "log"), "--resume", "auto"]
    return run


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C as at a terminal, whatever the shell of the tests makes of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def same(one, other):
    """Equal to the last bit, tensors and numbers, but for times and for what a call alone has."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one.keys() - {"minutes", "seconds", "options"}:
            same(one[name], other[name])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            same(*pair)
    else:
        assert one == other


def ends_like(run, other):
    """The two runs' files say the same."""
    for name in ("last.bin", "best_epoch_1_1.bin", "best_ema_1_1.bin"):
        same(*(torch.load(folder / name, weights_only=True) for folder in (run.folder, other.folder)))
    logs = [re.sub(r"time \S+", "", (r.folder / "training_log.txt").read_text()) for r in (run, other)]
    assert logs[0] == logs[1]
    for stem in ("H1_K1", "H1_K1_best_ema_1_1"):
        assert run.results(stem)["average"] == other.results(stem)["average"]
    assert not [*run.folder.glob(".*.part*")]


def tensorboard_steps(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "log")).Reload()
    return [event.step for event in events.Scalars("loss/train_mm")]


def at_call(monkeypatch, name, number, act):
    """`act` after the call `number` of a function of the training, or of its evaluation."""
    owner = training if hasattr(training, name) else evaluation
    calls, original = [], getattr(owner, name)

    def counted(*args, **words):
        found = original(*args, **words)
        calls.append(name)
        if len(calls) == number:
            act()
        return found

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize(
    ("name", "number", "where", "batches"),
    [
        ("training_step", 5, "in epoch 2", 2),
        # While it is validated, with the averaged weights in place: no step is left to be taken in the epoch.
        ("batch_answers", 55, "in epoch 2", 3),
        ("_end_epoch", 2, "after the last epoch", 0),
    ],
)
@pytest.mark.parametrize("number_of_signal", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_ends_the_run_and_it_goes_on(
    run, undisturbed, monkeypatch, capsys, name, number, where, batches, number_of_signal
):
    if number_of_signal is not signal.SIGTERM and name != "training_step":
        pytest.skip("one moment is enough for the other signals")
    handlers = [signal.getsignal(number) for number in SIGNALS]
    with monkeypatch.context() as patch:
        at_call(patch, name, number, lambda: os.kill(os.getpid(), number_of_signal))
        sent = number_of_signal.name
        fails(capsys, 75, f"^stopped by {sent} {where}; .*last.bin is saved: go on with --resume auto$", run)
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert torch.load(run.folder / "last.bin", weights_only=True)["training"]["progress"]["batches"] == batches
    assert run() == 0
    ends_like(run, undisturbed)
    assert tensorboard_steps(run.folder) == [1, 2]
    done = {"in epoch 1": 0, "in epoch 2": 1, "after the last epoch": 2}[where]
    starts = json.loads((run.folder / "manifest.json").read_text())
    assert [start["goes_on_after_epoch"] for start in starts] == [None, done]


def test_a_second_ctrl_c_does_not_wait(run, monkeypatch, capsys):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_call(monkeypatch, "training_step", 2, twice)
    fails(capsys, 130, "^interrupted; .* --resume auto$", run)
    assert not (run.folder / "last.bin").exists()


@pytest.mark.parametrize(("number", "said"), [(2, "there is no .*last.bin yet"), (5, "last.bin is as it was before")])
def test_a_stop_after_a_step_that_was_left_out_says_what_is_there(run, monkeypatch, capsys, number, said):
    step, calls = training.training_step, []

    def training_step(model, network, windows, chosen, state, options):
        calls.append(chosen)
        step(model, network, windows, chosen, state, options)
        if len(calls) == number:
            state.skipped_in_row.fill_(1)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training, "training_step", training_step)
    fails(capsys, 75, f"^stopped by SIGTERM .*{said}, since the last steps had no finite loss", run)
    assert (run.folder / "last.bin").exists() == (number == 5)


def test_only_what_tensorboard_writes_is_said_to_be_the_logs_fault(run, monkeypatch, capsys):
    def fail(*_args, **_words):
        raise OSError(5, "Input/output error", "a file")

    with monkeypatch.context() as patch:
        patch.setattr(training, "training_step", fail)
        fails(capsys, 1, "^error: a file: Input/output error", run)
    monkeypatch.setattr(training, "_log_epoch", fail)
    fails(capsys, 1, "^error: -l .* cannot be written to .Input/output error.", run)


@pytest.mark.parametrize("before", ["write_checkpoint", "save_last", "save_best"])
def test_what_ends_between_an_epochs_files_ends_the_same(run, undisturbed, monkeypatch, before):
    """As a kill does there: the logs are written and last.bin is not, or last.bin and the best epoch is not."""

    class Killed(BaseException):
        pass

    def kill(*_args, **_words):
        raise Killed

    with monkeypatch.context() as patch:
        owner = training if before == "write_checkpoint" else training.Keeper
        at_call(patch, "_validate", 2, lambda: patch.setattr(owner, before, kill))
        with pytest.raises(Killed):
            run()
    assert run() == 0
    ends_like(run, undisturbed)
    assert tensorboard_steps(run.folder) == [1, 2]


def test_half_of_a_file_is_no_run_that_is_moved_aside(run, monkeypatch):
    """As a kill during the first save leaves it."""

    def interrupt(*_):
        raise KeyboardInterrupt

    run.folder.mkdir()
    (run.folder / ".last.1.part.bin").touch()
    monkeypatch.setattr("common.runs.fit", interrupt)
    assert run() == 130
    assert {path.name for path in run.folder.iterdir()} == {"options.json", "manifest.json"}


def test_a_run_that_is_done_is_evaluated_again(run, undisturbed, capsys):
    assert run() == 0
    before = (run.folder / "last.bin").read_bytes()
    (run.folder / "results_H1_K1.json").unlink()
    assert run() == 0
    assert (run.folder / "last.bin").read_bytes() == before
    ends_like(run, undisturbed)


def test_the_rest_of_an_epoch_needs_its_batches(run, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        at_call(patch, "training_step", 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert run() == 75
    expected = "last.bin stands within epoch 1, of 72 windows, 24 a batch, --seed 1; this run has .*: give the options"
    for more in (["--seed", "2"], ["-b", "324"], ["-no-da"]):
        fails(capsys, 1, expected, lambda more=more: run(*more))


def test_an_older_files_training_state_is_gone_on_with(data, tmp_path):
    """As they were written before training could be stopped within an epoch."""
    whole, run = Run(data, tmp_path / "whole"), Run(data, tmp_path / "run")
    assert whole("-e", "2", "-cf", "1") == 0
    content = torch.load(whole.folder / "epoch_1.bin", weights_only=True)
    now = content["training"]
    content["training"] = {
        "optimizer": now["optimizer"], "learning_rate": now["learning_rate"], "num_steps": now["num_steps"],
        "history": [{name: row[name] for name in ("epoch", "lr", "3d_train", "3d_pos_train", "3d_pos_valid", "minutes")}
                    for row in now["history"]],
        "best_error": now["best"]["best_epoch_1_1.bin"][0],
        "random_state": torch.get_rng_state(), "cuda_random_states": [],
    }  # fmt: skip
    del content["ema"], content["units"]
    run.folder.mkdir()
    torch.save(content, run.folder / "last.bin")
    assert run("-e", "2", "--resume", "auto") == 0
    for part in ("weights", "epoch"):
        same(*(torch.load(r.folder / "last.bin", weights_only=True)[part] for r in (run, whole)))


@pytest.fixture
def small_disk():
    """Files cannot grow beyond a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_the_old_checkpoint_stays(run, undisturbed, small_disk, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        at_call(patch, "training_step", 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert run() == 75
    path = run.folder / "last.bin"
    before = path.read_bytes()
    small_disk(len(before) // 2)
    expected = r"last.bin cannot be written \(File too large\); a file that was there before is still whole"
    fails(capsys, 1, expected, run)
    assert path.read_bytes() == before
    assert not [*run.folder.glob(".*.part*")]
    small_disk(resource.RLIM_INFINITY)
    assert run() == 0
    ends_like(run, undisturbed)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(data, tmp_path):
    """SIGKILL at random moments, DSGDIFFU_KILLS times; last.bin is saved after every step, so many hit a save."""
    moments = random.Random(KILLS)
    base = Run(data, tmp_path / "undisturbed").base
    command = [sys.executable, "main_gt.py", *base[: base.index("-c")], *LONGER, "--checkpoint-every", "0.0001"]
    command += ["--resume", "auto"]
    runs = [Run(data, tmp_path / name) for name in ("undisturbed", "killed")]

    def start(run):
        """Begin, and wait until the training begins."""
        log = open(tmp_path / "out.txt", "w+")  # noqa: SIM115 (the process writes to it)
        process = subprocess.Popen(
            [*command, "-c", str(run.folder)], cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=log,
            stderr=log,
        )  # fmt: skip
        while "the best epoch is chosen on" not in (tmp_path / "out.txt").read_text():
            assert process.poll() is None, (tmp_path / "out.txt").read_text()
            time.sleep(0.01)
        return process

    process, begin = start(runs[0]), time.perf_counter()
    assert process.wait() == 0
    seconds = time.perf_counter() - begin
    places = []
    for _ in range(KILLS):
        process = start(runs[1])
        time.sleep(moments.uniform(0, 1.5 * seconds / KILLS))
        process.kill()
        code = process.wait()
        assert code in (-signal.SIGKILL, 0), (tmp_path / "out.txt").read_text()
        last = runs[1].folder / "last.bin"
        content = torch.load(last, weights_only=True) if last.exists() else None
        place = content and (content["epoch"], content["training"]["progress"]["batches"])
        places.append((place, len([*runs[1].folder.glob(".*.part*")]), code))
    print(f"after each kill: (epoch, batches), files half written, exit code: {places}")
    assert start(runs[1]).wait() == 0, (tmp_path / "out.txt").read_text()
    ends_like(*runs)
    assert not [*runs[1].folder.glob("earlier_*")]
