"""What ends a command other than well: one line and an exit code, of every script."""

import os
import subprocess
import sys

import pytest

import main as h36m_script
from benchmarks import graph_attention, mean_pose
from common import check_data, runs, score_3dhp
from common.errors import DataError, UsageError, exit_code
from data import prepare_2d, prepare_3dhp, prepare_h36m, prepare_humaneva, prepare_sample
from tests.conftest import ROOT

PREPARATIONS = (prepare_2d, prepare_3dhp, prepare_h36m, prepare_humaneva, prepare_sample)
SCRIPTS = (*PREPARATIONS, check_data, score_3dhp, graph_attention, mean_pose)
GOES_ON = "run it again: it goes on with what is left"
INTERRUPTED = (  # what runs, the name of its work, a command line, what helps
    (prepare_2d, "prepare", ["--input", "x", "--name", "y"], "run it again"),
    (prepare_3dhp, "prepare", ["x"], GOES_ON),
    (prepare_h36m, "prepare", ["x"], GOES_ON),
    (prepare_humaneva, "prepare", ["x"], "run it again"),
    (prepare_sample, "write_sample", ["--clips", str(ROOT)], "run it again"),
    (check_data, "check", [], "run it again"),
    (score_3dhp, "prediction_files", ["--predictions", "x", "--test-set", "y"], "run it again"),
)


def test_a_message_is_one_line_whatever_names_a_file_made_up():
    assert str(DataError("a.npz: layout 'x\ny\x1b[2J\u2028\ud800'; é")) == "a.npz: layout 'x?y?[2J??'; é"
    assert str(UsageError("a\rb")) == "a?b"


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
@pytest.mark.parametrize("argv", [["--nonsense"], ["--out"], ["a", "b", "--annotation", "annot9"]])
def test_a_wrong_command_line_is_one_line(script, argv, outcome):
    code, _, err = outcome(script.main, argv)
    assert code == 2
    assert err.startswith("error: ")
    assert err.endswith(" (--help lists the options)\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "work", "argv", "helps"), INTERRUPTED, ids=[script.__name__ for script, *_ in INTERRUPTED]
)
def test_ctrl_c_is_one_line(script, work, argv, helps, outcome, monkeypatch):
    if script is prepare_sample:
        monkeypatch.setattr(script, "find_clips", lambda clips: clips)
    monkeypatch.setattr(script, work, interrupt)
    assert outcome(script.main, argv) == (130, "", f"interrupted; {helps}\n")


def test_ctrl_c_in_a_run_says_how_to_resume(outcome, monkeypatch):
    monkeypatch.setattr(runs, "run", interrupt)
    code, _, err = outcome(h36m_script.main, [])
    assert (code, err) == (
        130,
        "interrupted; run an evaluation again; a training that has a last.bin goes on with --resume auto\n",
    )


@pytest.mark.parametrize("script", ["main.py", "main_gt.py", "main_3dhp.py", "predict.py"])
def test_ctrl_c_while_pytorch_is_imported_is_one_line(script, tmp_path):
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted; run it again\n")


def test_mistakes_have_their_exit_codes(capsys):
    def fail(error):
        def work():
            raise error

        return work

    assert exit_code(lambda: None) == 0
    assert exit_code(fail(UsageError("a"))) == 2
    assert exit_code(fail(DataError("b"))) == 1
    assert exit_code(fail(PermissionError(13, "Permission denied", "c"))) == 1
    printed = capsys.readouterr().err
    assert printed == "error: a\nerror: b\nerror: c: Permission denied; name another file or folder\n"
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)


def test_the_preparations_one_place_for_mistakes_is_light():
    """No torch with it."""
    code = "import sys, common.errors; print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
