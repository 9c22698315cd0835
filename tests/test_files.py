"""What is written is there whole or not at all, folders included."""

import pytest

from common.errors import DataError
from common.files import replacing, writable_folder, write_text
from common.npz_files import write_npz

TOO_LONG = "a" * 300


@pytest.mark.parametrize("place", [f"new/newer/{TOO_LONG}.json", f"new/{TOO_LONG}/a.json", f"{TOO_LONG}/a.json"])
@pytest.mark.parametrize("write", [lambda path: write_text(path, "x"), lambda path: write_npz(path, x=1)])
def test_a_path_that_cannot_be_written_leaves_no_folder(tmp_path, place, write):
    with pytest.raises(DataError, match=r"cannot be written \(File name too long"):
        write(tmp_path / place)
    assert not [*tmp_path.iterdir()]


def test_work_that_fails_leaves_the_folders_that_were_there(tmp_path):
    (tmp_path / "old").mkdir()

    def fail_to_write(path, other):
        with replacing(path) as part:
            part.write_text("half")
            other.touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_to_write(tmp_path / "old" / "new" / "a.txt", tmp_path / "other")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "old", tmp_path / "other"]
    with pytest.raises(ZeroDivisionError):
        fail_to_write(tmp_path / "new" / "a.txt", tmp_path / "new" / "other.txt")
    assert [*(tmp_path / "new").iterdir()] == [tmp_path / "new" / "other.txt"]


def test_a_folder_is_seen_to_be_writable_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for place, message in (
        ("file", "-c .*file is a file; name a folder"),
        ("file/a", "Not a directory"),
        (TOO_LONG, "too long"),
    ):
        with pytest.raises(DataError, match=message), writable_folder(tmp_path / place, "-c"):
            raise AssertionError("the work began")
    with writable_folder(tmp_path / "a" / "b", "-c"):
        assert not [*(tmp_path / "a" / "b").iterdir()]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with writable_folder(tmp_path / "a" / "b", "-c"):
        (tmp_path / "a" / "b" / "c").touch()
    assert (tmp_path / "a" / "b" / "c").exists()
