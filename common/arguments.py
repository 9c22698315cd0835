"""The options: a dataclass for the scripts that train, one for predict.py, presets, and the parser that fills them.

An option's name, default, flags and help stand together, once. The single-dash names are the field's.
"""

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from common.aggregation import DEPLOYED
from common.datasets import DATASETS
from common.errors import OneLineParser, UsageError
from common.solvers import DDIM, DPM_SOLVER


def _option(default, *flags: str, group: str, help: str, **argparse_words):
    words = {"flags": flags, "group": group, "help": help, **argparse_words}
    return field(default=default, metadata=words)


def _names(text: str) -> tuple[str, ...]:
    """ "S1,S5" -> ("S1", "S5")."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _prefixes(text: str) -> tuple[str, ...]:
    """Like `_names`; all actions, if "*" is one of them."""
    names = _names(text)
    return ("*",) if "*" in names else names


@dataclass(frozen=True)
class _Options:
    """What dataclasses of `_option`s share."""

    def flag(self, name: str) -> str:
        """The flag a user types for the option `name`."""
        return next(entry.metadata["flags"][0] for entry in fields(self) if entry.name == name)

    def as_data(self) -> dict:
        """All options as plain values, for JSON and checkpoints."""
        data = asdict(self)
        del data["given"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}


@dataclass(frozen=True)
class Options(_Options):
    """What a run was asked to do. `given` holds the names of those that the command line set itself."""

    dataset: str = _option("h36m", "-d", "--dataset", group="data", choices=tuple(DATASETS), help="which data")
    keypoints: str = _option(
        "cpn_ft_h36m_dbb",
        "-k",
        "--keypoints",
        group="data",
        metavar="NAME",
        help="2D input: data_2d_<dataset>_NAME.npz, data_{train,test}_3dhp_NAME.npz",
    )
    data_dir: str = _option("data", "--data-dir", group="data", metavar="DIR", help="folder of the npz files")
    subjects_train: tuple[str, ...] | None = _option(
        None, "-str", "--subjects-train", group="data", type=_names, metavar="LIST", help="training subjects, by commas"
    )
    subjects_test: tuple[str, ...] | None = _option(
        None, "-ste", "--subjects-test", group="data", type=_names, metavar="LIST", help="test subjects, by commas"
    )
    val_subjects: tuple[str, ...] = _option(
        (), "--val-subjects", group="data", type=_names, metavar="LIST",
        help="training subjects held out to choose the best epoch on (default: it is chosen on the test subjects, as "
        "the field does)",
    )  # fmt: skip
    actions: tuple[str, ...] = _option(
        ("*",),
        "-a",
        "--actions",
        group="data",
        type=_prefixes,
        metavar="LIST",
        help="prefixes of actions or sequences; * is all",
    )
    subset: float = _option(
        1.0, "--subset", group="data", type=float, metavar="PART", help="train on this part of every clip, 0..1"
    )
    downsample: int = _option(
        1, "--downsample", group="data", type=int, metavar="N", help="keep every Nth frame of every clip"
    )

    checkpoint: str | None = _option(
        None, "-c", "--checkpoint", group="run", metavar="DIR",
        help="folder for all a run writes (default: checkpoint/model_<dataset>_<keypoints>)",
    )  # fmt: skip
    checkpoint_frequency: int = _option(
        20, "-cf", "--checkpoint-frequency", group="run", type=int, metavar="N", help="keep epoch_N.bin every N epochs"
    )
    checkpoint_every: float = _option(
        15.0, "--checkpoint-every", group="run", type=float, metavar="MINUTES",
        help="save last.bin within an epoch after so long; 0: at its end alone",
    )  # fmt: skip
    resume: str | None = _option(
        None, "-r", "--resume", group="run", metavar="FILE",
        help="go on from this checkpoint (in -c, or a path); auto: from last.bin if -c has one, else begin",
    )  # fmt: skip
    evaluate: str | None = _option(
        None, "--evaluate", group="run", metavar="FILE", help="evaluate this checkpoint (in -c, or a path)"
    )
    log: str = _option("log/default", "-l", "--log", group="run", metavar="DIR", help="TensorBoard folder")
    nolog: bool = _option(False, "--nolog", group="run", action="store_true", help="no TensorBoard")
    seed: int = _option(1, "--seed", group="run", type=int, metavar="N", help="of weights, order and noise")
    deterministic: bool = _option(
        False, "--deterministic", group="run", action="store_true",
        help="same seed, same numbers on CUDA too, at some cost of speed; the CPU's are the same anyway",
    )  # fmt: skip
    debug: bool = _option(False, "--debug", group="run", action="store_true", help="one batch an epoch, one a clip")

    stride: int = _option(
        243, "-s", "--stride", group="training", type=int, metavar="N", help="-b // -s windows make a batch"
    )
    num_frames: int = _option(
        243, "-f", "--number-of-frames", group="training", type=int, metavar="F", help="frames of a window"
    )
    epochs: int = _option(100, "-e", "--epochs", group="training", type=int, metavar="N", help="how many in all")
    batch_size: int = _option(
        1024, "-b", "--batch-size", group="training", type=int, metavar="N",
        help="training: frames a batch (see -s); evaluation: windows at a time",
    )  # fmt: skip
    learning_rate: float = _option(
        6e-5, "-lr", "--learning-rate", group="training", type=float, metavar="RATE", help="learning rate"
    )
    lr_decay: float = _option(
        0.993, "-lrd", "--lr-decay", group="training", type=float, metavar="X", help="rate times X after each epoch"
    )
    warmup: int = _option(
        0, "--warmup", group="training", type=int, metavar="STEPS",
        help="the rate rises to -lr over so many steps: lets small networks start at a higher rate",
    )  # fmt: skip
    clip_grad: float = _option(
        0.0, "--clip-grad", group="training", type=float, metavar="NORM",
        help="scale a gradient down to this norm if it is longer; 0: leave it",
    )  # fmt: skip
    ema: float = _option(
        0.0, "--ema", group="training", type=float, metavar="DECAY",
        help="also keep a moving average of the weights, such as 0.9999, and validate it; 0: none",
    )  # fmt: skip
    augmentation: bool = _option(
        True, "-no-da", "--no-data-augmentation", group="training", action="store_false", help="no mirrored copies"
    )
    text_dropout: float = _option(
        0.1, "--text-dropout", group="training", type=float, metavar="P",
        help="chance that a window is not told its action, so that 'neutral' works too",
    )  # fmt: skip
    no_eval: bool = _option(
        False, "--no-eval", group="training", action="store_true", help="no validation: the last epoch is the best"
    )
    export_training_curves: bool = _option(
        False, "--export-training-curves", group="training", action="store_true",
        help="training_curves.png in -c after every epoch, not after the last one alone",
    )  # fmt: skip

    width: int = _option(512, "-cs", "--channels", group="network", type=int, metavar="C", help="width")
    depth: int = _option(8, "-dep", "--depth", group="network", type=int, metavar="N", help="layers")
    dropout: float = _option(
        0.0,
        "-drop",
        "--dropout",
        group="network",
        type=float,
        metavar="P",
        help="chance that a unit is left out in training",
    )
    text_encoder: str = _option(
        "clip", "--text-encoder", group="network", choices=("clip", "random"),
        help="CLIP ViT-B/32, or the same tower with random weights, for trying things out",
    )  # fmt: skip
    clip_weights: str | None = _option(
        None, "--clip-weights", group="network", metavar="FILE", help="CLIP's weights (default: cache, or download)"
    )
    compat_release: bool = _option(
        False, "--compat-release", group="network", action="store_true",
        help="compute what the public release computes, and read its checkpoints",
    )  # fmt: skip

    scale: float = _option(1.0, "-scale", group="diffusion", type=float, metavar="X", help="of poses against noise")
    timestep: int = _option(1000, "-timestep", group="diffusion", type=int, metavar="T", help="diffusion steps")
    sampling_timesteps: int = _option(
        1, "-sampling_timesteps", group="diffusion", type=int, metavar="K", help="sampling steps"
    )
    solver: str = _option(
        DDIM, "--solver", group="diffusion", choices=(DDIM, DPM_SOLVER), help="from one sampling step to the next"
    )
    eta: float = _option(1.0, "-eta", group="diffusion", type=float, metavar="X", help="noise of a DDIM step, 0 to 1")
    num_proposals: int = _option(1, "-num_proposals", group="diffusion", type=int, metavar="H", help="hypotheses")

    force: bool = _option(
        False, "--force", group="evaluation", action="store_true",
        help="evaluate although the checkpoint was trained on another skeleton, 2D input or unit",
    )  # fmt: skip
    p2: bool = _option(False, "--p2", group="evaluation", action="store_true", help="Protocol #2 (P-MPJPE) too")
    by_subject: bool = _option(False, "--by-subject", group="evaluation", action="store_true", help="a table a subject")
    action_prompt: str = _option(
        "given", "--action-prompt", group="evaluation", choices=("given", "neutral"),
        help="tell the network the action's true name (a label, as published numbers do), or not",
    )  # fmt: skip

    gpu: str = _option(
        "0", "-gpu", group="device", metavar="LIST",
        help="CUDA devices, such as 0,1: a process for each; the CPU where there is none",
    )  # fmt: skip
    device: str | None = _option(None, "--device", group="device", metavar="NAME", help="cpu, cuda, cuda:1")
    precision: str = _option("32", "--precision", group="device", choices=("32", "bf16-mixed"), help="of the network")
    processes: int = _option(
        1, "--processes", group="device", type=int, metavar="N",
        help="start so many on the CPU, which share the work; on GPUs there is one for each (-gpu)",
    )  # fmt: skip
    accumulate: int = _option(
        1, "--accumulate", group="device", type=int, metavar="N",
        help="a process computes its share of a batch in N pieces, one after another: less memory, the same step",
    )  # fmt: skip
    compile: bool = _option(False, "--compile", group="device", action="store_true", help="torch.compile the denoiser")
    chunk: int = _option(
        0, "--chunk", group="device", type=int, metavar="N",
        help="sample at most N sequences (hypotheses, and mirror images) at once; 0: what the device takes well",
    )  # fmt: skip

    render: bool = _option(
        False, "--render", group="rendering", action="store_true", help="draw the prediction of one clip (--evaluate)"
    )
    viz_subject: str | None = _option(
        None, "--viz-subject", group="rendering", metavar="S", help="whose clip (default: the first)"
    )
    viz_action: str | None = _option(
        None, "--viz-action", group="rendering", metavar="ACTION", help="which clip (default: the first)"
    )
    viz_camera: int = _option(0, "--viz-camera", group="rendering", type=int, metavar="N", help="its number, from 0")
    viz_video: str | None = _option(None, "--viz-video", group="rendering", metavar="FILE", help="drawn under the 2D")
    viz_skip: int = _option(0, "--viz-skip", group="rendering", type=int, metavar="N", help="leave out N frames first")
    viz_output: str | None = _option(
        None, "--viz-output", group="rendering", metavar="FILE", help=".png, .gif, .mp4 or .html"
    )
    viz_export: str | None = _option(
        None, "--viz-export", group="rendering", metavar="FILE", help="the poses of the whole clip as .npy"
    )
    viz_bitrate: int = _option(3000, "--viz-bitrate", group="rendering", type=int, metavar="N", help="of .mp4, kbit/s")
    viz_no_ground_truth: bool = _option(
        False, "--viz-no-ground-truth", group="rendering", action="store_true", help="leave the truth out"
    )
    viz_limit: int = _option(-1, "--viz-limit", group="rendering", type=int, metavar="N", help="first N frames only")
    viz_downsample: int = _option(
        1, "--viz-downsample", group="rendering", type=int, metavar="N", help="every Nth frame of a film"
    )
    viz_size: int = _option(5, "--viz-size", group="rendering", type=int, metavar="N", help="of a film's panel, inches")

    given: frozenset[str] = frozenset()

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.checkpoint or f"checkpoint/model_{self.dataset}_{self.keypoints}")

    @property
    def batch_windows(self) -> int:
        """Windows of a training batch."""
        return self.batch_size // self.stride

    @property
    def gpus(self) -> list[int]:
        """The devices of -gpu."""
        return [int(device) for device in self.gpu.split(",")]

    @property
    def trains(self) -> bool:
        return self.evaluate is None and not self.render

    def over(self, stored: dict) -> "Options":
        """These options where the command line gave them, and those of an earlier run (`as_data`) elsewhere.

        What belongs to a call and not to a run (where it writes, on which device, what it draws) stays as it is here.

        Raises:
            TypeError: a stored value is not of its option's type, or no text that could be a name.
            OverflowError: a number is too large.
        """
        kinds: dict[Any, Any] = {
            int: int, float: (int, float), bool: bool, str: str, str | None: (str, type(None)),
            tuple[str, ...]: tuple, tuple[str, ...] | None: (tuple, type(None)),
        }  # fmt: skip
        selection = {"no_eval", "val_subjects"}  # one of them, given, stands for both
        kept = self.given | {*_OF_CALL, "render", *_DRAWING} | (selection if selection & self.given else set())
        values: dict[str, Any] = {}
        for entry in fields(self):
            if entry.name in kept or entry.name not in stored:
                continue
            value = stored[entry.name]
            choices = entry.metadata.get("choices")
            if isinstance(value, list):
                value = tuple(value)
            texts = value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ()
            if (
                not isinstance(value, kinds[entry.type])
                or (choices and value not in choices)
                or not all(_can_be_a_name(text) for text in texts)
            ):
                raise TypeError(f"the option {self.flag(entry.name)} is {value!r:.80}")
            values[entry.name] = float(value) if entry.type is float else value
        return replace(self, **values)

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            UsageError: one line that names the option, its value and what to do.
        """
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value < least:
                raise UsageError(f"{self.flag(name)} is {value}; expected {least} or more")
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise UsageError(f"{self.flag(name)} is {getattr(self, name)}; expected {most} or less")
        for name in ("keypoints", "data_dir", "checkpoint", "log", "evaluate", "resume", "clip_weights"):
            if getattr(self, name) == "":
                raise UsageError(f"{self.flag(name)} is empty; give a name, or leave it out")
        if Path(self.keypoints).name != self.keypoints or self.keypoints == "..":
            raise UsageError(
                f"-k is '{self.keypoints}'; expected the NAME in the files' names, no folder: --data-dir names it"
            )
        if not all(device.strip().isdecimal() for device in self.gpu.split(",")):
            raise UsageError(f"-gpu is '{self.gpu}'; expected device numbers by commas, such as 0 or 0,1")
        if len(set(self.gpus)) < len(self.gpus):
            raise UsageError(f"-gpu is '{self.gpu}'; a device is named twice: each process takes its own")
        if self.nolog and "log" in self.given:
            raise UsageError("--nolog with -l: give one of them")
        if not self.actions or () in (self.subjects_train, self.subjects_test):
            raise UsageError("-a, -str and -ste take names by commas; one of them is empty")
        if "val_subjects" in self.given and not self.val_subjects:
            raise UsageError("--val-subjects takes names by commas; it is empty")
        if self.viz_limit == 0 or self.viz_limit < -1:
            raise UsageError(f"--viz-limit is {self.viz_limit}; expected 1 or more, or -1 for all frames")
        if self.seed >= 2**32:
            raise UsageError(f"--seed is {self.seed}; expected less than {2**32}")
        for name in ("subset", "lr_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{self.flag(name)} is {getattr(self, name)}; expected more than 0 and at most 1")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"{self.flag('dropout')} is {self.dropout}; expected at least 0 and less than 1")
        if not 0 <= self.text_dropout <= 1:
            raise UsageError(f"--text-dropout is {self.text_dropout}; expected 0 (always told) to 1 (never told)")
        if not 0 <= self.ema < 1:
            raise UsageError(f"--ema is {self.ema}; expected 0 (no average) or more, and less than 1, such as 0.9999")
        for name in ("clip_grad", "checkpoint_every"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{self.flag(name)} is {getattr(self, name)}; expected a finite number, 0 or more")
        for name in ("learning_rate", "scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{self.flag(name)} is {getattr(self, name)}; expected a finite number above 0")
        if not 0 <= self.eta <= 1:
            raise UsageError(f"-eta is {self.eta}; expected 0 (no noise) to 1 (the noise of DDPM)")
        if self.solver != DDIM and "eta" in self.given:
            raise UsageError(f"-eta with --solver {self.solver}: only {DDIM} adds noise; leave one of them out")
        if self.resume and self.evaluate:
            raise UsageError("--resume with --evaluate: give one of them, to train on or to evaluate")
        if self.render and not self.evaluate:
            raise UsageError("--render draws a trained network's prediction: name its checkpoint with --evaluate")
        if self.render and not (self.viz_output or self.viz_export):
            raise UsageError("--render without --viz-output or --viz-export: name the file to write")
        if self.trains and self.batch_windows < 1:
            raise UsageError(
                f"-b {self.batch_size} is smaller than -s {self.stride}: no window fits a batch; give -b {self.stride} "
                "or more"
            )
        if self.trains and self.accumulate > self.batch_windows:
            raise UsageError(
                f"--accumulate is {self.accumulate}; a batch has {self.batch_windows} windows (-b {self.batch_size} // "
                f"-s {self.stride}): give at most {self.batch_windows}"
            )
        if self.sampling_timesteps > self.timestep:
            raise UsageError(
                f"-sampling_timesteps {self.sampling_timesteps} is more than -timestep {self.timestep}; "
                f"give at most {self.timestep}"
            )
        measures = not self.render and DATASETS[self.dataset].has_truth
        for names, used, reason in (
            (_DRAWING, self.render, "--render is not given"),
            (_TRAINING_ALONE, self.trains, "nothing is trained"),
            (("p2", "by_subject"), measures, "no error is measured"),
            (("force",), not self.trains, "no checkpoint is evaluated"),
        ):
            idle = [self.flag(name) for name in names if name in self.given]
            if idle and not used:
                raise UsageError(f"{', '.join(idle)} would do nothing here: {reason}; leave out what is not meant")
        if self.no_eval and self.val_subjects:
            raise UsageError("--no-eval with --val-subjects: give one of them, there is nothing to validate on")
        if self.clip_weights and self.text_encoder == "random":
            raise UsageError("--clip-weights with --text-encoder random: give one of them")


def _can_be_a_name(text: object) -> bool:
    """Whether it is text that a file could be called."""
    try:
        return isinstance(text, str) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


_LEAST = {
    "downsample": 1, "checkpoint_frequency": 1, "stride": 1, "num_frames": 1, "epochs": 1, "batch_size": 1,
    "warmup": 0, "timestep": 1, "sampling_timesteps": 1, "num_proposals": 1, "seed": 0, "viz_camera": 0, "viz_skip": 0,
    "chunk": 0, "viz_downsample": 1, "viz_bitrate": 1, "viz_size": 1, "processes": 1, "accumulate": 1,
}  # fmt: skip

_MOST = {
    entry.name: {"viz_size": 40, "viz_bitrate": 10**6, "processes": 1024}.get(entry.name, 2**53)
    for entry in fields(Options)
    if entry.type is int
}
_DRAWING = tuple(
    entry.name for entry in fields(Options) if entry.metadata.get("group") == "rendering" and entry.name != "render"
)
_OF_CALL = (
    "given", "checkpoint", "checkpoint_every", "resume", "evaluate", "debug", "gpu", "device", "processes", "compile",
    "force", "chunk",
)  # fmt: skip
_TRAINING_ALONE = (
    "val_subjects", "subset", "no_eval", "export_training_curves", "warmup", "clip_grad", "ema", "checkpoint_frequency",
    "checkpoint_every", "augmentation", "text_dropout", "log", "accumulate",
)  # fmt: skip
"""Options that a user may expect to change an evaluation; the others of training stand in the field's command lines."""

H36M_CPN = Options()
H36M_GT = replace(H36M_CPN, keypoints="gt")
MPI_INF_3DHP = replace(H36M_CPN, dataset="3dhp", keypoints="ori")

PRESETS = {
    # A small network on the motion that ships: trains, evaluates and draws on a laptop's CPU in minutes. It is told the
    # action neither in training nor in the evaluation: a thousand frames teach no language.
    "demo": {
        "dataset": "sample", "keypoints": "gt", "checkpoint": "checkpoint/demo", "nolog": True,
        "num_frames": 9, "stride": 9, "batch_size": 9 * 32, "width": 64, "depth": 3,
        "epochs": 20, "learning_rate": 2e-3, "warmup": 100, "lr_decay": 0.88, "text_dropout": 1.0,
        "action_prompt": "neutral", "num_proposals": 5, "sampling_timesteps": 5, "p2": True,
        "export_training_curves": True,
    },
}  # fmt: skip


def parse_options(argv: Sequence[str] | None, defaults: Options, description: str) -> Options:
    """Fill the options from the command line, over a `--preset`, over the script's own defaults.

    Args:
        argv: the arguments; None takes those of the process.
        defaults: the script's.
        description: what the script is for, for --help.

    Raises:
        UsageError: one line.
    """
    parser = option_parser(defaults, description)
    parser.add_argument("--preset", choices=tuple(PRESETS), help="a named set of options; others given go over it")
    given = vars(parser.parse_args(argv))
    preset = PRESETS.get(given.pop("preset", None), {})
    options = replace(defaults, **{**preset, **given}, given=frozenset(given))
    options.check()
    return options


def option_parser(defaults, description: str) -> OneLineParser:
    """A parser for the fields of `defaults`, a dataclass of `_option`s, that gives those of the command line alone."""
    parser = OneLineParser(description=description, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    groups: dict[str, argparse._ArgumentGroup] = {}
    for entry in fields(defaults):
        if not entry.metadata:
            continue
        words = dict(entry.metadata)
        flags, group = words.pop("flags"), words.pop("group")
        default = getattr(defaults, entry.name)
        if default not in (None, (), "") and not isinstance(default, bool):
            shown = ",".join(default) if isinstance(default, tuple) else default
            words["help"] = f"{words['help']} (default: {shown})".strip().replace("%", "%%")
        if flags[0].startswith("-"):
            words["dest"] = entry.name
        groups.setdefault(group, parser.add_argument_group(group)).add_argument(*flags, **words)
    return parser


def _as_in(name: str, **changed: object):
    """An option that predict.py has with the other scripts, but for what is changed."""
    entry = next(entry for entry in fields(Options) if entry.name == name)
    default = changed.pop("default", entry.default)
    return field(default=default, metadata={**entry.metadata, **changed})


TORCH, ONNX_RUNTIME = "torch", "onnxruntime"
_OF_TORCH = ("dataset", "text_encoder", "clip_weights", "compat_release", "gpu", "device", "precision", "compile")
"""Options of predict.py that only a checkpoint knows."""


@dataclass(frozen=True)
class PredictOptions(_Options):
    """What predict.py was asked to do."""

    input: str = _option(
        "", "input", group="input", metavar="INPUT",
        help="a video, a folder of images, or keypoints: a detector's file or folder, your own npz, a data_2d file",
    )  # fmt: skip
    fps: float | None = _option(
        None, "--fps", group="input", type=float, metavar="X",
        help="frames a second (default: the video's or the file's; else those of the training data)",
    )  # fmt: skip
    width: int | None = _option(
        None, "--width", group="input", type=int, metavar="N", help="of the image that keypoints are of, pixels"
    )
    height: int | None = _option(None, "--height", group="input", type=int, metavar="N", help="the same")
    video: str | None = _option(
        None, "--video", group="input", metavar="FILE",
        help="that the keypoints are of: gives size and fps, and is drawn under the 2D",
    )  # fmt: skip
    layout: str | None = _option(
        None, "--layout", group="input", metavar="NAME", help="the joints' (default: the file's, or by joint count)"
    )
    first_frame: int | None = _option(
        None, "--first-frame", group="input", type=int, metavar="N",
        help="the video's first frame, in the file's count (default: 0 of AlphaPose's 0.jpg, 1.jpg, ...; else the "
        "file's smallest number)",
    )  # fmt: skip
    person: tuple[str, ...] = _option(
        (), "--person", group="input", type=_names, metavar="LIST",
        help="whose tracks, by commas; 3+8 is one person in two tracks (default: everybody)",
    )  # fmt: skip
    min_confidence: float = _option(
        0.1, "--min-confidence", group="input", type=float, metavar="X", help="joints below it are filled in over time"
    )
    subject: str | None = _option(
        None, "--subject", group="input", metavar="S", help="of a data_2d file (default: its first)"
    )
    action: str | None = _option(
        None, "--action", group="input", metavar="ACTION", help="of a data_2d file (default: the subject's first)"
    )
    view: int = _option(0, "--view", group="input", type=int, metavar="N", help="of a data_2d file, from 0")

    detector_mode: str = _option(
        "balanced", "--detector-mode", group="detector", choices=("lightweight", "balanced", "performance"),
        help="which of rtmlib's models look at a video or images",
    )  # fmt: skip
    detector: str | None = _option(
        None, "--detector", group="detector", metavar="FILE", help="a YOLOX as ONNX, instead of rtmlib's download"
    )
    pose_model: str | None = _option(
        None, "--pose-model", group="detector", metavar="FILE", help="an RTMPose for Halpe-26 as ONNX, the same"
    )

    intrinsics: str | None = _option(
        None, "--intrinsics", group="camera", metavar="FILE",
        help="JSON with fx, fy, cx, cy or camera_matrix, pixels, and perhaps distortion (OpenCV's)",
    )  # fmt: skip
    fov: float | None = _option(
        None, "--fov", group="camera", type=float, metavar="DEGREES",
        help="across the image's longer side (default: a data_2d file's camera; else 55, a guess)",
    )  # fmt: skip

    checkpoint: str | None = _as_in("checkpoint", group="network", help="the folder of the run whose network lifts")
    evaluate: str | None = _as_in(
        "evaluate", group="network", help="its checkpoint or ONNX file, in -c or a path (default: its best epoch)"
    )
    backend: str = _option(
        TORCH, "--backend", group="network", choices=(TORCH, ONNX_RUNTIME),
        help="what computes the network: PyTorch a checkpoint, ONNX Runtime what common.export_onnx made of one",
    )  # fmt: skip
    dataset: str | None = _as_in(
        "dataset", default=None, group="network", help="that it was trained on (default: what the checkpoint says)"
    )
    verb: str = _option(
        "", "--verb", group="network", metavar="WORD",
        help="tell the network the action, as the training data calls it, such as Walking (default: it is not told)",
    )  # fmt: skip
    text_encoder: str | None = _as_in(
        "text_encoder", default=None, help="CLIP ViT-B/32 or random weights (default: the checkpoint's)"
    )
    clip_weights: str | None = _as_in("clip_weights")
    compat_release: bool = _as_in("compat_release")

    num_proposals: int = _as_in("num_proposals", default=10, group="sampling")
    sampling_timesteps: int = _as_in("sampling_timesteps", default=2, group="sampling")
    solver: str = _as_in("solver", group="sampling")
    eta: float = _as_in("eta", group="sampling")
    aggregation: str = _option(
        "R_Agg", "--aggregation", group="sampling", choices=DEPLOYED, help="hypotheses to one answer"
    )
    num_frames: int | None = _as_in(
        "num_frames", default=None, group="sampling", help="frames of a window (default: the network's)"
    )
    overlap: int | None = _option(
        None, "--overlap", group="sampling", type=int, metavar="N",
        help="frames that neighbouring windows share (default: half a window)",
    )  # fmt: skip
    seed: int = _as_in("seed", group="sampling", help="of the noise")

    gpu: str = _as_in("gpu")
    device: str | None = _as_in("device")
    precision: str = _as_in("precision")
    compile: bool = _as_in("compile")

    out: str | None = _option(
        None, "--out", group="output", metavar="DIR", help="where to write (default: predictions/<input's name>)"
    )
    csv: bool = _option(False, "--csv", group="output", action="store_true", help="the poses as CSV too")
    bvh: bool = _option(
        False, "--bvh", group="output", action="store_true", help="as BVH too (needs pybvh: requirements-predict.txt)"
    )
    render: str | None = _option(
        None, "--render", group="output", choices=("mp4", "gif"), help="a film too, beside the contact sheet"
    )
    page: bool = _option(
        False, "--page", group="output", action="store_true", help="a page to turn, play and look at (.html) too"
    )
    viz_skip: int = _as_in("viz_skip")
    viz_limit: int = _as_in("viz_limit")
    viz_downsample: int = _as_in("viz_downsample")
    viz_size: int = _as_in("viz_size")

    given: frozenset[str] = frozenset()

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return Path(self.out or Path("predictions") / (Path(self.input).resolve().stem or "input"))

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            UsageError: one line.
        """
        for name, value in vars(self).items():
            if value in ("", ()) and name in self.given and name != "verb":
                raise UsageError(f"{self.flag(name)} is empty; give a name, or leave it out")
            least = {"width": 1, "height": 1, "overlap": 0, "first_frame": 0, "view": 0, **_LEAST}.get(name)
            if least is not None and value is not None and not least <= value <= _MOST.get(name, 2**31):
                expected = f"{least} or more" if value < least else f"{_MOST.get(name, 2**31)} or less"
                raise UsageError(f"{self.flag(name)} is {value}; expected {expected}")
        if self.viz_limit == 0 or self.viz_limit < -1:
            raise UsageError(f"--viz-limit is {self.viz_limit}; expected 1 or more, or -1 for all frames")
        if self.fps is not None and not 0 < self.fps <= MOST_FPS:
            raise UsageError(f"--fps is {self.fps:g}; expected frames a second, above 0 and at most {MOST_FPS}")
        if self.fov is not None and not 1 <= self.fov <= 170:
            raise UsageError(f"--fov is {self.fov:g}; expected 1 to 170 degrees across the image's longer side")
        if not 0 <= self.min_confidence < math.inf:
            raise UsageError(f"--min-confidence is {self.min_confidence:g}; expected 0 or more")
        if self.fov is not None and self.intrinsics:
            raise UsageError("--fov with --intrinsics: give one of them")
        if (self.width is None) != (self.height is None):
            raise UsageError("--width and --height go together; give both, in pixels")
        if self.width is not None and self.video:
            raise UsageError("--width and --height with --video, which has its own size: give one of them")
        if self.checkpoint is None and self.evaluate is None:
            raise UsageError("whose network? Give -c, a run's folder, or --evaluate, a checkpoint")
        idle = [self.flag(name) for name in _OF_TORCH if name in self.given]
        if idle and self.backend == ONNX_RUNTIME:
            raise UsageError(
                f"{', '.join(idle)} would do nothing here: --backend {ONNX_RUNTIME} takes an ONNX file, whose text is "
                "within, and the CPU; leave out what is not meant"
            )
        idle = [
            self.flag(name) for name in ("viz_skip", "viz_limit", "viz_downsample", "viz_size") if name in self.given
        ]
        if idle and self.render is None and not (self.page and idle != ["--viz-size"]):
            raise UsageError(
                f"{', '.join(idle)} would do nothing here: --render is not given; leave out what is not meant"
            )


def _parsed(defaults, argv: Sequence[str] | None, description: str):
    """The defaults, a dataclass of `_option`s, with what the command line gives, checked."""
    given = vars(option_parser(defaults, description).parse_args(argv))
    options = replace(defaults, **given, given=frozenset(given))
    options.check()
    return options


MOST_FPS = 10_000
"""Frames a second: a faster video is a mistake."""


def parse_predict_options(argv: Sequence[str] | None, description: str) -> PredictOptions:
    """Fill predict.py's options from the command line.

    Raises:
        UsageError: one line.
    """
    return _parsed(PredictOptions(), argv, description)


@dataclass(frozen=True)
class ExportOptions(_Options):
    """What common.export_onnx was asked to do."""

    checkpoint: str | None = _as_in("checkpoint", group="network", help="the folder of the run whose network it is")
    evaluate: str | None = _as_in(
        "evaluate", group="network", help="its checkpoint, in -c or a path (default: its best epoch)"
    )
    verb: str = _option(
        "", "--verb", group="network", metavar="WORD",
        help="the action of the prompt in the file, as the training data calls it, such as Walking (default: none is "
        "told)",
    )  # fmt: skip
    text_encoder: str | None = _as_in(
        "text_encoder", default=None, help="CLIP ViT-B/32 or random weights (default: the checkpoint's)"
    )
    clip_weights: str | None = _as_in("clip_weights")
    out: str | None = _option(
        None, "--out", group="output", metavar="FILE", help="the ONNX file (default: the checkpoint's name with .onnx)"
    )

    given: frozenset[str] = frozenset()

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            UsageError: one line.
        """
        for name in sorted(self.given - {"verb"}):
            if getattr(self, name) == "":
                raise UsageError(f"{self.flag(name)} is empty; give a name, or leave it out")
        if self.checkpoint is None and self.evaluate is None:
            raise UsageError("whose network? Give -c, a run's folder, or --evaluate, a checkpoint")
        if self.clip_weights and self.text_encoder == "random":
            raise UsageError("--clip-weights with --text-encoder random: give one of them")
        if self.out is not None and Path(self.out).suffix != ".onnx":
            raise UsageError(f"--out is {self.out}; expected a name that ends in .onnx")


def parse_export_options(argv: Sequence[str] | None, description: str) -> ExportOptions:
    """Fill common.export_onnx's options from the command line.

    Raises:
        UsageError: one line.
    """
    return _parsed(ExportOptions(), argv, description)
