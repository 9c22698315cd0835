"""Results side by side: the numbers, what differs, what cannot be compared, and what is no result."""

import copy
import json

import pytest

from common.arguments import H36M_GT
from common.compare import main
from common.settings import SETTINGS


def result(p_agg, num_hypotheses=5):
    """A result of two actions, H hypotheses and two steps, as an evaluation writes it; P-Agg is `p_agg` mm."""

    def errors(value):
        return {"protocol_1": {"J_Best": [value, value / 2], "P_Agg": [2 * value, value], "J_Agg": [value, value + 1]}}

    actions = {"Walking": {"frames": 9, **errors(p_agg - 10)}, "Sitting": {"frames": 9, **errors(p_agg + 10)}}
    options = H36M_GT.as_data() | {"num_proposals": num_hypotheses, "checkpoint": f"run{num_hypotheses}"}
    return {
        "dataset": "h36m", "keypoints": "gt", "frames": 18, "action_prompt": "given", "epoch": 3,
        "checkpoint_chosen_on": "nothing", "options": options, "average": errors(p_agg),
        "settings": {name: setting.as_data() for name, setting in SETTINGS.items()},
        "subjects": {"all": {"actions": actions, "average": errors(p_agg)}},
    }  # fmt: skip


@pytest.fixture
def write(tmp_path):
    def write(folder, name, data):
        path = tmp_path / folder / f"results_{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return str(path)

    return write


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_two_runs_side_by_side(write, tmp_path, capsys):
    write("a", "H5_K2", result(50.0))
    write("b", "H20_K2", result(44.5, 20))
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert ["option", "a:H5_K2", "b:H20_K2"] in rows(out)
    assert ["-num_proposals", "5", "20"] in rows(out)
    assert ["P-Agg", "MPJPE,", "mm", "50.00", "44.50", "(-5.50)"] in rows(out)
    assert ["J-Best*", "MPJPE,", "mm", "25.00", "22.25", "(-2.75)"] in rows(out)
    assert ["J-Agg+", "MPJPE,", "mm", "51.00", "45.50", "(-5.50)"] in rows(out)
    assert ["Walking", "40.00", "34.50", "(-5.50)"] in rows(out)
    assert "* an oracle" in out
    assert "-c" not in [row[0] for row in rows(out) if row]  # where a run lies is no difference
    assert "NOT COMPARABLE" not in out
    assert "P-MPJPE" not in out


def test_a_folder_of_several_a_setting_and_three_columns(write, tmp_path, capsys):
    for name, value in (("H1_K1", 60.0), ("H2_K1", 55.0), ("H3_K1", 50.0)):
        write("a", name, result(value))
    assert main([str(tmp_path / "a"), "--setting", "J_Best"]) == 0
    out = capsys.readouterr().out
    assert ["option", "H1_K1", "H2_K1", "H3_K1"] in rows(out)
    assert ["Sitting", "35.00", "32.50", "(-2.50)", "30.00", "(-5.00)"] in rows(out)


def test_what_cannot_be_compared_is_said(write, capsys):
    other = result(44.5) | {"action_prompt": "neutral", "frames": 9}
    del other["subjects"]["all"]["actions"]["Sitting"]
    other["pck"] = {"thresholds_mm": [150], "settings": {"P_Agg": {"pck": 91.5, "auc": 60.25, "curve": [91.5]}}}
    assert main([write("a", "one", result(50.0)), write("a", "two", other)]) == 0
    out = capsys.readouterr().out
    assert "NOT COMPARABLE" in out
    assert "they differ in whether the network was told the action: given, neutral" in out
    assert "they differ in the number of frames: 18, 9" in out
    assert "they differ in their actions or sequences" in out
    assert ["Sitting", "60.00", "-"] in rows(out)
    assert ["P-Agg", "PCK,", "%", "-", "91.50"] in rows(out)


def test_mistakes_are_one_line(write, tmp_path, capsys):
    good = write("a", "one", result(50.0))
    (tmp_path / "empty").mkdir()
    lacks, words, flat = copy.deepcopy(result(1.0)), copy.deepcopy(result(1.0)), copy.deepcopy(result(1.0))
    del lacks["settings"]
    words["average"]["protocol_1"]["P_Agg"] = ["many", "few"]
    flat["subjects"] = [1]
    for code, message, argv in (
        (2, "the following arguments are required", []),
        (2, "is one result; name two or more", [good]),
        (
            2,
            "--setting is M_Agg; these results have J_Best, P_Agg, J_Agg",
            [good, write("b", "x", result(1.0)), "--setting", "M_Agg"],
        ),
        (2, "--protocol 2 is in none of these results", [good, write("b", "x", result(1.0)), "--protocol", "2"]),
        (1, "empty holds no results_", [good, str(tmp_path / "empty")]),
        (1, "absent.json cannot be read (No such file", [good, str(tmp_path / "absent.json")]),
        (1, "is no whole JSON", [good, write("b", "text", "no json")]),
        (1, "is no result of an evaluation", [good, write("b", "list", [1])]),
        (1, "is no result of an evaluation", [good, write("b", "lacks", lacks)]),
        (1, "is no result of an evaluation", [good, write("b", "words", words)]),
        (1, "is no result of an evaluation", [good, write("b", "flat", flat)]),
    ):
        assert main(argv) == code
        out, err = capsys.readouterr()
        assert message in err
        assert err.count("\n") == 1
        assert not out
