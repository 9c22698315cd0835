"""What fuzzing began with and what it found: read anew, in a line each and in little memory."""

import sys

import pytest

from tests.fuzz_targets import FINDINGS, TARGETS, check

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read off Linux's /proc")


@pytest.mark.parametrize("name", TARGETS)
def test_each_reader_reads_what_fuzzing_begins_with(name, tmp_path):
    was_read = [check(TARGETS[name], seed, tmp_path) for seed in TARGETS[name].seeds()]
    assert any(was_read) or name == "mat_compressed"  # a variable a seed, and three are asked for


@pytest.mark.parametrize("path", sorted(FINDINGS.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name[:16]}")
def test_what_fuzzing_found_does_no_harm_any_more(path, tmp_path):
    check(TARGETS[path.parent.name], path.read_bytes(), tmp_path)


def test_the_findings_are_of_targets_that_there_are():
    assert {path.name for path in FINDINGS.iterdir() if path.is_dir()} <= TARGETS.keys()
