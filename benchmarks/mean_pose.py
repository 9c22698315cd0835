"""The error of an answer that looks at nothing: the mean training pose. A trained network must be far below it.

python -m benchmarks.mean_pose -d h36m -k gt --data-dir DIR -f 9
"""

import sys

import numpy as np
import torch

from common.arguments import H36M_GT, Options, parse_options
from common.datasets import Dataset
from common.errors import exit_code
from common.evaluation import ErrorTable, average, counted_frames, row_kind
from common.metrics import joint_errors, procrustes_align
from common.runs import dataset_of
from common.windows import evaluation_starts, first_occurrences, window_frames


def mean_pose_errors(dataset: Dataset, num_frames: int) -> dict[str, ErrorTable]:
    """Action or sequence -> errors of the mean training pose on the test clips, frames counted as in an evaluation."""
    pose = torch.from_numpy(np.concatenate([clip.poses_3d for clip in dataset.train]).mean(axis=0))
    tables = {}
    for clip in dataset.test:
        starts = evaluation_starts(clip.num_frames, num_frames)
        frames = window_frames(clip.num_frames, num_frames, starts)
        table = tables.setdefault(clip.row, ErrorTable())
        frames = frames[counted_frames(clip, frames, first_occurrences(frames))]
        if not len(frames):
            continue
        target = torch.from_numpy(clip.poses_3d[frames])
        answer = pose.expand_as(target)
        for protocol, aligned in ((1, answer), (2, procrustes_align(answer, target))):
            table.add(protocol, {"P_Agg": joint_errors(aligned, target).mean(dim=0)[None]}, len(frames))
    return tables


def report(options: Options) -> None:
    dataset = dataset_of(options)
    found = average([table.errors for table in mean_pose_errors(dataset, options.num_frames).values()])
    row = row_kind(dataset.test)
    for protocol, errors in found.items():
        print(f"mean training pose, Protocol #{protocol}, {row}-wise average: {errors['P_Agg'][0]:.2f} mm")


def main(argv=None) -> int:
    return exit_code(lambda: report(parse_options(argv, H36M_GT, __doc__)))


if __name__ == "__main__":
    sys.exit(main())
