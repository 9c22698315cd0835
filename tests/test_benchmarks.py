"""The measuring scripts run, at small sizes; what they measure is not judged here."""

import re

from benchmarks import preparation


def test_preparation(capsys):
    assert preparation.main(["--part", "0.001"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.fullmatch(r"(\w+), .*: [\d.]+ s, [\d.]+ GiB at most so far", line)[1] for line in lines] == [
        "3dhp",
        "h36m",
    ]
