"""What a graphics card does with the network: training steps, their share of the card's rate, sampling, the recipe.

    python -m benchmarks.gpu [--out gpu.json] [--device cpu --small]

Float32 weights, products in bfloat16 (`--precision bf16-mixed`), fused AdamW; eager, then compiled. Model FLOPs
utilisation (MFU) is `training_flops` over the step's time and over the rate of a bfloat16 8192x8192x8192 matmul.
`--device cpu --small` is the dry run: a small network, to see that it runs; its numbers mean nothing. Most of its three
minutes goes into compiling; with `--no-compile` it takes seconds.
"""

import argparse
import itertools
import statistics
import sys
from dataclasses import dataclass

import torch

from benchmarks.__main__ import machine
from benchmarks.turns_worker import seconds
from benchmarks.works import ACTIONS, SMALL_NOTE, J, Size, Work, add_device, evaluation, training_step
from common.errors import OneLineParser, UsageError, exit_code
from common.files import write_json
from common.model import DSGDiffu

DRY_RUN = "--device cpu --small"
RECIPE_FRAMES, RECIPE_EPOCHS = 1_559_752, 100
"""Human3.6M's five training subjects from four cameras; each frame also mirrored."""
BATCHES = (4, 16, 64)
SAMPLINGS = ((20, 10), (5, 5))
"""(H, K), mirrored."""


@dataclass(frozen=True)
class Setting:
    frames: int
    batches: tuple[int, ...]
    samplings: tuple[tuple[int, int], ...]
    windows: int
    """Of an evaluation."""
    matmul: int
    repeats: int


FULL = Setting(243, BATCHES, SAMPLINGS, windows=8, matmul=8192, repeats=10)
SMALL = Setting(3, (1, 2), ((2, 2),), windows=2, matmul=64, repeats=2)


def denoiser_flops(model: DSGDiffu, num_frames: int) -> float:
    """FLOPs of one pass of one window, forward: 2 a weight and token, and 4 D for each pair of an attention."""
    denoiser = model.denoiser
    D, depth, tokens = denoiser.config.width, denoiser.config.depth, num_frames * J
    of_window = [denoiser.time_mlp, denoiser.prompt_attention.stylization.scale_shift]
    of_text = [denoiser.prompt_attention.key, denoiser.prompt_attention.value]
    matrices = sum(weight.numel() for weight in denoiser.parameters() if weight.ndim == 2)
    in_path = matrices - sum(
        weight.numel() for part in (*of_window, *of_text) for weight in part.parameters() if weight.ndim == 2
    )
    text = 77 * sum(part.weight.numel() for part in of_text)
    pairs = tokens * ((depth - 1) * J + depth * num_frames + 77)
    return 2 * in_path * tokens + 2 * text + 4 * D * pairs


def training_flops(model: DSGDiffu, num_frames: int, num_windows: int) -> float:
    """FLOPs of a step: three forward passes of the denoiser and of each distinct text's encoder, two of the tower.

    The frozen tower needs no gradients of its weights. Work that is left out or repeated does not count.
    """
    encoder = model.prompt_encoder
    of_tower = sum(weight.numel() for weight in encoder.tower.transformer.parameters() if weight.ndim == 2)
    of_encoder = sum(weight.numel() for weight in encoder.encoder.parameters() if weight.ndim == 2)
    texts = min(num_windows, len(ACTIONS))
    text = texts * (2 * 2 * of_tower * (77 - encoder.start_length) + 3 * 2 * of_encoder * 77)
    return 3 * denoiser_flops(model, num_frames) * num_windows + text


def median_seconds(work: Work, device: torch.device, repeats: int) -> float:
    for _ in range(3):
        work()
    return statistics.median(seconds(work, device) for _ in range(repeats))


def matmul_rate(size: Size, n: int, repeats: int) -> float:
    """FLOP/s of a bfloat16 matmul."""
    a, b = (torch.randn(n, n, device=size.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / median_seconds(lambda: a @ b, size.device, repeats)


def peak_gib(device: torch.device) -> float | None:
    """GiB of the card's memory at most since the last call; None without a card."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def training(size: Size, setting: Setting, rate: float, compiled: bool) -> list[dict]:
    rows = []
    for batch in setting.batches:
        peak_gib(size.device)
        model = size.model(setting.frames).train()
        if compiled:
            model.compile(mode="reduce-overhead" if batch == setting.batches[0] else None)
        spent = median_seconds(training_step(size, setting.frames, batch, model), size.device, setting.repeats)
        steps = 2 * RECIPE_FRAMES / setting.frames / batch * RECIPE_EPOCHS
        rows.append(
            {
                "windows": batch,
                "compiled": compiled,
                "milliseconds": spent * 1e3,
                "mfu": training_flops(model, setting.frames, batch) / spent / rate,
                "peak_gib": peak_gib(size.device),
                "recipe_hours": steps * spent / 3600,
            }
        )
    return rows


def sampling(size: Size, setting: Setting, compiled: bool) -> list[dict]:
    rows = []
    for num_hypotheses, num_steps in setting.samplings:
        peak_gib(size.device)
        model = size.model(setting.frames).eval()
        if compiled:
            model.compile()
        work = evaluation(size, setting.frames, setting.windows, num_hypotheses, num_steps, model)
        spent = median_seconds(work, size.device, max(2, setting.repeats // 3))
        rows.append(
            {
                "hypotheses": num_hypotheses,
                "steps": num_steps,
                "compiled": compiled,
                "windows_per_second": setting.windows / spent,
                "frames_per_second": setting.windows * setting.frames / spent,
                "peak_gib": peak_gib(size.device),
            }
        )
    return rows


def table(rows: list[dict]) -> str:
    """A Markdown table; "-" where nothing was measured."""

    def cell(value: object) -> str:
        return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [list(rows[0]), ["---"] * len(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def run(argv) -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_device(parser, "cuda", "cuda, cuda:1, or cpu with --small", instead=DRY_RUN)
    parser.add_argument("--small", action="store_true", help="a small network, to see that it runs")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--out", metavar="FILE", help="where to write the JSON")
    options = parser.parse_args(argv)
    if options.device.type == "cpu" and not options.small:
        raise UsageError(f"the whole measurement is for a graphics card; the dry run is {DRY_RUN}")
    size = Size(options.device, options.small, autocast_dtype=torch.bfloat16)
    setting = SMALL if options.small else FULL
    ways = (False,) if options.no_compile else (False, True)
    rate = matmul_rate(size, setting.matmul, setting.repeats)
    found = {
        "machine": machine(size),
        "matmul_tflops": rate / 1e12,
        "training": list(itertools.chain(*(training(size, setting, rate, compiled) for compiled in ways))),
        "sampling": list(itertools.chain(*(sampling(size, setting, compiled) for compiled in ways))),
    }
    print(f"{found['machine']['device']}, torch {found['machine']['torch']}: {rate / 1e12:.3g} TFLOP/s in bfloat16\n")
    print(f"{table(found['training'])}\n\n{table(found['sampling'])}")
    if options.small:
        print(f"\n{SMALL_NOTE}")
    if options.out:
        write_json(options.out, found)
        print(f"wrote {options.out}")


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
