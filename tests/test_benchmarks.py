"""The measuring scripts run, at small sizes; what they measure is not judged here."""

import json
import re
import shutil

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import benchmarks.__main__ as speed
import common.linear
from benchmarks import by_turns, gpu, preparation, streaming
from benchmarks.products import products_of
from benchmarks.works import ROOT, SMALL_NOTE, WORKS, Size, training_step
from common.clip_text import random_text_tower
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.model import DSGDiffu
from common.skeleton import H36M
from common.text_prompts import ACTION_PROMPT

NO_TIME = '{"machine": {}, "works": {"a": {"yardsticks": 0}}, "peak memory": {}, "checkpoint": {}}'
NO_MACHINE = '{"works": {}, "peak memory": {}, "checkpoint": {}}'
ODD_SIZES = '{"machine": {}, "works": {}, "peak memory": {}, "checkpoint": {"last.bin": "x"}}'


def test_preparation(capsys):
    assert preparation.main(["--part", "0.001"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [re.fullmatch(r"(\w+), .*: [\d.]+ s, [\d.]+ GiB at most so far", line)[1] for line in lines]
    assert found == ["3dhp", "h36m"]


def test_streaming(capsys):
    assert streaming.main(["--part", "0.002", "--small"]) == 0
    found = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert found == [
        "load 3600 frames",
        "index of 2400 windows, mirrored",
        "order of an epoch",
        "memory at most",
        "step with data",
        SMALL_NOTE.partition(":")[0],
    ]


def test_every_work_runs_and_is_compared(tmp_path, capsys):
    old = str(tmp_path / "old.json")
    assert speed.main(["--small", "--out", old]) == 0
    found = json.loads((tmp_path / "old.json").read_text())
    assert found["works"].keys() == WORKS.keys()
    for numbers in found["works"].values():
        assert numbers["seconds"] > 0
        assert numbers["yardsticks"] > 0
    assert 0.1 < min(found["peak memory"].values()) <= max(found["peak memory"].values()) < 10
    assert (
        2.5 < found["checkpoint"]["last.bin"] / found["checkpoint"]["best_epoch_1_1.bin"] < 3.5
    )  # AdamW's two moments
    capsys.readouterr()
    assert speed.main(["--small", "--only", "MPJPE", "--compare", old]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:7] for line in lines[1:3]] == ["P-MPJPE", "MPJPE o"]
    assert all(re.search(r" \d+\.\d\d$", line) for line in lines[1:3])
    assert lines[3:] == [SMALL_NOTE]


class Operators(TorchDispatchMode):
    """Which run under it, each with the sizes and strides of its tensors."""

    def __init__(self):
        super().__init__()
        self.products, self.others = [], set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        if name in ("mm", "addmm", "_linear_pointwise"):
            self.products.append((name, [(arg.shape, arg.stride()) for arg in args if isinstance(arg, torch.Tensor)]))
        else:
            self.others.add(name)
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("by_onednn", [False, True])
def test_a_steps_products_alone_are_those_of_the_step(monkeypatch, by_onednn):
    """All of a later step, forward and backward, and nothing else; batched ones (`bmm`) are left out."""
    if by_onednn and not common.linear._HAS_ONEDNN:
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr("common.linear._BY_ONEDNN", by_onednn)
    size = Size(torch.device("cpu"), small=True)
    alone = products_of(training_step(size, 27, 2))
    work = training_step(size, 27, 2)
    work()  # which alone computes what the text tower makes of the frozen words
    with Operators() as step:
        work()
    with Operators() as replayed:
        alone()
    assert replayed.products == step.products
    assert len(step.products) > 100
    assert {"_linear_pointwise" in name for name, _ in step.products} == ({True, False} if by_onednn else {False})
    assert {"bmm", "gelu"} <= step.others
    assert replayed.others <= {"empty", "detach"}


def test_two_checkouts_by_turns(tmp_path, capfd):
    other = tmp_path / "other"
    for part in ("benchmarks", "common"):
        shutil.copytree(ROOT / part, other / part)
    for command in ("--only", "MPJPE of", "--turns", "3", "--small"), ("--only", "start-up", "--turns", "1", "--small"):
        expected = 1 if "start-up" in command else 0  # the other has no main.py
        assert by_turns.main([str(other), *command]) == expected
        printed, said = capfd.readouterr()
        lines = printed.splitlines()
        assert lines[0].split() == ["yardsticks", "there", "here", "ratio"]
        if expected:
            assert said.endswith("'start-up' did not run there; what it said is above\n")
            assert "main.py" in said
        else:
            assert [line[:7] for line in lines[1:3]] == ["P-MPJPE", "MPJPE o"]
            assert all(re.search(r"( +\d+\.\d\d){3}$", line) for line in lines[1:3])
            assert lines[3:] == [SMALL_NOTE]
    assert by_turns.main([str(tmp_path)]) == 1
    assert capfd.readouterr().err.startswith(f"error: {tmp_path} is no checkout of this project")


def test_a_profile_names_operators(capsys):
    assert speed.main(["--small", "--profile", "--only", "MPJPE of"]) == 0
    p_mpjpe, mpjpe = capsys.readouterr().out.split("\n\n")
    for text, name in ((p_mpjpe, "P-MPJPE of 21,600 poses"), (mpjpe, "MPJPE of 21,600 poses")):
        head, *rows = text.strip().splitlines()
        assert head.startswith(name)
        spent = [float(row.split()[-1]) for row in rows]
        assert spent == sorted(spent, reverse=True)
        assert any("aten::" in row for row in rows)


def test_results_of_different_machines_are_told_apart():
    here = {"processor": "a", "threads": 2, "device": "cpu", "torch": "2", "small": False}
    assert speed.differences(here, here) == []
    assert speed.differences(here, {**here, "processor": "b"}) == ["note: processor is a here and b before"]
    assert len(speed.differences(here, {})) == 5


@pytest.mark.parametrize(
    ("main", "argv", "message"),
    [
        (speed.main, ["--repeats", "0"], "0: expected 1 to 4096"),
        (speed.main, ["--threads", "99999999999"], "99999999999: expected 1 to 4096"),
        (speed.main, ["--device", "fast"], "'fast'; expected cpu, cuda or cuda:1"),
        (speed.main, ["--profile", "--only", "MPJPE", "--out", "x"], "leave out --out and --compare"),
        (speed.main, ["--device", "meta"], "'meta'; expected cpu, cuda or cuda:1"),
        (speed.main, ["--device", "cuda:99"], "cuda:99 is not here; expected cpu"),
        (speed.main, ["--threads", "two"], "two: expected 1 to 4096"),
        (gpu.main, ["--device", "cuda:99"], "cuda:99 is not here; expected --device cpu --small"),
        (gpu.main, ["--device", "cpu"], "for a graphics card; the dry run is --device cpu --small"),
        (gpu.main, ["--device", "fast"], "'fast'; expected cpu, cuda or cuda:1"),
        (streaming.main, ["--device", "fast"], "'fast'; expected cpu, cuda or cuda:1"),
        (speed.main, ["--only", "nothing"], "--only is 'nothing', which no work has in its name; there are: training"),
        (by_turns.main, [".", "--turns", "0"], "0: expected 1 to 4096"),
        (by_turns.main, [".", "--only", "nothing"], "which no work has in its name"),
        (streaming.main, ["--part", "2"], "2: expected more than 0, at most 1"),
        (preparation.main, ["--part", "0"], "0: expected more than 0, at most 1"),
    ],
)
def test_what_cannot_be_measured(main, argv, message, outcome):
    code, _, err = outcome(main, argv)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    [None, "{", "[]", "{}", '{"works": {"a": 1}}', NO_MACHINE, ODD_SIZES, NO_TIME],
)
def test_what_cannot_be_compared(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "old.json").write_text(content)
    assert speed.main(["--small", "--compare", str(tmp_path / "old.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_script_for_graphics_cards_runs_without_one(tmp_path, capsys):
    out = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cpu", "--small", "--no-compile", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [row["windows"] for row in found["training"]] == [1, 2]
    assert all(row["milliseconds"] > 0 and row["mfu"] > 0 and row["peak_gib"] is None for row in found["training"])
    assert all(row["frames_per_second"] > 0 for row in found["sampling"])
    assert capsys.readouterr().out.count("| - |") == 3  # no card, no memory of it


def test_flops_are_those_of_the_published_network():
    """Counted by hand for 243 frames: 15 blocks of 8 D^2 weights, and 4 D^2 of both graphs, query and projection."""
    model = DSGDiffu.build(DenoiserConfig(), H36M, ACTION_PROMPT, random_text_tower(), GaussianDiffusion())
    tokens = 243 * 17
    attentions = 4 * 512 * (8 * 243 + 7 * 17 + 77) * tokens
    assert gpu.denoiser_flops(model, 243) == pytest.approx(2 * 124 * 512**2 * tokens + attentions, rel=0.01)
    one, two = (gpu.training_flops(model, 243, windows) for windows in (4, 5))
    assert two - one == pytest.approx(3 * gpu.denoiser_flops(model, 243))  # a fifth window brings no fifth text
