"""Reading MATLAB's files, of version 5 (scipy) and of version 7.3 (HDF5), in one form.

Neither reader runs anything that a file holds: both return numbers, and MATLAB objects and functions as they lie there.
"""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from scipy.io import loadmat

from common.errors import DataError

Variable = np.ndarray | list[np.ndarray]
"""An array in MATLAB's order of axes, or the arrays of a cell array in MATLAB's (column) order."""


def read_mat(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Variable]:
    """Variables of a .mat file.

    Args:
        path: a file that MATLAB (or Octave, or scipy) saved.
        names: the variables to read.
        optional: more of them, left out of the result where the file has none.

    Raises:
        DataError: the file is absent, damaged or no MATLAB file, or it lacks one of `names`.
    """
    if not path.is_file():
        raise DataError(f"{path} not found; data/README.md says where to get it")
    read = _read_hdf5 if h5py.is_hdf5(path) else _read_version_5
    try:
        found, others = read(path, [*names, *optional])
    except Exception as error:  # a damaged file makes both libraries raise nearly anything
        reason = (str(error).splitlines() or [""])[0][:150]
        raise DataError(
            f"{path} is damaged or no MATLAB file ({type(error).__name__}: {reason}); get it again"
        ) from None
    missing = [name for name in names if name not in found]
    if missing:
        there = ", ".join(sorted(others)[:20]) or "nothing"
        raise DataError(f"{path} has no {', '.join(missing)}, only {there}; expected the file as downloaded")
    return found


def _read_version_5(path: Path, names: Sequence[str]) -> tuple[dict[str, Variable], list[str]]:
    content = loadmat(path, variable_names=list(names), appendmat=False)
    found = {name: content[name] for name in names if name in content}
    for name, value in found.items():
        if value.dtype == object:
            found[name] = list(value.ravel(order="F"))
    others = list(found)
    if len(found) < len(names):  # only then is it worth going through the file again
        others = [name for name in loadmat(path, appendmat=False) if not name.startswith("__")]
    return found, others


def _read_hdf5(path: Path, names: Sequence[str]) -> tuple[dict[str, Variable], list[str]]:
    found = {}
    with h5py.File(path, "r") as file:
        for name in names:
            variable = file.get(name)
            if isinstance(variable, h5py.Dataset):
                if h5py.check_ref_dtype(variable.dtype):
                    # MATLAB's axes are reversed in HDF5, so that this row-major order is MATLAB's column-major one.
                    found[name] = [np.asarray(file[reference]).T for reference in variable[()].ravel()]
                else:
                    found[name] = np.asarray(variable).T
        return found, [name for name in file if not name.startswith("#")]
