"""The answers as MATLAB files, for MPI-INF-3DHP's own scorer.

inference_data_<setting>.mat, MATLAB 5 format: sequence -> (3, J, N, K) float64, mm, relative to the root; frame j is
the sequence's frame j. The file says K even where it is 1. scipy.io.loadmat keeps that axis; MATLAB and GNU Octave show
(3, J, N), as they do for every array whose last sizes are 1: there `size(x, 4)` is 1 and `x(:, :, :, 1)` is the pose,
so a script that asks for these works for any K.
"""

from collections.abc import Sequence
from pathlib import Path

from scipy.io import savemat

from common.answers import SequenceAnswers
from common.files import replacing


def write_mat_files(folder: Path, answers: Sequence[SequenceAnswers]) -> list[Path]:
    """One file a setting, each written whole or not at all.

    Args:
        folder: where to.
        answers: of whole sequences, each with the same settings.

    Raises:
        DataError: a file cannot be written.
    """
    paths = []
    for setting in answers[0].poses:
        path = folder / f"inference_data_{setting}.mat"
        sequences = {
            of_sequence.clip.row: of_sequence.millimetres(setting).transpose(3, 2, 1, 0) for of_sequence in answers
        }
        with replacing(path) as part:
            savemat(part, sequences)
        paths.append(path)
    return paths
