"""The page of a clip, in a browser: what it shows is what it was given, and what can be moved moves."""

import re
from dataclasses import replace

import numpy as np
import pytest

from common.errors import UsageError
from common.pose_page import write_page
from common.rendering import render
from common.skeleton import HUMANEVA15
from tests.chromium import opened
from tests.test_rendering import make_scene

READY = "body[data-ready=yes]"


def drawn(page, name):
    """(sides, points, 3) of what is drawn under this name; NaN is a gap."""
    axes = page.evaluate(
        "name => document.getElementById('pose').data.filter(trace => trace.meta === name)"
        ".map(trace => [trace.x, trace.y, trace.z])",
        name,
    )
    return [np.array(axis, float).T for axis in axes]


def points(lines):
    """All points of the lines, each once, in a fixed order."""
    every = np.concatenate(lines)
    return np.unique(every[~np.isnan(every[:, 0])].round(3), axis=0)


def test_the_page_shows_the_scene_and_follows_the_slider(tmp_path):
    scene = make_scene(num_frames=8, num_hypotheses=3)
    write_page(tmp_path / "walk.html", scene)
    with opened(tmp_path / "walk.html") as page:
        page.wait_for_selector(READY)
        pictures = []
        for frame in (0, 6):
            page.evaluate(
                "frame => { const slider = document.getElementById('frame'); slider.value = frame;"
                " slider.dispatchEvent(new Event('input')); }",
                frame,
            )
            assert f"frame {frame + 1} of 8" in page.inner_text("#when")
            root = scene.prediction[frame, 0] * [1, 1, 0]
            expected = np.unique((scene.prediction[frame] - root).round(3), axis=0)
            np.testing.assert_allclose(points(drawn(page, "prediction")), expected, atol=2e-3)
            assert sum((~np.isnan(line[:, 0])).sum() for line in drawn(page, "hypotheses")) == 3 * 16 * 2
            errors = scene.joint_errors_mm[frame]
            assert f"error {errors.mean():.1f} mm, spread {scene.joint_spread_mm[frame].mean():.1f} mm" == (
                page.inner_text("#numbers")
            )
            pictures.append(page.screenshot())
        assert pictures[0] != pictures[1]
        shown = np.array(page.evaluate("document.getElementById('errors').data[0].z"))
        np.testing.assert_allclose(shown, scene.joint_errors_mm.T, atol=0.05)


def test_view_hypotheses_and_truth_can_be_changed(tmp_path):
    write_page(tmp_path / "walk.html", make_scene(num_frames=3))
    visible = "name => document.getElementById('pose').data.filter(t => t.meta === name).map(t => t.visible !== false)"
    eye = "() => document.getElementById('pose')._fullLayout.scene._scene.getCamera().eye"
    with opened(tmp_path / "walk.html") as page:
        page.wait_for_selector(READY)
        before = page.evaluate(eye)
        for _ in range(20):  # a slow machine may still be drawing, and not see the mouse
            page.mouse.move(300, 300)
            page.mouse.down()
            page.mouse.move(420, 310, steps=5)
            page.mouse.up()
            page.wait_for_timeout(500)
            if page.evaluate(eye) != before:
                break
        assert page.evaluate(eye)["x"] != before["x"]
        for name in ("hypotheses", "truth"):
            for checked in (False, True):
                page.set_checked(f"#{name}", checked)
                assert page.evaluate(visible, name) == [checked] * 3
                assert page.evaluate(visible, "prediction") == [True] * 3


def test_it_plays(tmp_path):
    write_page(tmp_path / "walk.html", make_scene(num_frames=20))
    with opened(tmp_path / "walk.html") as page:
        page.wait_for_selector(READY)
        page.click("#play")
        page.wait_for_function("document.getElementById('frame').value !== '0'")
        page.click("#play")
        stopped = page.input_value("#frame")
        page.wait_for_timeout(300)
        assert page.input_value("#frame") == stopped


def test_without_truth_and_hypotheses_of_a_part_of_the_clip_on_a_phone(tmp_path):
    """Frames are numbered as in the whole clip, and a title is text whatever is in it."""
    title = "</script><script>document.title = 'no'</script><b>&amp;"
    scene = make_scene(HUMANEVA15, num_frames=6, ground_truth=None, hypotheses=None, title=title)
    scene = replace(scene, frame_numbers=np.arange(100, 106))
    write_page(tmp_path / "walk.html", scene, skip=1, downsample=2)
    with opened(tmp_path / "walk.html", width=390) as page:
        page.wait_for_selector(READY)
        assert page.title() == title
        assert page.inner_text("h1") == title
        assert page.input_value("#frame") == "0"
        assert "frame 102 of 106" in page.inner_text("#when")
        assert page.get_attribute("#frame", "max") == "2"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert not page.query_selector("#hypotheses, #truth, #errors, #spread")
        page.evaluate("location.hash = 'frame=104'")
        page.wait_for_function("document.getElementById('frame').value === '1'")


def test_the_page_is_one_small_file_that_names_no_other(tmp_path):
    render(tmp_path / "walk.html", make_scene())
    text = (tmp_path / "walk.html").read_text()
    assert len(text) < 4e6
    assert not re.search(r"(src|href)\s*=|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    render(tmp_path / "again.html", make_scene())
    assert (tmp_path / "again.html").read_text() == text


def test_what_a_page_cannot_be_made_of(tmp_path):
    with pytest.raises(UsageError, match="a page has none"):
        render(tmp_path / "walk.html", make_scene(), video=tmp_path / "walk.mp4")
    with pytest.raises(UsageError, match="skip is 5, but the clip has 5 frames"):
        render(tmp_path / "walk.html", make_scene(), skip=5)
    assert not list(tmp_path.iterdir())
