"""The measuring scripts run, at small sizes; what they measure is not judged here."""

import json
import re

import pytest

import benchmarks.__main__ as speed
from benchmarks import preparation
from benchmarks.works import WORKS


def test_preparation(capsys):
    assert preparation.main(["--part", "0.001"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [re.fullmatch(r"(\w+), .*: [\d.]+ s, [\d.]+ GiB at most so far", line)[1] for line in lines]
    assert found == ["3dhp", "h36m"]


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
    assert [line[:7] for line in lines[1:]] == ["P-MPJPE", "MPJPE o"]
    assert all(re.search(r" \d+\.\d\d$", line) for line in lines[1:])


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"works": {"a": 1}}'])
def test_what_cannot_be_compared(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "old.json").write_text(content)
    assert speed.main(["--small", "--compare", str(tmp_path / "old.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
