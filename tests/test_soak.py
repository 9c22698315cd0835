"""The soak's verdicts on made-up readings, its readings of a process, and a short run of the real loops."""

import mmap
import os
import sys

import numpy as np
import pytest

from benchmarks.soak import Readings, judge, main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read off Linux's /proc")

SECONDS = np.arange(0, 3600, 2.0)
NOISE = np.random.default_rng(0).normal(size=len(SECONDS))


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        (1000 + NOISE, True),
        (1000 + 400 * (SECONDS % 60 > 30), True),  # each evaluation takes memory and gives it back
        (1000 - 900 * np.exp(-SECONDS / 200), True),  # the start
        (1000 + 500 * (np.arange(len(SECONDS)) % 50 == 0), True),  # single peaks
        (1000 + 50 * NOISE + SECONDS / 60, False),  # 60 MB an hour
        (1000 + 30 * (SECONDS // 450), False),  # in steps
        (2000 - SECONDS / 10, True),
    ],
    ids=["noise", "saw-tooth", "start", "peaks", "leak in noise", "steps", "falling"],
)
def test_memory_is_flat_or_not(values, flat):
    assert judge(list(SECONDS), list(values), share=0.02).flat is flat


def test_the_slope_is_that_of_the_line():
    found = judge(list(SECONDS), list(100 + SECONDS / 36), share=0.02)
    assert found.per_hour == pytest.approx(100)
    assert found.rise == pytest.approx(50, rel=0.01)  # over the half that is judged
    assert found.median == pytest.approx(175, rel=0.01)


@pytest.mark.parametrize(("every", "flat"), [(3600, True), (300, False)])
def test_a_file_that_stays_open_is_seen(every, flat):
    assert judge(list(SECONDS), [8 + second // every for second in SECONDS], absolute=0.5).flat is flat


def test_readings_are_those_of_the_process():
    found = Readings()
    found.take(os.getpid(), 0.0)
    with mmap.mmap(-1, 160_000_000) as held, open(__file__):  # not of what the C library has kept from before
        for _ in range(160):
            held.write(b"1" * 1_000_000)
        found.take(os.getpid(), 1.0)
    assert found.megabytes[1] - found.megabytes[0] == pytest.approx(160, abs=30)
    assert found.files[1] == found.files[0] + 1


@pytest.mark.parametrize("argv", [["--minutes", "0.1"], ["--minutes", "nan"], ["--every", "0"], ["--every", "inf"]])
def test_too_short_a_time_is_refused(argv, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_a_short_soak(tmp_path, capsys):
    assert main(["--minutes", "0.5", "--every", "1", "--out", str(tmp_path / "soak.png")]) in (
        0,
        1,
    )  # too short to judge
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["training"] * 3 + ["evaluation"] * 3
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
