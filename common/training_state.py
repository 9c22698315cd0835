"""What a training run is made of between two steps: all that last.bin keeps, so that it goes on as if nothing had been.

No state of a random generator is among it. What a step draws depends on the seed, the epoch and the batch's number and,
where there is dropout, on the process's number: every process, however many there are, knows it without a file.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.swa_utils import get_ema_multi_avg_fn

from common import processes
from common.arguments import Options
from common.checkpoints import BEST, LAST, Checkpoint, holds_real_numbers
from common.errors import DataError
from common.model import DSGDiffu
from common.windows import TrainingWindows

WEIGHT_DECAY = 0.1


class Best(NamedTuple):
    """The best epoch so far."""

    error: float = math.inf
    """mm on the validation clips; infinite where none was measured."""
    epoch: int = 0


@dataclass
class EpochProgress:
    """How far an epoch is, and the sums that its log line is made of.

    The sums are float64 scalars on the model's device: a step adds to them and never waits for their values.
    """

    device: torch.device
    batches: int = 0
    """Those that are done, steps left out included: where the next one is taken from."""
    seconds: float = 0.0
    """Spent on it before it was last gone on with."""
    num_windows: int = 0
    """Of the whole epoch; with these three the batches' order is another."""
    batch_windows: int = 0
    seed: int = 0
    loss: Tensor = field(init=False)
    """Metres, times windows."""
    windows: Tensor = field(init=False)
    """Windows that were trained on."""
    norm: Tensor = field(init=False)
    """The sum of the gradient's norms, before any clipping."""
    largest_norm: Tensor = field(init=False)
    steps: Tensor = field(init=False)
    """Steps taken, those left out not included."""

    _SUMS = ("loss", "windows", "norm", "largest_norm", "steps")
    _PLACE = ("batches", "seconds", "num_windows", "batch_windows", "seed")

    def __post_init__(self):
        self._began = time.perf_counter()
        for name in self._SUMS:
            setattr(self, name, torch.zeros((), dtype=torch.float64, device=self.device))

    def add(self, loss: Tensor, norm: Tensor, num_windows: int, is_taken: Tensor) -> None:
        """Count a batch in; a step that was left out adds nothing."""
        self.batches += 1
        self.loss += torch.where(is_taken, loss.double() * num_windows, 0)
        self.windows += is_taken * num_windows
        self.norm += torch.where(is_taken, norm.double(), 0)
        self.largest_norm = torch.maximum(self.largest_norm, torch.where(is_taken, norm.double(), 0))
        self.steps += is_taken

    @property
    def elapsed(self) -> float:
        """Seconds spent on it in all."""
        return self.seconds + time.perf_counter() - self._began

    def row(self) -> dict[str, float]:
        """For the log: the loss in metres, the gradient's norm, and how many steps were left out."""
        loss, windows, norm, largest, steps = (getattr(self, name).item() for name in self._SUMS)
        skipped = self.batches - int(steps)
        return {
            "loss": loss / windows,
            "grad_norm": norm / steps,
            "grad_norm_max": largest,
            **({"skipped": skipped} if skipped else {}),
        }

    def as_data(self) -> dict:
        sums = {name: getattr(self, name).item() for name in self._SUMS}
        return {name: getattr(self, name) for name in self._PLACE} | sums | {"seconds": self.elapsed}

    @classmethod
    def of(cls, saved: dict, device: torch.device) -> "EpochProgress":
        """What `as_data` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        for name in (*cls._PLACE, *cls._SUMS):
            kinds = (float,) if name == "seconds" or name in cls._SUMS else (int,)
            if type(saved[name]) not in kinds or not 0 <= saved[name] < 1 << 63:
                raise ValueError(f"{name} is no number that can be")
        progress = cls(device, **{name: saved[name] for name in cls._PLACE})
        for name in cls._SUMS:
            getattr(progress, name).fill_(saved[name])
        return progress


@dataclass
class TrainingState:
    """What a run is made of between two steps, but for the weights."""

    optimizer: AdamW
    learning_rate: float
    epoch: int
    """The last one that is done."""
    history: list[dict]
    """A row an epoch: epoch, minutes, lr, 3d_train, 3d_pos_train, 3d_pos_valid (mm), grad_norm, skipped."""
    progress: EpochProgress
    """Of the epoch after it."""
    skipped_in_row: Tensor
    """int64, on the model's device: the steps left out since the last one that was taken."""
    best: dict[str, Best] = field(default_factory=dict)
    """By the name of the file that holds it."""
    num_steps: int = 0
    """Batches seen so far."""
    processes_before: int | None = None
    """How many processes wrote the checkpoint that it goes on from."""
    ema: list[Tensor] | None = None
    """The moving average of the trained parameters; None: none is kept."""

    @classmethod
    def new(cls, model: DSGDiffu, options: Options) -> "TrainingState":
        parameters = model.trained_parameters()
        optimizer = AdamW(parameters, lr=options.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
        return cls(
            optimizer,
            options.learning_rate,
            epoch=0,
            history=[],
            progress=EpochProgress(model.device),
            skipped_in_row=torch.zeros((), dtype=torch.int64, device=model.device),
            ema=[parameter.detach().clone() for parameter in parameters] if options.ema else None,
        )

    @property
    def parameters(self) -> list[Tensor]:
        return self.optimizer.param_groups[0]["params"]

    @torch.no_grad()
    def update_ema(self, decay: float) -> None:
        """Move the average towards the weights; in the first steps faster, so that it forgets where they began."""
        decay = min(decay, (1 + self.num_steps) / (10 + self.num_steps))
        get_ema_multi_avg_fn(decay)(self.ema, [parameter.detach() for parameter in self.parameters], None)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The model has the averaged weights, and afterwards its own again."""
        assert self.ema is not None, "no average is kept"
        own = [parameter.detach().clone() for parameter in self.parameters]
        try:
            self._set_weights(self.ema)
            yield
        finally:
            self._set_weights(own)

    @torch.no_grad()
    def _set_weights(self, weights: list[Tensor]) -> None:
        for parameter, weight in zip(self.parameters, weights, strict=True):
            parameter.copy_(weight)

    def end_epoch(self, lr_decay: float) -> None:
        self.epoch += 1
        self.learning_rate *= lr_decay
        self.progress = EpochProgress(self.progress.device)

    def as_data(self) -> dict:
        return {
            "optimizer": self.optimizer.state_dict(),
            "learning_rate": self.learning_rate,
            "history": self.history,
            "best": {name: list(best) for name, best in self.best.items()},
            "num_steps": self.num_steps,
            "progress": self.progress.as_data(),
            "skipped_in_row": int(self.skipped_in_row),
            "ema": None if self.ema is None else [average.cpu() for average in self.ema],
            "processes": processes.count(),
        }

    def restore(self, checkpoint: Checkpoint, path: Path) -> None:
        """Go on where the checkpoint was written: optimizer, learning rate, place in the epoch, history.

        Raises:
            DataError: the checkpoint has weights alone, or its training state is damaged.
        """
        if checkpoint.training is None:
            raise DataError(f"{path} holds weights alone, no optimizer to go on with; resume from {LAST}")
        try:
            saved = as_written_now(checkpoint.training)
            self.learning_rate, self.num_steps = saved["learning_rate"], saved["num_steps"]
            self.history, self.epoch = list(saved["history"]), checkpoint.epoch
            if type(self.num_steps) is not int or not 0 <= self.num_steps < 1 << 63:
                raise ValueError("num_steps is no number of steps")
            if type(saved["skipped_in_row"]) is not int or not 0 <= saved["skipped_in_row"] <= self.num_steps:
                raise ValueError("skipped_in_row is no number of steps")
            self.best = {name: Best(error, epoch) for name, (error, epoch) in saved["best"].items()}
            for name, best in self.best.items():
                if not isinstance(best.error, float) or not best.error >= 0 or type(best.epoch) is not int:
                    raise ValueError(f"the error of {name} is none in mm")
            if not (isinstance(self.learning_rate, float) and 0 <= self.learning_rate < math.inf):
                raise ValueError("the learning rate is no number that can be")
            for row in self.history:
                if not all(type(value) in (int, float) and math.isfinite(value) for value in row.values()):
                    raise ValueError("the history has a row that is not of numbers")
                log_line(row)
            load_optimizer(self.optimizer, saved["optimizer"])
            if self.ema is not None and saved["ema"] is not None:
                load_average(self.ema, saved["ema"])
            self.progress = EpochProgress.of(saved["progress"], self.progress.device)
            self.skipped_in_row.fill_(saved["skipped_in_row"])
            if type(saved["processes"]) is not int or saved["processes"] < 1:
                raise ValueError("processes is no number of them")
            self.processes_before = saved["processes"]
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError) as error:
            raise DataError(f"{path}: its training state does not fit this network ({error})") from None

    def check_place(self, windows: TrainingWindows, path: Path) -> None:
        """The rest of an epoch needs the batches that it began with.

        Raises:
            DataError: they are others.
        """
        place = self.progress
        before = place.num_windows, place.batch_windows, place.seed
        now = windows.num_windows, windows.batch_windows, windows.seed
        if place.batches and before != now:
            what = "{} windows, {} a batch, --seed {}"
            raise DataError(
                f"{path} stands within epoch {self.epoch + 1}, of {what.format(*before)}; this run has "
                f"{what.format(*now)}: give the options of before, or resume from the end of an epoch"
            )

    def begin_epoch(self, windows: TrainingWindows) -> None:
        place = self.progress
        place.num_windows, place.batch_windows, place.seed = windows.num_windows, windows.batch_windows, windows.seed


def as_written_now(training: dict) -> dict:
    """An older file's training state as `as_data` gives it: it was written by one process, at the end of an epoch.

    Raises:
        KeyError: it is something else.
    """
    if "best_error" not in training:
        return training
    return {
        **training,
        "best": {BEST: [training["best_error"], 0]},  # of an epoch that it does not tell
        "progress": EpochProgress(torch.device("cpu")).as_data(),
        "skipped_in_row": 0,
        "ema": None,
        "processes": 1,
    }


def load_average(own: list[Tensor], saved: list[Tensor]) -> None:
    """Put a file's averages of the weights into those of the network that is trained on.

    Raises:
        TypeError, ValueError: they are not like them.
    """
    for average, other in zip(own, saved, strict=True):
        if not isinstance(other, Tensor) or not holds_real_numbers(other) or other.shape != average.shape:
            raise ValueError("an average of a weight is no tensor of its shape")
        if not other.isfinite().all():
            raise ValueError("an average of a weight has numbers that cannot be")
        average.copy_(other)


def load_optimizer(optimizer: AdamW, saved: dict) -> None:
    """Put a file's averages of the gradients into a new optimizer; its settings must be those that the file's had.

    `load_state_dict` alone believes what it is given, and the fused step then reads beyond a tensor that is too small.

    Args:
        optimizer: of the network that is trained on.
        saved: the `state_dict` of another one like it.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not like it.
    """
    (own,), (group,) = optimizer.state_dict()["param_groups"], saved["param_groups"]
    for name, value in own.items():
        if name != "lr" and name in group and (type(group[name]) is not type(value) or group[name] != value):
            raise ValueError(f"the optimizer's {name} is not the same")
    parameters = dict(zip(own["params"], optimizer.param_groups[0]["params"], strict=True))
    for number, averages in saved["state"].items():
        parameter = parameters[number]
        shapes = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        if averages.keys() != shapes.keys():
            raise ValueError(f"the optimizer's weight {number} lacks an average or has one more")
        for name, shape in shapes.items():
            average = averages[name]
            if not isinstance(average, Tensor) or average.shape != shape or not holds_real_numbers(average):
                raise ValueError(f"the optimizer's {name} of weight {number} is no tensor of its shape")
            if name != "step" and average.stride() != parameter.stride():
                raise ValueError(f"the optimizer's {name} of weight {number} lies in memory another way")
            if not average.isfinite().all() or (name != "exp_avg" and (average < 0).any()):
                raise ValueError(f"the optimizer's {name} of weight {number} has numbers that cannot be")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": [own]})


def log_line(row: dict) -> str:
    """An epoch as a line of training_log.txt; errors in mm, "-" where none was measured."""

    def number(name: str) -> str:
        return f"{row[name]:.6f}" if name in row else "-"

    return (
        f"[{row['epoch']}] time {row['minutes']:.2f} lr {row['lr']:.8f} 3d_train {number('3d_train')} "
        f"3d_pos_train {number('3d_pos_train')} 3d_pos_valid {number('3d_pos_valid')}"
    )
