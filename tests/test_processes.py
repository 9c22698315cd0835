"""Several processes give what one gives, and end together. They are real ones, over gloo, on the CPU."""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from common import processes, runs
from common.arguments import Options
from common.clip_text import random_text_tower
from common.errors import UsageError
from common.processes import Seat, first_host, launch, owners, share
from common.runs import check_shares, gpu_of, num_processes
from tests.conftest import ROOT, Files
from tests.ending_work import come_to_an_end
from tests.shared_work import evaluate_and_train
from tests.test_runs import Run

TORCHRUN = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "5",
}  # fmt: skip
SLURM = {
    "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}  # fmt: skip


def test_the_environment_says_which_process_this_is():
    assert Seat.of({}) is None
    assert Seat.of(TORCHRUN) == Seat(3, 4, 1, 2, "torchrun", "a", 5)
    assert Seat.of(SLURM) == Seat(3, 4, 1, None, "srun", "gpu07", 19567)
    assert Seat.of({**SLURM, "MASTER_ADDR": "b", "MASTER_PORT": "6"}) == Seat(3, 4, 1, None, "srun", "b", 6)
    assert Seat.of({**SLURM, **TORCHRUN}).starter == "torchrun"  # srun started torchrun
    assert Seat.of({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert Seat.of({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None  # a batch script, without srun
    for name, value in (("RANK", None), ("LOCAL_WORLD_SIZE", "x"), ("MASTER_PORT", "")):
        environment = {key: text for key, text in {**TORCHRUN, name: value}.items() if text is not None}
        with pytest.raises(UsageError, match=f"some of torchrun's variables, but {name} is"):
            Seat.of(environment)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[07-08]", "gpu07"), ("gpu7,gpu9", "gpu7"), ("one", "one"), ("a[1,3-4],b2", "a1"), ("r[1-2]n[3-4]", "r1n3"),
        ("n[5]", "n5"), ("gpu-a[07-08]", "gpu-a07"),
    ],
)  # fmt: skip
def test_the_first_host_of_slurms_list(nodes, first):
    assert first_host(nodes) == first


def test_every_window_has_one_process():
    for count in range(1, 6):
        for items in range(12):
            shares = [list(range(items))[share(items, rank, count)] for rank in range(count)]
            assert [*itertools.chain(*shares)] == list(range(items))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_every_clip_has_one_process_and_the_longest_are_apart():
    assert owners([5, 9, 1, 8, 1, 1], 2) == [1, 0, 0, 1, 0, 0]
    for costs in ([5, 9, 1, 8, 1, 1], [1] * 7, [3], []):
        owner = owners(costs, 3)
        assert len(owner) == len(costs)
        loads = [sum(cost for cost, process in zip(costs, owner, strict=True) if process == n) for n in range(3)]
        assert sum(loads) == sum(costs)
        assert max(loads) - min(loads) <= max(costs, default=0)


def options(**values):
    return Options(**values, given=frozenset(values))


def test_each_device_has_a_process(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    ours, theirs = Seat(1, 2, 1, 2, processes.OURS, "", 0), Seat(5, 8, 1, 4, "torchrun", "", 0)
    slurm = Seat(5, 8, 1, None, "srun", "", 0)
    assert num_processes(options(gpu="2,5"), None) == 2
    assert num_processes(options(gpu="2,5"), ours) == num_processes(options(), theirs) == 1
    assert num_processes(options(gpu="2,5", device="cpu", processes=3), None) == 3
    assert num_processes(options(gpu="2,5", render=True), None) == 1
    assert gpu_of(options(gpu="2,5"), None, 8) == 2
    assert gpu_of(options(gpu="2,5"), ours, 8) == 5
    assert gpu_of(options(), theirs, 4) == 1
    assert gpu_of(options(gpu="4,5,6,7"), theirs, 8) == 5
    assert gpu_of(options(), slurm, 4) == 1
    assert gpu_of(options(), slurm, 1) == 0  # which srun shows to this process alone
    for asked, seat, message in (
        (options(gpu="2,5", processes=3), None, "--processes is 3 and -gpu 2,5 names 2 devices"),
        (options(device="cuda:1", processes=3), None, "--processes 3 with --device cuda:1"),
        (options(processes=2), theirs, "--processes with torchrun, which has started them"),
    ):
        with pytest.raises(UsageError, match=message):
            num_processes(asked, seat)
    for asked, seat, message in (
        (options(gpu="2,5"), theirs, "-gpu 2,5 names 2 devices, and torchrun started 4 processes"),
        (options(gpu="2"), slurm, "-gpu 2 names 1 devices, and srun started 2 or more"),
        (options(), theirs, "number 1 on this machine, from 0, which has 1 GPUs"),
    ):
        with pytest.raises(UsageError, match=message):
            gpu_of(asked, seat, 1)


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 5)
    check_shares(options(batch_size=1215))
    with pytest.raises(UsageError, match=r"5 processes for a batch of 4 windows \(-b 1024 // -s 243\): give -b 1215"):
        check_shares(options())
    with pytest.raises(UsageError, match="--compat-release trains in one process"):
        check_shares(options(batch_size=1215, compat_release=True))
    with pytest.raises(UsageError, match="--accumulate is 5; a batch has 4 windows"):
        options(accumulate=5).check()
    with pytest.raises(UsageError, match="-gpu is '1,1'; a device is named twice"):
        options(gpu="1,1").check()


def test_what_a_training_step_is_given_stays_where_it_is(monkeypatch):
    """Some of it belongs on the CPU: PyTorch would move all of it, had it been told the device."""
    given = {}
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "DistributedDataParallel", lambda _model, **options: given.update(options))
    processes.training_network(torch.nn.Linear(2, 2))
    assert given.get("device_ids") is None


@pytest.fixture(scope="module", autouse=True)
def the_usual_tower():
    """That which the processes started here have: `light_runs` is for this one alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "random_text_tower", random_text_tower)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder of small files."""
    return str(Files(tmp_path_factory.mktemp("files") / "data", "h36m").save().folder)


@pytest.fixture(scope="module")
def found(data, tmp_path_factory):
    """(processes, pieces) -> what evaluation and training gave."""
    folder, known = tmp_path_factory.mktemp("found"), {}

    def found(count, accumulate=1):
        out = folder / f"{count}_{accumulate}"
        if out not in known:
            work = (data, str(out), accumulate)
            code = evaluate_and_train(*work) if count == 1 else launch(count, evaluate_and_train, work, "advice")
            assert code == 0
            known[out] = what_came_out(out, count)
        return known[out]

    return found


def what_came_out(out, count):
    found = json.loads(out.with_suffix(".json").read_text())
    for rank in range(1, count):
        assert json.loads(out.with_name(f"{out.name}.{rank}.json").read_text()) == found["average"]
    return found


def assert_same_training(alone, shared):
    sizes = [size for size, _ in alone["losses"]]
    assert sizes == [size for size, _ in shared["losses"]]
    assert len(sizes) == 20
    for (_, loss), (_, other) in zip(alone["losses"], shared["losses"], strict=True):
        assert other == pytest.approx(loss, abs=1e-5)
    for name, weight in alone[
        "weights"
    ].items():  # not biases: a key's has no gradient but rounding, which Adam scales up
        assert shared["weights"][name] == pytest.approx(weight, abs=1e-3), name


@pytest.mark.parametrize(("count", "accumulate"), [(1, 3), (2, 1), (3, 2)])
def test_the_same_batch_gives_the_same_training_however_it_is_shared(found, count, accumulate):
    assert {size for size, _ in found(1)["losses"]} == {7, 2}  # unequal shares, and a process that has none
    assert_same_training(found(1), found(count, accumulate))
    assert found(1)["losses"][19] != found(1)["losses"][0]


@pytest.mark.parametrize(("count", "accumulate"), [(2, 1), (3, 2)])
def test_a_shared_evaluation_prints_the_same_table(found, count, accumulate):
    alone, shared = found(1)["rows"], found(count, accumulate)["rows"]
    frames = {"Walking": 4 * (27 + 27), "Sitting": 4 * 27}  # four cameras, 20, 21 and 22 frames in windows of 9
    assert {row: number for row, (number, _) in alone.items()} == frames
    assert shared == alone


def environments(starter):
    """Of two processes on two machines, as srun or torchrun's agents leave them."""
    port = str(free_port())
    for rank in ("0", "1"):
        if starter == "srun":
            yield {"SLURM_PROCID": rank, "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "7",
                   "SLURM_STEP_NODELIST": "localhost,node[2-3]", "MASTER_PORT": port}, []  # fmt: skip
        else:
            yield {}, ["-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={rank}", "--nproc-per-node=1",
                       "--master-addr=localhost", f"--master-port={port}", "--max-restarts=0"]  # fmt: skip


def free_port():
    with socket.socket() as held:
        held.bind(("localhost", 0))
        return held.getsockname()[1]


def start_on_two_machines(starter, module, *arguments):
    return [
        subprocess.Popen(
            [sys.executable, *agent, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment, agent in environments(starter)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("starter", ["torchrun", "srun"])
def test_two_machines_give_what_one_process_gives(found, data, tmp_path, starter):
    running = start_on_two_machines(starter, "tests.shared_work", data, str(tmp_path / "out"))
    for process in running:
        assert process.wait(120) == 0, process.stderr.read()
    shared = what_came_out(tmp_path / "out", 2)
    assert_same_training(found(1), shared)
    assert shared["rows"] == found(1)["rows"]


@pytest.mark.slow
@pytest.mark.parametrize("starter", ["torchrun", "srun"])
@pytest.mark.parametrize("whose", ["0", "1"])
def test_a_process_that_dies_on_one_machine_ends_the_run_on_the_other(starter, whose):
    running = start_on_two_machines(starter, "tests.ending_work", "killed", whose)
    said = [process.communicate(timeout=120)[1] for process in running]
    assert all(process.returncode for process in running)
    other = 1 - int(whose)
    line = rf"error: process {other} of 2 lost another one \([^/]+\); the run has ended: advice"
    assert len(re.findall(line, said[other])) == 1
    assert "Traceback" not in said[other].split("torch/distributed/")[0]  # what torchrun's agent says comes after


@pytest.fixture
def one_core(monkeypatch):
    """This process is on one core, as OpenMP's first thread is where it binds; nothing says yet that it does."""
    if sys.platform != "linux":
        pytest.skip("this system binds no process to a core")
    cores = os.sched_getaffinity(0)
    for name in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"):
        monkeypatch.delenv(name, raising=False)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"OMP_PROC_BIND": "true"},
            "by OMP_PROC_BIND this process is bound to 1 core, and so are the 2 .* unset it for",
        ),
        ({"OMP_PLACES": "cores", "OMP_PROC_BIND": ""}, "by OMP_PLACES this process"),
        (
            {"OMP_PROC_BIND": "close", "GOMP_CPU_AFFINITY": "0"},
            "by OMP_PROC_BIND and GOMP_CPU_AFFINITY .* unset them for",
        ),
    ],
)
def test_processes_that_openmp_would_bind_to_one_core_are_not_started(one_core, monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said):
        launch(2, come_to_an_end, ("usage", [0, 1]), "advice")


@pytest.mark.parametrize("variables", [{}, {"OMP_PROC_BIND": "FALSE", "OMP_PLACES": "cores"}])
def test_one_core_for_all_is_enough_where_openmp_does_not_bind(one_core, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    processes.check_cores(2)


NCCL = r"NCCL error in: a\.cpp:1, unhandled system error"


@pytest.mark.parametrize(
    ("how", "whose", "code", "said"),
    [
        ("usage", [0, 1], 2, "error: a mistake"),
        ("data", [1], 1, "error: an odd file"),
        ("killed", [1], 137, "error: process 1 of 2 was ended by SIGKILL, and with it the run: advice"),
        ("killed", [0], 137, "error: process 0 of 2 was ended by SIGKILL, and with it the run: advice"),
        ("nccl", [0, 1], 1, rf"error: process [01] of 2 lost another one \({NCCL}\), and with it the run: advice"),
        ("nccl", [1], 1, rf"error: process 1 of 2 lost another one \({NCCL}\), and with it the run: advice"),
    ],
)
def test_a_process_that_ends_ends_the_run_with_one_line(capfd, how, whose, code, said):
    begin = time.monotonic()
    assert launch(2, come_to_an_end, (how, whose), "advice") == code
    printed = capfd.readouterr()
    assert re.fullmatch(said + "\n", printed.err), printed.err
    assert printed.out == "only the one that leads prints\n"
    assert time.monotonic() - begin < 60


@pytest.mark.slow
def test_a_machine_that_does_not_answer_ends_the_run_on_the_other():
    holds_the_store, other = start_on_two_machines("srun", "tests.ending_work", "silent", "0")
    try:
        _, said = other.communicate(timeout=60)
    finally:
        holds_the_store.kill()
        holds_the_store.communicate()
    assert said == "error: process 1 of 2 lost localhost, which does not answer any more; the run has ended: advice\n"
    assert other.returncode == processes.LOST


@pytest.mark.parametrize("silent", [0, 1])
def test_a_process_that_does_not_answer_ends_the_run_with_one_line(capfd, monkeypatch, silent):
    monkeypatch.setattr(processes, "GRACE", 1.0)
    assert launch(2, come_to_an_end, ("silent", [silent]), "advice") == 1
    line = f"error: process {silent} of 2 does not answer any more; the run has ended: advice\n"
    assert capfd.readouterr().err == line


LAUNCH = """
import signal
from common.processes import launch
from tests.ending_work import come_to_an_end
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background, where PyTorch's own way ends nobody
    launch(2, come_to_an_end, ("busy", [0, 1]), "advice")
"""


def test_a_process_whose_alarm_is_asking_at_the_end_ends_well():
    assert launch(2, come_to_an_end, ("asking", [0, 1]), "advice") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="children are read off Linux's /proc")
def test_processes_end_where_who_started_them_is_killed(tmp_path):
    (tmp_path / "launching.py").write_text(LAUNCH)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    starter = subprocess.Popen(
        [sys.executable, tmp_path / "launching.py"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert starter.stdout.readline() == b"only the one that leads prints\n"
    time.sleep(2)  # the other one has come as far
    started = [path for path in Path("/proc").glob("[0-9]*") if parent_of(path) == starter.pid]
    assert len(started) >= 2
    starter.kill()
    starter.wait()
    end = time.monotonic() + 60
    while any(parent_of(path) is not None for path in started):
        assert time.monotonic() < end
        time.sleep(0.2)


def parent_of(process):
    """The parent's number of a process in /proc; None of one that has ended."""
    try:
        state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


@pytest.mark.parametrize("whose", [[0], [1], [0, 1]])
def test_a_bug_shows_its_traceback_once_and_ends_the_run(capfd, whose):
    assert launch(2, come_to_an_end, ("bug", whose), "advice") == 1
    assert capfd.readouterr().err.count("ZeroDivisionError: a bug") == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one process, of two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    run = Run(Files(folder / "data", "h36m").save(), folder / "run")
    assert run(*TRAINING, "-e", "2") == 0
    return run


TRAINING = ["-b", "63", "-drop", "0", "-cf", "1"]
"""Batches of 7 windows, of 72."""


@pytest.mark.slow
def test_the_command_line_gives_the_same_files_with_two_processes(trained, tmp_path, capfd):
    run = Run(trained.files, tmp_path / "run")
    assert run(*TRAINING, "-e", "2", "--processes", "2", "--accumulate", "2") == 0
    assert capfd.readouterr().out.count("the best epoch is chosen on") == 1
    assert_same_history(trained, run)
    assert {path.name for path in run.folder.iterdir()} == {path.name for path in trained.folder.iterdir()}
    shutil.copy(trained.folder / "last.bin", run.folder / "theirs.bin")
    measured = ["--evaluate", "theirs.bin", "--p2", "-num_proposals", "2", "-sampling_timesteps", "2"]
    tables = []
    for number in ("1", "2"):
        assert run(*measured, "--processes", number) == 0
        tables.append((run.folder / "h36m_test_log_H2_K2_theirs.txt").read_text())
    assert tables[0] == tables[1]
    assert "step 1 Protocol #2   (P-MPJPE) action-wise average J_Best: " in tables[0]


def assert_same_history(run, other, tolerance=0.01):
    """Losses and errors of every epoch, mm."""
    rows = [(r.folder / "training_log.jsonl").read_text().splitlines() for r in (run, other)]
    for row, others in zip(*([json.loads(line) for line in lines] for lines in rows), strict=True):
        for name in ("epoch", "lr", "3d_train", "3d_pos_train", "3d_pos_valid"):
            assert row[name] == pytest.approx(others[name], abs=tolerance), name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_signal_to_one_process_stops_all_at_one_step_and_another_number_goes_on(trained, tmp_path, capfd):
    run = Run(trained.files, tmp_path / "run")
    command = [sys.executable, "main_gt.py", *run.base, *TRAINING, "--resume", "auto"]
    started = subprocess.Popen(
        [*command, "-e", "1000", "--processes", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert any(line.startswith("[1]") for line in started.stdout)
    os.kill(workers_of(started.pid)[1], signal.SIGTERM)
    _, said = started.communicate(timeout=120)
    assert re.fullmatch(r"stopped by SIGTERM in epoch \d+; .*last.bin is saved: go on with --resume auto\n", said)
    assert started.returncode == 75

    epochs = str(torch.load(run.folder / "last.bin", weights_only=True)["epoch"] + 1)
    assert run(*TRAINING, "--resume", "auto", "-e", epochs, "--processes", "3") == 0
    assert "note: 2 processes wrote " in capfd.readouterr().out
    whole = Run(trained.files, tmp_path / "whole")
    assert whole(*TRAINING, "-e", epochs) == 0
    assert_same_history(whole, run)


def workers_of(pid):
    """The processes that `launch` started, the one that leads first."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in sorted(children) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
