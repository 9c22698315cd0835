"""The npz reader: the field's files come back whole, odd ones are one clear line, and no file gets its code run.

Hostile pickles are put together from instructions by hand, since the pickle module would not write them;
pickletools tells what each letter means.
"""

import builtins
import errno
import importlib
import io
import os
import pickle
import re
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import npz_files, plain_pickle
from common.errors import DataError
from common.npz_files import read_npz, write_npz

DATA = Path(__file__).parents[1] / "data"


# --- helpers ---


def npy(body: bytes, descr: str = "|O", shape: tuple = ()) -> bytes:
    """An npy array: the header numpy writes, and then any bytes."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + body


def write_raw(path: Path, **members: bytes) -> Path:
    """A sound npz file whose members hold any bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
OBJECTS = b"cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R"
DOUBLES = b"cnumpy\ndtype\n\x8c\x02f8\x89\x88\x87R"


def wrapped(value: bytes) -> bytes:
    """A pickle, but for its protocol and end, of the array that np.savez makes of `value`, itself a piece of pickle."""
    return RECONSTRUCT + b"(K\x01)" + OBJECTS + b"\x89]" + value + b"atb"


def write_pickle(path: Path, value: bytes) -> Path:
    return write_raw(path, data=npy(b"\x80\x04" + wrapped(value) + b"."))


def by_numpy(path: Path, **options) -> dict[str, object]:
    with np.load(path, allow_pickle=True, **options) as archive:
        members = {name: archive[name] for name in archive.files}
    return {
        name: array.item() if array.dtype == object and not array.shape else array for name, array in members.items()
    }


def assert_same(found: object, expected: object) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        assert list(map(type, found)) == list(map(type, expected))
        found, expected = list(found.values()), list(expected.values())
    elif isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.flags.f_contiguous == expected.flags.f_contiguous
        if expected.dtype != object:
            assert found.flags.writeable
            assert found.tobytes() == expected.tobytes()
            return
        found, expected = list(found.flat), list(expected.flat)
    if isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


def assert_one_line(message: str, path: Path) -> None:
    assert len(message.splitlines()) == 1
    assert message.isprintable() or not str(path).isprintable()
    message.encode("utf-8")
    assert len(message) < 800
    assert "; " in message  # what was found, and then what to do


def refusal(path: Path, keys=None) -> str:
    """What read_npz says about a file that it refuses."""
    with pytest.raises(DataError) as caught:
        read_npz(path, keys)
    message = str(caught.value)
    assert_one_line(message, path)
    return message


@pytest.fixture
def bounded_memory():
    """Fails the test where reading takes more than 50 MB at once."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


# --- sound files ---


def field_file() -> dict[str, object]:
    """A bit of everything that may be in a file."""
    numbers = np.arange(24.0).reshape(2, 3, 4)
    objects = np.empty((2, 2), object)
    objects[:] = [["text", None], [[1, numbers], {"fps": 50}]]
    shared = np.ones(3, np.float32)
    poses = {
        "S1": {"Walking 1": [numbers.astype(np.float32), numbers[:, ::2], np.asfortranarray(numbers)]},
        "transposed": numbers.transpose(1, 0, 2),
        "Süß": {"empty": np.empty((0, 17, 2)), "zero-dimensional": np.array(3.0)},
        "kinds": (np.eye(2, dtype=bool), np.arange(3, dtype=np.uint8), np.ones(2, complex), np.float16([1, np.nan])),
        "big-endian": [
            numbers.astype(">f4"),
            np.array(["a", "日本"], ">U2"),
            np.asfortranarray(numbers).astype(">c16"),
        ],
        "text": [np.array(["a", "long"]), np.array([b"a", b"long"]), "", "日本", b"\x00\xff", b""],
        "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("name"), 1 << 70, -5, 70_000, 2.5, True],
        "nothing": [None, (), [], {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "shared": [shared, shared],
        0: {-1: "integers as keys", np.int64(5): "numpy's too"},
        "objects": [objects, np.asfortranarray(objects), np.empty((0, 3), object)],
    }
    return {
        "positions_3d": poses,
        "metadata": {"layout_name": "h36m", "num_joints": 17, "keypoints_symmetry": [[4, 5, 6], [1, 2, 3]]},
        "objects": objects,
        "plain": numbers,
        "fortran": np.asfortranarray(numbers),
        "names": np.array(["Walking", "Jumping"]),
        "empty": np.empty((0, 17, 3), np.float32),
        "number": np.float32(2.5),
    }


@pytest.mark.parametrize("write", [write_npz, np.savez, np.savez_compressed])
def test_reads_what_was_written_just_as_numpy_does(tmp_path, write):
    members = field_file()
    write(tmp_path / "a.npz", **members)
    found = read_npz(tmp_path / "a.npz")
    assert_same(found, by_numpy(tmp_path / "a.npz"))
    for name in ("metadata", "plain", "fortran", "names", "empty"):
        assert_same(found[name], members[name])
    for name in ("S1", "kinds", "text", "scalars", "nothing", 0):
        assert_same(found["positions_3d"][name], members["positions_3d"][name])


def test_numpys_array_of_objects_keeps_its_order(tmp_path):
    objects = field_file()["objects"]
    write_npz(tmp_path / "a.npz", data=[{"c": objects, "fortran": np.asfortranarray(objects)}])
    (found,) = read_npz(tmp_path / "a.npz")["data"]
    assert found["fortran"][0, 1] is None
    assert found["fortran"][1, 1] == found["c"][1, 1] == {"fps": 50}


def respelled(body: bytes, core: bytes) -> bytes:
    """The pickle as another numpy writes it: numpy.core is that of 1.x, numpy._core that of 2.x."""
    body = re.sub(rb"cnumpy\._?core\.", b"cnumpy." + core + b".", body)
    return re.sub(
        rb"\x8c.(numpy\.)_?core(\.\w+)\x94",  # a length before the text, and the memo after it
        lambda found: b"\x8c%c%b\x94" % (len(text := found[1] + core + found[2]), text),
        body,
        flags=re.DOTALL,
    )


@pytest.mark.parametrize("core", [b"core", b"_core"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_every_protocol_and_numpy(tmp_path, protocol, core):
    body = pickle.dumps(np.array(field_file(), dtype=object), protocol)
    expected = by_numpy(write_raw(tmp_path / "a.npz", data=npy(body)))["data"]
    body = respelled(body, core)
    assert b"numpy." + core + b"." in body
    found = read_npz(write_raw(tmp_path / "a.npz", data=npy(body)))["data"]
    assert_same(found, expected)
    assert_same(found["positions_3d"]["S1"], field_file()["positions_3d"]["S1"])


def test_reads_python_2_strings_as_latin1(tmp_path):
    numbers = np.array([1.5, -2.25, 1e300])
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1L,), }\n"
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    reconstruct = RECONSTRUCT.replace(b"C\x01b", b"U\x01b")
    array = reconstruct + b"(K\x01K\x03\x85" + DOUBLES + b"\x89U\x18" + numbers.tobytes() + b"tb"
    poses = b"}U\x02S\xe9" + array + b"s"
    body = b"\x80\x02" + reconstruct + b"(K\x01K\x01\x85" + OBJECTS + b"\x89]" + poses + b"atb."
    path = write_raw(tmp_path / "a.npz", data=header + body)
    found = read_npz(path)["data"]
    assert_same(found[0], {"Sé": numbers})
    with pytest.warns(UserWarning, match="Python 2"):
        assert_same(found, by_numpy(path, encoding="latin1")["data"])


@pytest.mark.parametrize("name", ["data_3d_sample.npz", "data_2d_sample_gt.npz"])
def test_reads_the_sample_just_as_numpy_does(name):
    assert_same(read_npz(DATA / name), by_numpy(DATA / name))


def test_reads_the_named_members_only(tmp_path):
    path = write_raw(tmp_path / "a.npz", good=npy(bytes(8), "<f8"), bad=b"")
    assert_same(read_npz(path, ["good"]), {"good": np.array(0.0)})
    assert "'bad'" in refusal(path)


@pytest.mark.parametrize(
    "name", ["with space.npz", "süß 日本.npz", "new\nline.npz", "\u202eright.npz", "b\udcffd", "%s{}.zip"]
)
def test_any_path_will_do(tmp_path, name):
    path = tmp_path / name
    write_npz(path, data={"S1": 1})
    assert read_npz(path)["data"] == read_npz(str(path))["data"] == {"S1": 1}
    assert "no member 'other', only 'data'" in refusal(path, ["other"])
    path.unlink()
    assert "not found" in refusal(path)


# --- writing ---


def test_write_makes_the_folder_and_numpy_reads_it(tmp_path):
    path = tmp_path / "new" / "folder" / "poses"
    write_npz(path, path={"a": 1}, positions=np.eye(3))
    assert os.listdir(path.parent) == ["poses"]
    assert_same(by_numpy(path), {"path": {"a": 1}, "positions": np.eye(3)})


def test_write_again_is_the_same_file(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, data={"S1": np.eye(3)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.fixture
def old_file(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, data="old")
    return path


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_write_leaves_the_old_file(old_file, monkeypatch, step, error):
    def fail(*_):
        assert read_npz(old_file) == {"data": np.array("old")}  # until the end a reader finds the old one
        assert len(os.listdir(old_file.parent)) == 2
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(DataError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        write_npz(old_file, data="new")
    if isinstance(error, OSError):
        assert_one_line(str(caught.value), old_file)
        assert "No space left" in str(caught.value)
    assert read_npz(old_file) == {"data": np.array("old")}
    assert os.listdir(old_file.parent) == ["a.npz"]


@pytest.mark.parametrize(
    ("member", "named"),
    [
        ({"S1": {1, 2}}, "set"),
        ({"S1": OrderedDict()}, "ordereddict"),
        ({("S1", "Walking"): 1}, "key of type tuple"),
        ({"S1": os.getcwd}, "builtin_function"),
        ([np.array(["2020-01-01"], dtype="M8[D]")], "datetime64"),
        (np.zeros(2, [("x", "f4")]), "'x'"),
        ([[1], [1, 2]], "unequal|inhomogeneous"),
    ],
)
def test_write_refuses_what_read_would(old_file, member, named):
    with pytest.raises(DataError, match=named) as caught:
        write_npz(old_file, data=member)
    assert_one_line(str(caught.value), old_file)
    assert read_npz(old_file) == {"data": np.array("old")}


def test_only_a_full_disk_asks_for_space(old_file, monkeypatch):
    with pytest.raises(DataError, match=r"is a file, not a directory\); give a folder") as caught:
        write_npz(old_file / "below" / "b.npz", data=1)
    assert f"{old_file} is a file" in str(caught.value)
    assert "space" not in str(caught.value)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="free some space"):
        write_npz(old_file, data=1)


def test_write_to_an_impossible_place(old_file):
    for path in (old_file.parent, old_file / "b.npz", old_file.with_name("zero\0byte"), old_file.with_name("x" * 300)):
        with pytest.raises(DataError) as caught:
            write_npz(path, data=1)
        assert_one_line(str(caught.value), path)
    with pytest.raises(DataError):
        write_npz(old_file, **{"lone \udcff surrogate": 1})
    assert os.listdir(old_file.parent) == ["a.npz"]


# --- files with code ---


class Call:
    """Pickles as the call of a function, which may come from such a call itself."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

    def __call__(self):
        raise AssertionError("only what is callable may be pickled as a function")


class WithState:
    """Pickles as an object whose state is set; unpickling needs this module, as a real file would its own."""

    def __init__(self, marker):
        self.marker = marker

    def __setstate__(self, state):
        os.mkdir(state["marker"])


def marker_makers(marker: str, folder: Path) -> dict[str, object]:
    """What makes the marker when it is unpickled, under the name that a refusal has to tell."""
    np.save(folder / "inner.npy", np.array(Call(os.mkdir, marker), dtype=object))
    return {
        "posix.system": Call(os.system, f"mkdir '{marker}'"),
        "posix.mkdir": Call(os.mkdir, marker),
        "eval": Call(builtins.eval, f"__import__('os').mkdir({marker!r})"),
        "exec": Call(builtins.exec, f"import os; os.mkdir({marker!r})"),
        "getattr": Call(Call(builtins.getattr, Call(importlib.import_module, "os"), "mkdir"), marker),
        "load": Call(np.load, str(folder / "inner.npy"), None, True),
        "WithState": WithState(marker),
    }


NAMES = ["posix.system", "posix.mkdir", "eval", "exec", "getattr", "load", "WithState"]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_runs_no_code_of_the_file(tmp_path, name, protocol):
    marker = tmp_path / "marker"
    call = marker_makers(str(marker), tmp_path)[name]
    path = tmp_path / "evil.npz"
    array = np.array({"S1": call}, dtype=object)
    write_raw(path, data=npy(pickle.dumps(array, protocol)))
    message = refusal(path)
    assert name.split(".")[-1] in message
    assert "no code" in message
    assert not marker.exists()
    by_numpy(path)
    assert marker.exists()  # so the file is as evil as it should be


@pytest.mark.parametrize(
    "place",
    [
        lambda call: {"metadata": {"num_joints": 17, "layout": call}},
        lambda call: {"data": {"S1": [np.eye(2), np.array([1, call], dtype=object)]}},
        lambda call: {"data": np.array([[call]], dtype=object)},
        lambda call: {"data": {"S1": ({call: 1},)}},
        lambda call: {"data": Call(np.dtype, call)},
        lambda call: {"good": np.eye(2), "more": [call, {}]},
    ],
)
def test_runs_no_code_wherever_it_is(tmp_path, place):
    marker = tmp_path / "marker"
    np.savez(tmp_path / "evil.npz", **place(Call(os.mkdir, str(marker))))
    assert "mkdir" in refusal(tmp_path / "evil.npz")
    assert not marker.exists()


def test_runs_no_pickle_that_is_a_member_by_itself(tmp_path):
    marker = tmp_path / "marker"
    evil = pickle.dumps(Call(os.mkdir, str(marker)))
    assert "expected an npy array" in refusal(write_raw(tmp_path / "a.npz", data=evil))
    (tmp_path / "b.npz").write_bytes(evil)
    assert "not a zip" in refusal(tmp_path / "b.npz")
    assert not marker.exists()


# The instructions of classes, instances, persistent objects, extensions and sets; and the four functions of numpy's
# pickles, called as numpy does not. \x8c is a string, C are bytes, and \x85 to \x87 make tuples.
FOREIGN = {
    "old-style instance": b"(ios\nsystem\n",
    "old-style object": b"(cnumpy\nndarray\no",
    "new-style object": b"cnumpy\nndarray\n)\x81",
    "keyword arguments": b"cnumpy\nndarray\n)}\x92",
    "persistent id": b"Pid\n",
    "binary persistent id": b"K\x01Q",
    "extension": b"\x82\x01",
    "set": b"\x8f",
    "frozenset": b"(\x91",
    "buffer": b"\x97",
    "text float": b"F1.5\n",
    "unknown instruction": b"\xff",
    "protocol": b"\x80\x06N",
    "another class": b"cnumpy\nmatrix\n",
    "a submodule's attribute": b"\x8c\x05numpy\x8c\x0dndarray.dumps\x93",
    "empty name": b"\x8c\x00\x8c\x00\x93",
    "names no text": b"K\x01K\x02\x93",
    "a class as value": b"cnumpy\nndarray\n",
    "calls a number": b"K\x01)R",
    "calls text": b"\x8c\x04eval)R",
    "calls with a list": b"cnumpy\ndtype\n]R",
    "ndarray itself": b"cnumpy\nndarray\nK\x02\x85R",
    "reconstruct of no ndarray": b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85C\x01b\x87R",
    "reconstruct with a shape": RECONSTRUCT.replace(b"K\x00", b"J\xff\xff\xff\x7f"),
    "unfinished array": RECONSTRUCT,
    "unfinished dtype": DOUBLES,
    "structured dtype": b"cnumpy\ndtype\n\x8c\x03V16\x89\x88\x87R",
    "dtype by name": b"cnumpy\ndtype\n\x8c\x07float64\x89\x88\x87R",
    "dtype with fields": b"cnumpy\ndtype\n\x8c\x05f8,f8\x89\x88\x87R",
    "dtype's odd state": DOUBLES + b"(K\x03\x8c\x01!NNNtb",
    "dtype's state twice": DOUBLES + b"K\x01b",
    "array's odd state": RECONSTRUCT + b"(K\x02)" + DOUBLES + b"\x89C\x00tb",
    "array's state from a dict": RECONSTRUCT + b"}b",
    "state of a number": b"K\x01}b",
    "objects as bytes": RECONSTRUCT + b"(K\x01)" + OBJECTS + b"\x89C\x01Atb",
    "numbers as a list": RECONSTRUCT + b"(K\x01)" + DOUBLES + b"\x89]tb",
    "object scalar": b"cnumpy.core.multiarray\nscalar\n" + OBJECTS + b"C\x08" + b"A" * 8 + b"\x86R",
    "object buffer": b"cnumpy.core.numeric\n_frombuffer\n(C\x08" + b"A" * 8 + OBJECTS + b")\x8c\x01CtR",
    "odd axes": b"cnumpy.core.numeric\n_frombuffer\n(C\x08" + b"A" * 8 + DOUBLES + b")\x8c\x01KK\x05\x85tR",
    "another encoding": b"c_codecs\nencode\n\x8c\x01a\x8c\x05punyc\x86R",
    "no latin1": b"c_codecs\nencode\n\x8c\x03\xe6\x97\xa5\x8c\x06latin1\x86R",
    "huge bytes()": b"c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R",
    "appends to a dict": b"}K\x01a",
    "sets an item of a list": b"]K\x01K\x01s",
    "odd items": b"}(K\x01u",
    "missing memo": b"h\x07",
    "negative length": b"T\xff\xff\xff\xff",
    "long text": b"I" + b"9" * 5000 + b"\n",
    "bad text": b"X\x01\x00\x00\x00\xff",
}


@pytest.mark.parametrize("value", FOREIGN.values(), ids=FOREIGN.keys())
def test_foreign_pickles_are_refused(tmp_path, value):
    message = refusal(write_pickle(tmp_path / "a.npz", value))
    assert "member 'data'" in message
    assert "expected" in message


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b".", "ValueError"),
        (b"K\x01K\x02.", "ValueError"),
        (b"\x86.", "empty stack"),
        (b"t.", "IndexError"),
        (b"\x94.", "IndexError"),
        (b"(K\x01a.", "IndexError"),
        (b"K\x01.", "pickle of type int"),
        (b"K\x01", "ends early: 1 bytes expected, 0 left"),
    ],
)
def test_pickles_of_no_one_array_are_refused(tmp_path, body, named):
    assert named in refusal(write_raw(tmp_path / "a.npz", data=npy(b"\x80\x04" + body)))


HOSTILE_KEYS = {
    "list": b"]",
    "dict": b"}",
    "tuple": b")",
    "tuple of text": b"\x8c\x02S1\x85",
    "float": b"G" + bytes(8),
    "none": b"N",
    "array": RECONSTRUCT + b"(K\x01)" + DOUBLES + b"\x89C\x08" + b"A" * 8 + b"tb",
    "scalar": b"cnumpy.core.multiarray\nscalar\n" + DOUBLES + b"C\x08" + b"A" * 8 + b"\x86R",
    "dtype": DOUBLES,
    "class": b"cnumpy\nndarray\n",
    "one of many numbers with the same hash": b"\x8a\x0a" + (977 * (2**61 - 1)).to_bytes(10, "little"),
    "tuple too deep to hash": b")" + b"\x85" * 150_000,
}


@pytest.mark.parametrize("key", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS.keys())
def test_hostile_keys_are_refused(tmp_path, key):
    message = refusal(write_pickle(tmp_path / "a.npz", b"}" + key + b"K\x01s"))
    assert "has a dict key of type" in message


# --- files that ask for too much ---

# A pair of the list, a pair of that pair, and so on sixty times; the last is in the memo under 60, which is "<".
DOUBLING = b"]q\x00" + b"".join(b"h%c\x86q%c" % (n, n + 1) for n in range(60))


def nested(depth: int) -> bytes:
    return b"]" * depth + b"a" * (depth - 1)


BOMBS = {
    "eight-byte length": b"\x8e" + b"\xff" * 7 + b"\x0f",
    "four-byte length": b"B\xff\xff\xff\x7f",
    "text length": b"\x8d" + b"\xff" * 7 + b"\x0f",
    "number's length": b"\x8b\xff\xff\xff\x7f",
    "nested": nested(200),
    "nested far too deep": nested(30_000),
    "inside itself": b"]q\x00h\x00a",
    "array inside itself": RECONSTRUCT + b"q\x01(K\x01)" + OBJECTS + b"\x89]h\x01atb",
    "shape": RECONSTRUCT + b"(K\x01\x8a\x06" + (10**12).to_bytes(6, "little") + b"\x85" + DOUBLES + b"\x89C\x00tb",
    "shape of objects": RECONSTRUCT
    + b"(K\x01\x8a\x06"
    + (10**12).to_bytes(6, "little")
    + b"\x85"
    + OBJECTS
    + b"\x89]tb",
    "many empty elements": RECONSTRUCT
    + b"(K\x01J\xff\xff\xff\x7f\x85"
    + DOUBLES.replace(b"f8", b"S0")
    + b"\x89C\x00tb",
    "negative shape": RECONSTRUCT + b"(K\x01J\xff\xff\xff\xff\x85" + DOUBLES + b"\x89C\x00tb",
    "wide dtype": RECONSTRUCT + b"(K\x01)" + DOUBLES.replace(b"\x02f8", b"\x0aS999999999") + b"\x89C\x00tb",
}
BOMBS["one array's bytes in a thousand arrays"] = (
    b"]B\x00\x00\x01\x00" + bytes(1 << 16) + b"q\x00a"
    + (RECONSTRUCT + b"(K\x01M\x00\x20\x85" + DOUBLES + b"\x89h\x00tba") * 1000
)  # fmt: skip
BOMBS["text encoded a thousand times"] = (
    b"]X\x00\x00\x01\x00" + b"a" * (1 << 16) + b"q\x00a" + b"c_codecs\nencode\nh\x00\x8c\x06latin1\x86Ra" * 1000
)


@pytest.mark.parametrize("value", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_refused(tmp_path, value, bounded_memory):
    assert "member 'data'" in refusal(write_pickle(tmp_path / "a.npz", value))


def test_a_memo_index_costs_nothing(tmp_path, bounded_memory):
    path = write_pickle(tmp_path / "a.npz", b"K\x07r\xff\xff\xff\xff")
    assert read_npz(path) == {"data": 7}


MANY_OBJECTS = RECONSTRUCT + b"(K\x01M\x10\x27\x85" + OBJECTS + b"\x89](" + b"N" * 10_000 + b"etb"


# These would take more time than there is, were they gone through or printed.
@pytest.mark.parametrize(
    ("body", "named"),
    [
        (wrapped(DOUBLING), "repeats its values"),
        (wrapped(b"](" + MANY_OBJECTS + b"q\x00" + b"h\x00" * 10_000 + b"e"), "repeats its values"),
        (DOUBLING + b"\x8c\x01x\x93", "tuple found"),
        (DOUBLING + RECONSTRUCT + b"(K\x01h<" + DOUBLES + b"\x89C\x00tb", "shape makes no sense"),
    ],
    ids=["pairs", "arrays", "name", "shape"],
)
def test_doubling_is_refused(tmp_path, body, named):
    assert named in refusal(write_raw(tmp_path / "a.npz", data=npy(b"\x80\x04" + body + b".")))


def test_nesting_stops_at_the_limit(tmp_path):
    assert read_npz(write_pickle(tmp_path / "a.npz", nested(plain_pickle.MAX_DEPTH - 1)))["data"] != []
    assert "deeper than 100" in refusal(write_pickle(tmp_path / "a.npz", nested(plain_pickle.MAX_DEPTH)))


def test_nesting_counts_what_is_shared(tmp_path):
    deep = nested(60).replace(b"]", b"]q\x00", 1)  # in the memo, and so gone through but once
    assert "deeper than 100" in refusal(
        write_pickle(tmp_path / "a.npz", b"]" + deep + b"a" + b"]" * 60 + b"h\x00" + b"a" * 61)
    )


def test_instructions_are_counted_over_all_members(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    write_npz(path, **{f"m{index}": [*range(50), None] for index in range(4)})
    assert len(read_npz(path)) == 4
    more = "more pickle instructions than a file of its size may"
    monkeypatch.setattr(plain_pickle, "MAX_INSTRUCTIONS", 200)
    assert len(read_npz(path, ["m3"])) == 1
    assert more in refusal(path)
    monkeypatch.undo()
    monkeypatch.setattr(plain_pickle, "FREE_INSTRUCTIONS", 200)
    assert path.stat().st_size // plain_pickle.BYTES_PER_INSTRUCTION < 200
    assert len(read_npz(path, ["m3"])) == 1
    assert more in refusal(path)
    with open(path, "r+b") as stream:  # what is before a zip is of no concern to it
        content = stream.read()
        stream.seek(0)
        stream.write(bytes(10_000) + content)
    assert len(read_npz(path)) == 4


def pickled_zeros(code: bytes, num_bytes: int) -> bytes:
    return npy(b"\x80\x04" + wrapped(code + num_bytes.to_bytes(8, "little") + bytes(num_bytes)) + b".")


SMALL_ON_DISK = {
    "text": lambda: pickled_zeros(b"\x8d", 70 << 20),
    "bytes": lambda: pickled_zeros(b"\x8e", 70 << 20),
    "array": lambda: npy(bytes(70 << 20), "|u1", (70 << 20,)),
    "tuples": lambda: npy(b"\x80\x04" + wrapped(b"](" + b")\x85\x85" * 1_000_000 + b"e") + b"."),
    "lists": lambda: npy(b"\x80\x04" + wrapped(b"](" + b"]]a" * 1_000_000 + b"e") + b"."),
    "dicts": lambda: npy(b"\x80\x04" + wrapped(b"](" + b"}K\x01}s" * 1_000_000 + b"e") + b"."),
}


@pytest.mark.parametrize("member", SMALL_ON_DISK.values(), ids=SMALL_ON_DISK.keys())
def test_small_files_do_not_take_much_memory(tmp_path, member, bounded_memory):
    path = tmp_path / "a.npz"
    tracemalloc.stop()  # the test's own bytes are not what is bounded
    write_raw(path, data=member())
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    assert re.search("unpacks to|more pickle instructions", refusal(path))


@pytest.mark.parametrize("limits", [{"MAX_TOTAL_BYTES": 1 << 20}, {"FREE_TOTAL_BYTES": 1 << 20}])
def test_zip_bombs_are_refused(tmp_path, monkeypatch, limits):
    path = tmp_path / "a.npz"
    write_npz(path, zeros=np.zeros(1 << 20, np.uint8), more=np.zeros(9, np.uint8))
    assert len(read_npz(path)) == 2
    for name, value in limits.items():
        monkeypatch.setattr(npz_files, name, value)
    assert "unpacks to" in refusal(path)
    assert len(read_npz(path, ["more"])) == 1


def patch_directory(path: Path, offset: int, form: str, value: int) -> Path:
    """Change a field of a member's entry in the zip's directory; 8 flags, 10 method, 20 and 24 sizes, 42 place."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.rindex(b"PK\x01\x02") + offset, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (8, "<H", 1),  # encrypted
        (10, "<H", 12),  # bzip2
        (10, "<H", 99),  # no method there is
        (10, "<H", 0),  # packed, but not according to the directory
        (16, "<I", 1),  # checksum
        (20, "<I", 10),  # a shorter stream than there is
        (20, "<I", 1 << 30),  # a longer one than the file
        (24, "<I", 0),  # sizes that are not true
        (24, "<I", 200),
        (24, "<I", (1 << 30) - 1),
        (24, "<I", (1 << 32) - 2),
        (42, "<I", 1 << 30),  # outside of the file
    ],
)
def test_zips_that_lie_are_refused(tmp_path, bounded_memory, offset, form, value):
    path = write_raw(tmp_path / "a.npz", data=npy(bytes(10_000_000), "<f8", (1_250_000,)))
    refusal(patch_directory(path, offset, form, value))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_to_pack_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("data.npy", npy(bytes(8), "<f8"))
    assert f"packed by zip method {method}" in refusal(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["object scalar", "object buffer"])
def test_bytes_do_not_become_pointers(tmp_path, name):
    assert "has 'object' data" in refusal(write_pickle(tmp_path / "a.npz", FOREIGN[name]))


@pytest.mark.parametrize(
    ("member", "named"),
    [
        (npy(bytes(100), "<f8", (10**12,)), "8000000000000 bytes, and has 100"),
        (npy(bytes(100), "<f8", (10**30,)), "shape makes no sense"),
        (npy(bytes(100), "<f8", (-1,)), "shape makes no sense"),
        (npy(bytes(100), "<f8", (1,) * 40), "shape makes no sense"),
        (npy(b"", "|S0", (10**12,)), "'\\|S0'"),
        (npy(bytes(8), "<f8", (2,)), "16 bytes, and has 8"),
        (npy(bytes(16), "<f8", (1,)), "8 bytes, and has 16"),
        (npy(bytes(8), "<M8[s]"), "datetime64"),
        (npy(bytes(8), [("x", "<f8")]), "'x'"),
        (npy(pickle.dumps(np.empty(3, object)), "|O", (2,)), "header's shape"),
        (npy(pickle.dumps({"S1": 1}), "|O"), "pickle of type dict"),
        (npy(pickle.dumps(np.eye(2)), "|O", (2, 2)), "pickle of type ndarray"),
        (npy(pickle.dumps(np.array(None))[:-9], "|O"), "damaged|early"),
        (npy(pickle.dumps(np.array(None)) + b"more", "|O"), "4 bytes too many"),
        (npy(b"", "|O"), "expected"),
        (npy(b"")[:50], "ends early"),
        (npy(b"")[:7], "expected an npy array"),
        (b"", "expected an npy array"),
        (b"\x93NUMPY\x03\x00\x02\x00\x00\x00{}", "version 3.0"),
        (b"\x93NUMPY\x09\x09", "version 9.9"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header of 4294967295 bytes"),
        (b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000, "no sensible array header"),
        (b"\x93NUMPY\x01\x00\x02\x00{}", "no sensible array header"),
        (b"\x93NUMPY\x01\x00\x0d\x00os.system('')", "no sensible array header"),
    ],
)
def test_odd_arrays_are_refused(tmp_path, bounded_memory, member, named):
    path = write_raw(tmp_path / "a.npz", data=member)
    assert re.search(named, refusal(path))


# --- damaged files, and none ---


def test_every_cut_is_noticed(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, positions={"S1": np.random.default_rng(0).normal(size=(9, 17, 3))}, plain=np.eye(3))
    content = path.read_bytes()
    for size in [*range(1, 60), *range(60, len(content), 97), *range(len(content) - 30, len(content))]:
        path.write_bytes(content[:size])
        refusal(path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "not a zip file"),
        (b"not a zip", "not a zip file"),
        (b"PK\x03\x04" + bytes(100), "cut off or damaged"),
        (npy(bytes(8), "<f8"), "single npy array"),
        (b"PK\x05\x06" + bytes(18), "has no member 'positions_3d', only none at all"),
    ],
)
def test_what_is_no_npz_file_is_refused(tmp_path, content, named):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    message = refusal(path, ["positions_3d"])
    assert named in message
    assert message.startswith(f"{path}: ")


def test_wrong_keys_are_named_with_those_there_are(tmp_path):
    write_npz(tmp_path / "a.npz", positions_2d=1, metadata=2)
    message = refusal(tmp_path / "a.npz", ["metadata", "positions_3d"])
    assert "has no member 'positions_3d', only 'metadata', 'positions_2d'; make" in message
    write_raw(tmp_path / "b.npz", **{"x\n" * 1000: b"", **{str(index): b"" for index in range(1000)}})
    assert ", ...; make" in refusal(tmp_path / "b.npz", ["data"])


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is a folder" in refusal(tmp_path)
    assert "not found; data/README.md" in refusal(tmp_path / "absent.npz")
    assert "not found" in refusal(tmp_path / "zero\0byte")
    assert "not a regular file" in refusal(tmp_path / "pipe")
    assert "cannot be read (File name too long)" in refusal(tmp_path / ("x" * 300))


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    write_npz(tmp_path / "a.npz", data=1)
    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    assert "cannot be read (Permission denied); check its permissions" in refusal(tmp_path / "a.npz")


# --- any bytes at all ---


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzed") / "a.npz"


def assert_plain_or_refused(path: Path) -> None:
    try:
        found = read_npz(path)
    except DataError as error:
        assert_one_line(str(error), path)
    else:
        plain_pickle.check_tree(list(found.values()))


def edited(content: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    """Each edit takes one byte out, anywhere, and puts none, one or more in."""
    content = bytearray(content)
    for place, new in edits:
        place %= len(content)
        content[place : place + 1] = new
    return bytes(content)


SMALL = {"S1": {"Walking": [np.arange(4, dtype=np.float32), np.float64(1.5)]}, "fps": (50, None, True)}
EDITS = st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3)), min_size=1, max_size=6)
quick = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@quick
@given(edits=EDITS)
def test_any_change_to_the_file(fuzzed, edits):
    np.savez(fuzzed, data=SMALL, plain=np.eye(2))
    fuzzed.write_bytes(edited(fuzzed.read_bytes(), edits))
    assert_plain_or_refused(fuzzed)


@quick
@given(edits=EDITS, protocol=st.integers(2, 5))
def test_any_change_to_the_pickle(fuzzed, edits, protocol):
    """Inside a sound zip, whose checksum would notice otherwise."""
    body = pickle.dumps(np.array(SMALL, dtype=object), protocol)
    assert_plain_or_refused(write_raw(fuzzed, data=npy(edited(body, edits))))


@quick
@given(edits=EDITS)
def test_any_change_to_the_header(fuzzed, edits):
    assert_plain_or_refused(write_raw(fuzzed, data=edited(npy(b"", "<f8", (2, 3)), edits) + bytes(48)))


# Pieces of pickles, to be put together in any order.
PIECES = [
    *(b"(", b")", b"t", b"]", b"}", b"N", b"\x88", b"K\x00", b"K\x01", b"K\x03", b"\x85", b"\x86", b"\x87", b"\x94"),
    *(
        b"a",
        b"e",
        b"s",
        b"u",
        b"R",
        b"b",
        b"q\x00",
        b"h\x00",
        b"h\x01",
        b"\x8c\x01b",
        b"C\x08" + bytes(8),
        b"\x8c\x01C",
    ),
    *(RECONSTRUCT, DOUBLES, OBJECTS, b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\nscalar\n", b"c_codecs\nencode\n"),
    *(b"cnumpy.core.numeric\n_frombuffer\n", b"(K\x01)" + DOUBLES + b"\x89C\x08" + bytes(8) + b"tb"),
]


@quick
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=30))
def test_any_order_of_instructions(fuzzed, pieces):
    assert_plain_or_refused(write_pickle(fuzzed, b"".join(pieces)))
