"""Our dense graph attention against torch-geometric's GATConv with the same weights, on the frames of some windows.

    python -m benchmarks.graph_attention

Prints the medians of interleaved repeats, forward and forward with backward, and their ratio.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

from common.errors import OneLineParser, exit_code
from common.layers import GraphAttention
from common.skeleton import H36M
from common.skeleton_graph import adjacency_matrix


def shared_weights(width: int) -> tuple[GraphAttention, torch.nn.Module]:
    """Both layers; they compute the same function."""
    from torch_geometric.nn import GATConv

    dense, sparse = GraphAttention(width, adjacency_matrix(H36M)), GATConv(width, width, negative_slope=0.2)
    sparse.load_state_dict(dense.state_dict())
    return dense, sparse


def edges_of(num_frames: int) -> torch.Tensor:
    """The skeleton's edges repeated for every frame, (2, edges); GATConv adds the self-loops."""
    child, parent = torch.tensor(H36M.bones).T
    bones = torch.stack([torch.cat([child, parent]), torch.cat([parent, child])])
    return (bones[:, None] + H36M.num_joints * torch.arange(num_frames)[:, None]).flatten(1)


def interleaved_medians(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each piece of work, in turn, after a warm-up."""
    seconds = {name: [] for name in works}
    for repeat in range(repeats + 2):
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            if repeat >= 2:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compare(argv) -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512, help="channels (default: 512)")
    parser.add_argument("--frames", type=int, default=108, help="frames in a batch (default: 108, 4 windows of 27)")
    parser.add_argument("--repeats", type=int, default=15, help="timed repeats (default: 15)")
    options = parser.parse_args(argv)
    torch.manual_seed(1)
    dense, sparse = shared_weights(options.width)
    edges = edges_of(options.frames)
    x = torch.randn(options.frames, H36M.num_joints, options.width, requires_grad=True)

    def run_dense() -> torch.Tensor:
        return dense(x)

    def run_sparse() -> torch.Tensor:
        return sparse(x.flatten(0, 1), edges).reshape(x.shape)

    difference = (run_dense() - run_sparse()).abs().max().item()
    print(f"{options.frames} frames, width {options.width}; largest difference {difference:.1e}")
    forward = torch.no_grad()(run_dense), torch.no_grad()(run_sparse)
    backward = (lambda: run_dense().sum().backward()), (lambda: run_sparse().sum().backward())
    for title, (ours, theirs) in (("forward", forward), ("forward and backward", backward)):
        found = interleaved_medians({"dense": ours, "GATConv": theirs}, options.repeats)
        print(
            f"{title}: dense {1000 * found['dense']:.1f} ms, GATConv {1000 * found['GATConv']:.1f} ms, "
            f"ratio {found['GATConv'] / found['dense']:.2f}"
        )


def main(argv=None) -> int:
    return exit_code(lambda: compare(argv))


if __name__ == "__main__":
    sys.exit(main())
