"""A trained network as one ONNX file: python -m common.export_onnx -c checkpoint/demo.

The file holds one step of the denoiser, its weights and its prompt: one action's, or one that says nothing. What it
answers is compared with PyTorch's answer; a file that differs is not left. predict.py --backend onnxruntime takes it.
"""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from common.arguments import ExportOptions, parse_export_options
from common.checkpoints import BEST, UNITS, find_checkpoint, is_of_release
from common.denoiser import Denoiser
from common.diffusion import CLAMP
from common.errors import DataError, UsageError, exit_code, memory_in_one_line
from common.files import replacing, sha256
from common.onnx_files import INPUTS, OUTPUT, OnnxDescription, require
from common.onnx_lifter import OnnxLifter, load_onnx_lifter
from common.text_prompts import Prompts
from common.trained_lifter import TrainedLifter, load_lifter

OPSET = 18
"""Of ONNX's operators: what PyTorch's exporter writes without a conversion, from 2.6 on."""
TOLERANCE = 1e-4
"""Metres, between PyTorch's answer and ONNX Runtime's."""


class OneStep(nn.Module):
    """The denoiser with one text for all windows."""

    def __init__(self, denoiser: Denoiser, prompts: Prompts):
        """
        Args:
            denoiser: in eval mode.
            prompts: of one window.
        """
        super().__init__()
        self.denoiser = denoiser
        self.text_proj: Tensor
        self.text_tokens: Tensor
        self.register_buffer("text_proj", prompts.text_proj.clone())
        self.register_buffer("text_tokens", prompts.text_tokens.clone())

    def forward(self, x_2d: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """See `Denoiser.forward`."""
        return self.denoiser(x_2d, x_t, t, Prompts(self.text_proj, self.text_tokens))


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, export, and turn a user's mistake into one line; returns the exit code."""

    def work() -> None:
        options = parse_export_options(argv, __doc__)
        with memory_in_one_line("network"):
            export(options)

    return exit_code(work)


def export(options: ExportOptions) -> None:
    """Write the ONNX file of the options' checkpoint, and compare what it answers.

    Raises:
        UsageError, DataError: one line; no file is left.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        require(name)
    path = find_checkpoint(options.evaluate or BEST, Path(options.checkpoint or "."))
    if is_of_release(path):
        raise UsageError(
            f"{path} holds the public release's variant of the network, whose windows know of each other; only the "
            "corrected network can be exported"
        )
    asked = {name: getattr(options, name) for name in ("text_encoder", "clip_weights") if name in options.given}
    lifter = load_lifter(path, options.verb, device="cpu", **asked)
    out = Path(options.out or path.with_suffix(".onnx"))
    print(f"network  {path}, epoch {lifter.epoch}: {lifter.dataset}, at most {lifter.num_frames} frames a window")
    print(f"prompt   {f'of the action {options.verb}' if options.verb else 'without an action'}")
    network = OneStep(lifter.model.denoiser, lifter.texts.prompts(options.verb, 1)).eval()
    with replacing(out) as part:
        part.write_bytes(onnx_bytes(network, description_of(lifter, path)))
        difference = largest_difference(network, load_onnx_lifter(part))
        if not difference <= TOLERANCE:
            raise DataError(
                f"ONNX Runtime's answer differs from PyTorch's by {difference:.2g} m; expected {TOLERANCE:g} at most: "
                f"{out} is not written; try other versions of torch, onnxscript and onnxruntime"
            )
    print(f"parity   {difference:.2g} m at most between ONNX Runtime and PyTorch, on random windows")
    print(f"wrote    {out}: {out.stat().st_size / 1e6:.1f} MB, opset {OPSET}")


def description_of(lifter: TrainedLifter, path: Path) -> OnnxDescription:
    """What the file says of a checkpoint's network."""
    checkpoint, diffusion = lifter.checkpoint, lifter.model.diffusion
    return OnnxDescription(
        dataset=lifter.dataset,
        keypoints=str(checkpoint.options.get("keypoints", "")),
        annotation=checkpoint.annotation,
        units=UNITS,
        skeleton=lifter.skeleton,
        num_frames=lifter.num_frames,
        fps=lifter.fps,
        width=checkpoint.network.width,
        schedule="cosine",
        num_timesteps=diffusion.num_timesteps,
        scale=diffusion.scale,
        verb=lifter.verb,
        text_tower=lifter.model.prompt_encoder.tower.source,
        checkpoint=path.name,
        checkpoint_sha256=sha256(path),
        epoch=checkpoint.epoch,
    )


def onnx_bytes(network: OneStep, description: OnnxDescription) -> bytes:
    """The network as an ONNX model, with its metadata: B, H and F free, weights within."""
    F = description.num_frames
    windows, hypotheses = Dim("B", max=1 << 30), Dim("H", max=1 << 30)  # torch 2.6 takes none without an end
    frames = Dim("F", max=F) if F > 1 else Dim.STATIC
    free = ({0: windows, 1: frames}, {0: windows, 1: hypotheses, 2: frames}, {0: windows})
    with _quiet():
        # Captured first: from a module, torch.onnx.export would make sizes fixed where it finds no other way.
        inputs = random_windows(description, (3, 2, F))
        captured = torch.export.export(network, inputs, dynamic_shapes=free, strict=False)
        program = torch.onnx.export(
            captured,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=list(OUTPUT),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):  # where in our code they come from
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")  # the sizes on the way, which follow from those of the inputs
    for value, letters in zip((*graph.input, *graph.output), ("BF", "BHF", "B", "BHF"), strict=True):
        for size, letter in zip(value.type.tensor_type.shape.dim, letters, strict=False):
            if letter != "F" or F > 1:
                size.dim_param = letter
    for name, value in description.as_metadata().items():
        model.metadata_props.add(key=name, value=value)
    return model.SerializeToString()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of its own parts."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


@torch.no_grad()
def largest_difference(network: OneStep, lifter: OnnxLifter) -> float:
    """Metres, between the answers to random windows of other sizes than the export saw."""
    F = lifter.num_frames
    sizes = ((1, 1, F), (2, 5, F), (5, 1, F), (4, 3, (F + 1) // 2))
    differences = []
    for size in sizes:
        inputs = random_windows(lifter.description, size)
        differences.append((network(*inputs) - lifter.run(*inputs)).abs().max())
    return torch.stack(differences).max().item()


def random_windows(description: OnnxDescription, size: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """x_2d (B, F, J, 2), x_t (B, H, F, J, 3) and t (B,) as the network is given them; the size is (B, H, F)."""
    B, H, F = size
    generator = torch.Generator().manual_seed(1)
    J, T = description.skeleton.num_joints, description.num_timesteps
    x_2d = 2 * torch.rand(B, F, J, 2, generator=generator) - 1
    x_t = torch.randn(B, H, F, J, 3, generator=generator).clamp(-CLAMP, CLAMP)
    return x_2d, x_t, torch.randint(T, (B,), generator=generator)


if __name__ == "__main__":
    sys.exit(main())
