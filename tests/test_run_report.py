"""The report of an evaluation: the JSON's numbers, pictures that are pictures, text that stays text, and a phone."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from common.run_report import NUM_PICTURES, run_report
from common.settings import SETTINGS
from common.skeleton import H36M
from tests.chromium import opened
from tests.conftest import Files
from tests.test_runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose last evaluation has two steps and both protocols."""
    folder = tmp_path_factory.mktemp("report")
    run = Run(Files(folder / "data", "h36m").save(), folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.run_report.NUM_PICTURES", NUM_PICTURES)  # as it is outside of the tests
        assert run("--no-eval", "-num_proposals", "2", "-sampling_timesteps", "2", "--p2") == 0
    return run


class Page(HTMLParser):
    """Tables as lists of rows, and what pictures are made of."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.images, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True
        if tag == "img":
            self.images.append(dict(attributes)["src"])

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data):
        if self.rows and getattr(self, "in_cell", False):
            self.rows[-1][-1] += data.strip()


def test_joints_and_clips_add_up(run):
    found = run.results("H2_K2")
    assert found["joints"] == list(H36M.joint_names)
    tables = found["subjects"]["all"]
    for part in (tables["average"], *tables["actions"].values()):
        for protocol in ("protocol_1", "protocol_2"):
            for setting, errors in part["joint_errors"][protocol].items():
                assert len(errors) == 17
                assert np.mean(errors) == pytest.approx(part[protocol][setting][-1])
    for action, errors in tables["actions"].items():
        clips = [clip for clip in found["clips"] if clip["action"].split(" ")[0] == action]
        assert len(clips) == (8 if action == "Walking" else 4)
        weights = [clip["frames"] for clip in clips]
        assert sum(weights) == errors["frames"]
        for setting in found["settings"]:
            mean = np.average([clip["protocol_1"][setting] for clip in clips], weights=weights)
            assert mean == pytest.approx(errors["protocol_1"][setting][-1])


def test_the_report_has_the_numbers_of_the_json(run):
    found, page = run.results("H2_K2"), Page((run.folder / "report.html").read_text())
    assert ["mm", *(setting.marked for setting in SETTINGS.values())] in page.rows
    names = list(SETTINGS)
    tables = found["subjects"]["all"]
    for row, errors in {**tables["actions"], "mean over actions": tables["average"]}.items():
        for protocol in ("protocol_1", "protocol_2"):
            for step in range(2):
                assert [row, *(f"{errors[protocol][name][step]:.2f}" for name in names)] in page.rows
    for clip in found["clips"]:
        numbers = [f"{clip['protocol_1'][name]:.2f}" for name in names]
        assert [clip["name"], str(clip["frames"]), *numbers] in page.rows
    for option in (["-num_proposals", "2"], ["--p2", "True"], ["-cs", "16"], ["-lrd", "0.993"]):
        assert option in page.rows


def test_the_worst_and_the_best_clips_are_shown(run):
    found, text = run.results("H2_K2"), (run.folder / "report.html").read_text()
    ranked = sorted(found["clips"], key=lambda clip: clip["protocol_1"]["P_Agg"])
    shown = re.findall(r"<h3>(S9 .*): P-Agg (.*) mm over", text)
    expected = [*ranked[:-4:-1], *ranked[:3]]
    assert shown == [(clip["name"], f"{clip['protocol_1']['P_Agg']:.1f}") for clip in expected]
    kinds = []
    for image in Page(text).images:
        kind, _, content = image.partition(";base64,")
        kinds.append(kind)
        content = base64.b64decode(content)
        if kind == "data:image/png":
            with Image.open(io.BytesIO(content)) as picture:
                assert min(picture.size) > 500
        else:
            assert b"<svg" in content
    assert kinds == ["data:image/svg+xml"] * 4 + ["data:image/png"] * 6
    assert len(text) < 2e6
    assert not re.search(r"(src|href)\s*=\s*.(?!data:)|@import|url\(", re.sub(r"base64,[^\"]*", "", text))


def test_names_are_text_whatever_is_in_them(run):
    found, odd = run.results("H2_K2"), "<script>alert(1)</script>\"'&"
    found["subjects"]["all"]["actions"][odd] = found["subjects"]["all"]["actions"].pop("Walking")
    found |= {"notes": [odd], "checkpoint": odd, "keypoints": odd, "clips": [], "dataset": odd}
    found["options"]["data_dir"] = odd
    page = Page(run_report(found, [], H36M, odd))
    assert "script" not in page.tags
    assert ["--data-dir", odd] in page.rows
    assert any(row[0] == odd for row in page.rows)


@pytest.mark.parametrize("width", [390, 1200])
def test_it_is_read_on_a_phone_and_a_screen(run, width):
    with opened(run.folder / "report.html", width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 100)")
        step = page.locator("summary", has_text="P-MPJPE, step 1 of 2")
        table = page.locator("details", has=step).locator("table")
        assert not table.is_visible()
        step.click()
        assert table.is_visible()
        first = json.loads((run.folder / "results_H2_K2.json").read_text())["average"]["protocol_2"]["P_Agg"][0]
        assert f"{first:.2f}" in table.inner_text()
