"""Files made to do harm, and names that lead elsewhere: one line, and memory of the file's size."""

import io
import os
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import main_gt
from common import torch_files
from common.arguments import Options
from common.checkpoints import find_checkpoint, read_checkpoint
from common.clip_text import TextTowerConfig, random_text_tower
from common.compare import read_results
from common.errors import DataError
from common.files import write_text
from common.input_cameras import read_intrinsics
from common.keypoint_formats import read_detections
from common.manifest import write_manifest
from common.mat_files import read_mat
from common.plain_pickle import NamesCodeError
from common.skeleton import H36M, MPI_INF_3DHP
from common.torch_files import read_torch_file
from common.trained_lifter import load_lifter
from tests.fuzz_targets import TARGETS, check

linux = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="memory is read off Linux's /proc")


def refusal(read, path):
    with pytest.raises(DataError) as found:
        read(path)
    assert str(found.value).isprintable()
    return str(found.value)


def checkpoint_refusal(path):
    return refusal(lambda path: read_checkpoint(path, H36M, compat_release=False), path)


# --- checkpoints ---


def parts_of(content):
    """Member -> bytes of the file that torch.save makes."""
    file = io.BytesIO()
    torch.save(content, file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_parts(path, parts, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def test_torch_files_are_read_as_torch_reads_them(tmp_path):
    base = torch.arange(24.0).reshape(2, 3, 4)
    content = {
        "tensors": [base, base.transpose(0, 2), base[:, 1], torch.tensor(3, dtype=torch.int64), torch.zeros(0, 3)],
        "kinds": [torch.ones(3, dtype=kind) for kind in (torch.bool, torch.uint8, torch.bfloat16, torch.float64)],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "state": torch.nn.Linear(2, 3).state_dict(),
        "plain": (1, 2.5, "é", None, True, [b"x"], {3: torch.Size([1, 2])}),
    }
    torch.save(content, tmp_path / "a.bin")
    ours = read_torch_file(tmp_path / "a.bin")
    theirs = torch.load(tmp_path / "a.bin", weights_only=True)
    assert ours["plain"] == theirs["plain"]
    assert ours["state"].keys() == theirs["state"].keys()
    pairs = [*zip(ours["tensors"] + ours["kinds"], theirs["tensors"] + theirs["kinds"], strict=True)]
    pairs += [
        (ours["parameter"], theirs["parameter"]),
        *zip(ours["state"].values(), theirs["state"].values(), strict=True),
    ]
    for mine, other in pairs:
        assert mine.dtype == other.dtype
        assert mine.stride() == other.stride()
        assert torch.equal(mine, other)
    assert ours["tensors"][0].data_ptr() == ours["tensors"][2].data_ptr() - 16  # one storage still


def test_a_random_state_is_read_as_nothing_and_everything_else_that_is_named_is_refused(tmp_path):
    torch.save({"state": np.random.RandomState(3), "epoch": 5, "weight": torch.ones(2)}, tmp_path / "a.bin")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.bin", weights_only=True)
    found = read_torch_file(tmp_path / "a.bin")
    assert found["state"] is None
    assert found["epoch"] == 5
    torch.save({"path": Path("x")}, tmp_path / "b.bin")
    with pytest.raises(NamesCodeError):
        read_torch_file(tmp_path / "b.bin")
    assert "could run code" in checkpoint_refusal(tmp_path / "b.bin")


def test_a_random_state_that_names_code_is_refused(tmp_path):
    parts = parts_of({"state": np.random.RandomState(3)})
    name = next(name for name in parts if name.endswith("data.pkl"))
    evil = parts[name].replace(b"cnumpy.random._pickle\n__randomstate_ctor\n", b"cposix\nsystem\n")
    assert evil != parts[name]
    assert "could run code" in checkpoint_refusal(write_parts(tmp_path / "a.bin", {**parts, name: evil}))


def claim(parts, old, new):
    name = next(name for name in parts if name.endswith("data.pkl"))
    assert parts[name].count(old) >= 1
    return {**parts, name: parts[name].replace(old, new)}


SIX = parts_of({"a": torch.ones(6)})
BOMBS = {
    "10^12 numbers of a storage": (claim(SIX, b"K\x06tq", b"\x8a\x06\x00\x10\xa5\xd4\xe8\x00tq"), "a tensor of"),
    "10^12 numbers of a view": (claim(SIX, b"K\x06\x85q", b"\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85q"), "damaged"),
    "10^12 times the same number": (
        claim(claim(SIX, b"K\x06\x85q", b"\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85q"), b"K\x01\x85q", b"K\x00\x85q"),
        "numbers has 6",
    ),
    "text of 2 GB": (claim(SIX, b"X\x01\x00\x00\x00a", b"X\xff\xff\xff\x7fa"), "ends early: 2147483647 bytes"),
    "bytes of 2 GB": (claim(SIX, b"X\x01\x00\x00\x00a", b"B\xff\xff\xff\x7fa"), "ends early: 2147483647 bytes"),
}


@linux
@pytest.mark.parametrize("case", BOMBS)
def test_what_a_checkpoint_claims_costs_nothing(tmp_path, case):
    parts, named = BOMBS[case]
    path = write_parts(tmp_path / "a.bin", parts)
    assert named in checkpoint_refusal(path)
    assert not check(TARGETS["checkpoint"], path.read_bytes(), tmp_path)


@linux
def test_a_checkpoint_that_is_a_zip_bomb_is_refused(tmp_path):
    parts = parts_of({"a": torch.zeros(100_000_000)})
    path = write_parts(tmp_path / "a.bin", parts, zipfile.ZIP_DEFLATED)
    del parts
    assert path.stat().st_size < 1e6
    assert "packed, which torch does not do" in checkpoint_refusal(path)
    assert not check(TARGETS["checkpoint"], path.read_bytes(), tmp_path)


def test_odd_zip_files_are_no_checkpoints(tmp_path):
    for parts, named in (
        ({"a/b": b""}, "a zip file, but no checkpoint"),
        ({**SIX, "b/data.pkl": b""}, "a zip file, but no checkpoint"),
        ({name: b"big" if name.endswith("byteorder") else part for name, part in SIX.items()}, "another byte order"),
        ({name: part for name, part in SIX.items() if not name.endswith("data/0")}, "damaged"),
    ):
        assert named in checkpoint_refusal(write_parts(tmp_path / "a.bin", parts))
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in [*SIX.items(), *SIX.items()]:
            archive.writestr(name, content)
    assert "is in it twice" in checkpoint_refusal(tmp_path / "a.bin")
    torch.save({"a": 1}, tmp_path / "a.bin", _use_new_zipfile_serialization=False)
    assert "torch before 1.6" in checkpoint_refusal(tmp_path / "a.bin")


def written_checkpoint(path, **changed):
    """A whole checkpoint, but for what is changed in the file."""
    path.write_bytes(next(iter(TARGETS["checkpoint"].seeds())))
    content = torch.load(path, weights_only=True)
    torch.save(content | changed, path)
    return path


WHOLE = Options(keypoints="gt", text_encoder="random").as_data()
ODD_OPTIONS = {
    "two alone": ({name: WHOLE[name] for name in ("text_encoder", "dataset")}, "the option subjects_train"),
    "nothing": ({}, "the option dataset"),
    "a folder with an end in it": (WHOLE | {"data_dir": "a\0b"}, "the option --data-dir is 'a\\x00b'"),
    "a folder of half a letter": (WHOLE | {"data_dir": "\ud800"}, "the option --data-dir is"),
    "a list for a name": (WHOLE | {"dataset": ["h36m"]}, "the option -d is ('h36m',)"),
    "nothing for a list": (WHOLE | {"val_subjects": None}, "the option --val-subjects is None"),
    "no frames left": (WHOLE | {"downsample": 0}, "--downsample is 0; expected 1 or more"),
    "a rate beyond numbers": (WHOLE | {"learning_rate": 10**400}, "too large"),
    "a part that is no number": (WHOLE | {"subset": float("nan")}, "--subset is nan"),
}


@pytest.mark.parametrize("case", ODD_OPTIONS)
def test_odd_options_of_a_checkpoint_are_refused_before_any_work(tmp_path, capsys, case):
    options, named = ODD_OPTIONS[case]
    path = written_checkpoint(tmp_path / "a.bin", options=options)
    assert named in checkpoint_refusal(path)
    assert named in refusal(load_lifter, path)
    assert main_gt.main(["--evaluate", str(path), "-c", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@linux
def test_a_checkpoint_of_few_numbers_claims_no_wide_network(tmp_path):
    """Whose layers, some width squared, would take 100 GB each."""
    path = written_checkpoint(tmp_path / "a.bin")
    content = torch.load(path, weights_only=True)
    frames, wide = content["network"]["num_frames"], 160_000
    content["network"]["width"] = wide
    content["weights"] |= {"denoiser.temporal_position": torch.ones(1, frames, wide)}
    torch.save(content, path)
    assert f"temporal_blocks.0.mlp.fc1.weight is (16, 8), not ({2 * wide}, {wide})" in checkpoint_refusal(path)
    assert "mlp.fc1.weight" in refusal(load_lifter, path)


@linux
def test_blocks_that_share_their_numbers_are_refused(tmp_path):
    """A file of one block's numbers would take the memory of as many as it names."""
    path = written_checkpoint(tmp_path / "a.bin")
    content = torch.load(path, weights_only=True)
    content["network"]["depth"] = 900
    name, shared = "denoiser.temporal_blocks.{}.mlp.fc1.weight", torch.zeros(16, 8)
    content["weights"] |= {name.format(block): shared for block in range(900)}
    torch.save(content, path)
    assert "900 blocks share the numbers of 1" in checkpoint_refusal(path)


def test_text_of_a_checkpoint_that_no_terminal_should_see_is_refused(tmp_path):
    path = written_checkpoint(tmp_path / "a.bin", options=WHOLE | {"keypoints": "g\x1b[31mt"})
    assert "the option 'keypoints' is not one line of text" in checkpoint_refusal(path)


def test_checkpoints_larger_than_any_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_files, "_MOST_BYTES", 1000)
    assert "has 0 GiB, expected at most 0" in checkpoint_refusal(written_checkpoint(tmp_path / "a.bin"))


@linux
@pytest.mark.parametrize("reader", [lambda path: read_intrinsics(path, None), lambda path: read_results([path])])
def test_devices_and_deep_lists_are_no_json(tmp_path, reader):
    for name, make in (
        ("a.json", lambda path: path.symlink_to("/dev/zero")),
        ("b.json", lambda path: path.write_text("[" * 100_000)),
    ):
        make(tmp_path / name)
        assert name in refusal(reader, tmp_path / name)


def test_a_manifest_of_deep_lists_is_one_line(tmp_path):
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    tower = random_text_tower(config=TextTowerConfig(8, 1, 1))
    said = refusal(lambda folder: write_manifest(folder, Options(), torch.device("cpu"), tower, "", None), tmp_path)
    assert "lists inside lists without end; it is no manifest" in said


def test_a_lifter_with_another_skeleton_than_its_data_has_is_refused(tmp_path):
    path = written_checkpoint(tmp_path / "a.bin", options=WHOLE, skeleton=vars(MPI_INF_3DHP))
    assert "was trained on h36m, and has another skeleton than its 'h36m'" in refusal(load_lifter, path)


# --- .mat ---


def matrix(sizes, data, kind=9, numeric_class=6):
    """A v5 variable `x`."""

    def element(kind, content):
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    inside = element(6, struct.pack("<II", numeric_class, 0)) + element(5, np.array(sizes, "<i4").tobytes())
    return element(14, inside + element(1, b"x") + element(kind, data))


def mat_v5(variable):
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + variable


def packed(variable):
    content = zlib.compress(variable, 9)
    return struct.pack("<II", 15, len(content)) + content


def octave(text):
    return b"# Created by Octave 8\n# name: x\n" + text


def v73(path, **dataset):
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("x", **dataset)
    return path.read_bytes()


MAT_BOMBS = {
    "sizes": (lambda path: mat_v5(matrix((10**6, 10**6), bytes(8))), "has 1 numbers"),
    "zeros": (lambda path: mat_v5(packed(matrix((3 * 10**8, 1), bytes(3 * 10**8), 2))), "unpacks to more than 64 MB"),
    "cells": (lambda path: mat_v5(matrix((10**6, 10**6), b"", 14, 1)), "ends in the middle"),
    "Octave's sizes": (
        lambda path: octave(b"# type: matrix\n# rows: 1000000\n# columns: 1000000\n 1 2\n"),
        "ends in the middle",
    ),
    "Octave's cells": (
        lambda path: octave(b"# type: cell\n# rows: 1000000\n# columns: 1000000\n"), "ends in the middle"
    ),
    "HDF5, never written": (
        lambda path: v73(path, shape=(10**6, 10**6), dtype="f8", chunks=(9, 9)), "claims more than"
    ),
    "HDF5, bytes": (lambda path: v73(path, shape=(10**4, 10**4), dtype="i1", chunks=(9, 9)), "claims more than"),
    "HDF5, packed": (
        lambda path: v73(path, data=np.zeros(10**7), compression="gzip", chunks=(10**6,)), "claims more than"
    ),
    "HDF5, cells": (
        lambda path: v73(path, shape=(10**6, 10**3), dtype=h5py.ref_dtype, chunks=(9, 9)), "claims more than"
    ),
}  # fmt: skip


@linux
@pytest.mark.parametrize("case", MAT_BOMBS)
def test_what_a_mat_file_claims_costs_nothing(tmp_path, case):
    make, named = MAT_BOMBS[case]
    path = tmp_path / "a.mat"
    content = make(path)
    path.write_bytes(content)
    assert named in refusal(lambda path: read_mat(path, ["x"]), path)
    reader = TARGETS["mat"].__class__("x.mat", lambda path: read_mat(path, ["x"]), list)
    assert not check(reader, content, tmp_path)


# --- keypoints ---


def test_a_json_file_of_2_gb_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    with open(path, "wb") as file:
        file.write(b'"')
        file.truncate(2 << 30)  # takes no space on the disk
    assert "expected at most 512 MB" in refusal(read_detections, path)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no /dev/zero")
@pytest.mark.parametrize("name", ["a.json", "a.npz", "a.mat", "a.bin"])
def test_a_link_to_what_never_ends_is_refused(tmp_path, name):
    path = tmp_path / name
    path.symlink_to("/dev/zero")
    read = {
        ".json": read_detections,
        ".npz": read_detections,
        ".mat": lambda path: read_mat(path, ["x"]),
        ".bin": lambda path: find_checkpoint(path.name, path.parent),
    }[path.suffix]
    assert re.search(r"not a regular file|no regular file|not found", refusal(read, path))


# --- names ---


def usage_error(capsys, *argv):
    assert main_gt.main(list(argv)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("name", ["../gt", "/etc/gt", "a/b", ".."])
def test_the_name_of_the_2d_input_leads_nowhere(capsys, name):
    assert "no folder: --data-dir names it" in usage_error(capsys, "-d", "sample", "-k", name)


def test_a_checkpoint_name_stays_in_the_runs_folder(tmp_path, monkeypatch):
    run, other = tmp_path / "run", tmp_path / "other"
    for folder in (run, run / "earlier_1", other):
        folder.mkdir()
        (folder / "last.bin").write_bytes(b"")
    assert find_checkpoint("last.bin", run) == run / "last.bin"
    assert find_checkpoint("earlier_1/last.bin", run) == run / "earlier_1" / "last.bin"
    assert find_checkpoint(str(other / "last.bin"), run) == other / "last.bin"  # a path of the user's own
    assert "leads out of the run's folder" in refusal(lambda name: find_checkpoint(name, run), "../other/last.bin")
    (run / "link.bin").symlink_to(other / "last.bin")
    (run / "inside.bin").symlink_to("last.bin")
    assert "leads out of the run's folder" in refusal(lambda name: find_checkpoint(name, run), "link.bin")
    assert find_checkpoint("inside.bin", run) == run / "inside.bin"
    monkeypatch.chdir(run)
    assert find_checkpoint("../other/last.bin", Path("../run")) == Path("../other/last.bin")  # from where the user is
    (tmp_path / "alias").symlink_to(run)
    assert find_checkpoint("last.bin", tmp_path / "alias").is_file()


def test_writing_follows_no_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    (tmp_path / "a.txt").symlink_to(victim)
    (tmp_path / f".a.{os.getpid()}.part.txt").symlink_to(victim)
    write_text(tmp_path / "a.txt", "new")
    assert victim.read_text() == "as it was"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert not (tmp_path / "a.txt").is_symlink()
