"""MATLAB's and Octave's files: the same values from every format, and one line for what is damaged or odd."""

import os
import shutil
import struct
import subprocess
import zlib

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from common.errors import DataError
from common.mat_files import read_mat

octave = pytest.mark.skipif(shutil.which("octave-cli") is None, reason="octave is not installed")

CELLS = [np.arange(51.0).reshape(17, 3) / 7, np.random.default_rng(0).normal(size=(17, 1, 4)), np.zeros((0, 0))]


def save_v73(path, **variables):
    """As MATLAB's v7.3: 512 bytes of header, dimensions reversed, a cell array as references."""

    def put(group, name, value):
        if isinstance(value, str):
            data, kind = np.array([[ord(letter)] for letter in value], np.uint16), "char"
        elif isinstance(value, list):
            refs = group.file.require_group("#refs#")
            cells = [put(refs, f"{name}{number}", cell).ref for number, cell in enumerate(value)]
            data, kind = np.array([cells], h5py.ref_dtype), "cell"
        elif value.size == 0:
            data, kind = np.array(value.shape, np.uint64), "double"
        else:
            data, kind = value.T, "double"
        node = group.create_dataset(name, data=data)
        node.attrs["MATLAB_class"] = np.bytes_(kind)
        if isinstance(value, np.ndarray) and value.size == 0:
            node.attrs["MATLAB_empty"] = np.uint8(1)
        return node

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            put(file, name, value)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")


def save_v5(path, compress=True, **variables):
    cells = {k: np.array([*v, None], object)[:-1, None] for k, v in variables.items() if isinstance(v, list)}
    savemat(path, {**variables, **cells}, do_compression=compress)


def check(found):
    assert found["text"] == "annot3"
    np.testing.assert_array_equal(found["poses"], CELLS[1].reshape(17, 4))
    assert [cell.shape for cell in found["cells"]] == [(17, 3), (17, 1, 4), (0, 0)]
    for cell, wanted in zip(found["cells"], CELLS, strict=True):
        np.testing.assert_array_equal(cell, wanted)


@pytest.mark.parametrize("save", [save_v73, save_v5, lambda *a, **k: save_v5(*a, compress=False, **k)])
def test_values_come_back_with_matlabs_dimensions(tmp_path, save):
    save(tmp_path / "x.mat", poses=CELLS[1].reshape(17, 4), cells=CELLS, text="annot3")
    check(read_mat(tmp_path / "x.mat", ["poses", "cells"], ["text", "absent"]))


@octave
def test_what_octave_saves(tmp_path):
    save_v5(tmp_path / "in.mat", poses=CELLS[1].reshape(17, 4), cells=CELLS, text="annot3")
    script = """
    load in.mat
    aaa = struct('text', 'a field, no variable', 'x', {{1, struct('poses', 3)}});
    handle = @sin; range = 1:3; flag = true; bytes = int8([1 2; 3 4]); single_ = single(0.5); none = '';
    quoted = "  two  words"; flat = zeros(3, 0); deep = reshape(1:24, 2, 3, 4); two_by_two = {1, 3; 2, 4};
    save text.mat
    save('v7.mat', 'poses', 'cells', 'text', 'aaa', 'flag', 'bytes', 'single_', 'flat', 'deep', 'two_by_two', '-v7')
    save('v6.mat', 'poses', 'cells', 'text', 'flag', 'bytes', 'single_', 'flat', 'deep', 'two_by_two', '-v6')
    save -binary binary.mat poses
    save -hdf5 octave.h5 poses
    """
    subprocess.run(["octave-cli", "--norc", "--eval", script], cwd=tmp_path, check=True, capture_output=True)
    others = ["flag", "bytes", "single_", "flat", "deep", "two_by_two"]
    for name in ("text.mat", "v7.mat", "v6.mat"):
        found = read_mat(tmp_path / name, ["poses", "cells", "text", *others])
        check(found)
        assert (found["flag"].item(), found["single_"].item(), found["flat"].shape) == (1, 0.5, (3, 0))
        np.testing.assert_array_equal(found["bytes"], [[1, 2], [3, 4]])
        np.testing.assert_array_equal(found["deep"], np.arange(1, 25).reshape(2, 3, 4, order="F"))
        assert [cell.item() for cell in found["two_by_two"]] == [1, 2, 3, 4]
    found = read_mat(tmp_path / "text.mat", ["none", "quoted"])
    assert found == {"none": "", "quoted": "  two  words"}
    for name, variable in (("text.mat", "aaa"), ("text.mat", "handle"), ("text.mat", "range"), ("v7.mat", "aaa")):
        with pytest.raises(DataError, match=f"{variable}.*expected a matrix|{variable} is not a real matrix"):
            read_mat(tmp_path / name, [variable])
    for name in ("binary.mat", "octave.h5"):
        with pytest.raises(DataError, match="save it anew with -v7"):
            read_mat(tmp_path / name, ["poses"])


def octave_text(body):
    return "# Created by Octave 7.3.0, Mon Jan 01 00:00:00 2024 UTC <a@b>\n# name: x\n" + body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("# type: matrix\n# rows: 2\n# columns: 2\n 1 2\n", "ends in the middle"),
        ("# type: matrix\n# rows: 1\n# columns: 2\n 1 2 3\n", "more than the expected 2"),
        ("# type: matrix\n# rows: 1\n# columns: 2\n 1 two\n", "two"),
        ("# type: matrix\n# rows: 1\n# columns: -2\n 1 2\n", "'-2' where a size"),
        ("# type: matrix\n# rows: 999999999\n# columns: 999999999\n 1\n", "ends in the middle"),
        ("# type: matrix\n# ndims: 3\n 1 2\n 1 2\n", "2 sizes where 3"),
        ("# type: matrix\n# rows: 1\n# columns: 2\n 1\n# name: y\n", "1 numbers where 2"),
        ("# type: cell\n# rows: 2\n# columns: 1\n# name: <cell-element>\n# type: scalar\n1\n# name: y\n", "1 cells"),
        ("# type: cell\n# rows: 1\n# columns: 1\n# name: <cell-element>\n# type: cell\n# rows: 0\n", "'cell'"),
        ("# type: complex matrix\n# rows: 1\n# columns: 1\n (1,2)\n", "'complex matrix'"),
        ("# type: string\n# elements: 2\n# length: 1\na\n# length: 1\nb\n", "text of 2 lines"),
        ("nonsense\n", "'nonsense' where"),
        ("", "ends in the middle"),
    ],
)
def test_a_damaged_octave_text_is_one_line(tmp_path, body, message):
    (tmp_path / "x.mat").write_text(octave_text(body))
    with pytest.raises(DataError, match=message) as caught:
        read_mat(tmp_path / "x.mat", ["x"])
    assert "\n" not in str(caught.value)


def test_deeply_nested_cells_are_refused(tmp_path):
    (tmp_path / "x.mat").write_text(
        octave_text("# type: cell\n# rows: 1\n# columns: 1\n# name: <cell-element>\n" * 5000)
    )
    for name in ("x", "other"):
        with pytest.raises(DataError):
            read_mat(tmp_path / "x.mat", [name])


@pytest.mark.parametrize("save", [save_v73, save_v5, lambda *a, **k: save_v5(*a, compress=False, **k)])
def test_damaged_files_are_one_line(tmp_path, save):
    path = tmp_path / "x.mat"
    save(path, x=CELLS, text="annot3")
    whole, random = path.read_bytes(), np.random.default_rng(1)
    refusals = []
    for _ in range(150):
        damaged = bytearray(whole[: random.integers(1, len(whole))] if random.random() < 0.3 else whole)
        for place in random.integers(len(damaged), size=4):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_mat(path, ["x"], ["text"])
        except DataError as error:
            refusals.append(str(error))
    assert len(refusals) > 30
    assert not any("\n" in line for line in refusals)


def test_a_v5_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("common.mat_v5._FREE_BYTES", 1000)
    monkeypatch.setattr("common.mat_v5._MAX_RATIO", 2)
    save_v5(tmp_path / "x.mat", x=np.zeros((1000, 1)))
    with pytest.raises(DataError, match="unpacks to more than"):
        read_mat(tmp_path / "x.mat", ["x"])


def test_big_endian_v5(tmp_path):
    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    content = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">ii", 1, 2)) + element(1, b"poses")
    content += element(9, struct.pack(">dd", 1.5, -2.0))
    packed = zlib.compress(element(14, content))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI"
    (tmp_path / "x.mat").write_bytes(head + struct.pack(">II", 15, len(packed)) + packed)
    np.testing.assert_array_equal(read_mat(tmp_path / "x.mat", ["poses"])["poses"], [[1.5, -2.0]])


def test_v73_data_that_lie_elsewhere_or_claim_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("common.mat_v5._FREE_BYTES", 1 << 20)
    monkeypatch.setattr("common.mat_v5._MAX_RATIO", 0)
    other, path = tmp_path / "other.h5", tmp_path / "x.mat"
    with h5py.File(other, "w") as file:
        file["x"] = np.ones(3)
    (tmp_path / "raw").write_bytes(np.ones(3).tobytes())
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(other), "x", (3,))
    with h5py.File(path, "w") as file:
        file["linked"] = h5py.ExternalLink(str(other), "x")
        file["soft"] = h5py.SoftLink("/linked")
        file.create_dataset("raw", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("huge", (1 << 40,), "f8", chunks=(1000,))
        file.create_dataset("chunk", (3,), "f8", chunks=(1 << 20,), maxshape=(None,), compression="gzip")[:] = 1
        bomb = file.create_dataset("bomb", (3,), "f8", chunks=(3,), compression="gzip")
        bomb.id.write_direct_chunk((0,), zlib.compress(bytes(50 << 20)))
        file.create_dataset("lzf", (3,), "f8", chunks=(3,), compression="lzf")[:] = 1
        file.create_group("group")
        file["compound"] = np.zeros(2, [("a", "f8")])
        ones = file.create_dataset("ones", data=np.ones(1 << 12))
        file["same"] = np.array([ones.ref] * 50, h5py.ref_dtype)
        file["many"] = np.array([ones.ref] * 20_000, h5py.ref_dtype)
        file.create_dataset("nowhere", (2,), h5py.ref_dtype)
    for name, message in {
        "linked": "is a link",
        "soft": "is a link",
        "raw": "in another file",
        "virtual": "in another file",
        "huge": "more than 1 MB",
        "chunk": "more than 1 MB",
        "bomb": "unpacks to more than it claims",
        "lzf": "packed in another way",
        "same": "more than 1 MB together",
        "many": "20000 cells",
        "group": "not an array",
        "compound": "not an array",
        "nowhere": "cannot be read|x.mat",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            read_mat(path, [name])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packing", [{}, {"shuffle": True}, {"shuffle": True, "fletcher32": True}])
def test_v73_packed_data(tmp_path, packing, monkeypatch):
    """Zeros pack best of all, noise not at all; both are looked at closely."""
    monkeypatch.setattr("common.mat_files._DEFLATES_BEST", 1 << 30)
    zeros, noise = np.zeros((500, 51)), np.random.default_rng(0).integers(0, 255, (500, 51)).astype(np.uint8)
    with h5py.File(tmp_path / "x.mat", "w") as file:
        for name, values in (("zeros", zeros), ("noise", noise)):
            file.create_dataset(name, data=values, chunks=(100, 51), compression="gzip", **packing)
    found = read_mat(tmp_path / "x.mat", ["zeros", "noise"])
    np.testing.assert_array_equal(found["zeros"], zeros.T)
    np.testing.assert_array_equal(found["noise"], noise.T)


def test_absent_and_foreign_files(tmp_path):
    (tmp_path / "x.mat").write_bytes(b"MATLAB")
    (tmp_path / "v7.mat").write_bytes(b"")
    save_v5(tmp_path / "y.mat", y=np.ones(3))
    for path, message in {
        tmp_path: "is a folder",
        tmp_path / "nothing.mat": "not found",
        tmp_path / "x.mat": "no .mat file of MATLAB v5",
        tmp_path / "v7.mat": "no .mat file of MATLAB v5",
        tmp_path / "y.mat": "has no x",
    }.items():
        with pytest.raises(DataError, match=message):
            read_mat(path, ["x"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    save_v5(tmp_path / "x.mat", x=np.ones(3))
    (tmp_path / "x.mat").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        read_mat(tmp_path / "x.mat", ["x"])
