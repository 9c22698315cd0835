"""One epoch, and the loop over epochs that validates, logs and keeps checkpoints.

The gradient stepped is that of L^2/2, with L the mean joint error (`loss.backward(loss.detach())`), as in D3DP.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import AdamW
from tqdm import tqdm

from common.arguments import Options
from common.checkpoints import BEST, LAST, Checkpoint, holds_real_numbers, write_checkpoint
from common.clips import Clip
from common.curves import write_curves
from common.datasets import Dataset
from common.errors import DataError
from common.evaluation import MM, Sampling, TextCache, clip_hypotheses, evaluate
from common.files import write_text
from common.model import DSGDiffu
from common.rendering import contact_sheet
from common.scenes import clip_scene
from common.windows import TrainingWindows

WEIGHT_DECAY = 0.1
TRAIN_ERROR_CLIPS = 8
"""So many training clips are sampled after each epoch, to set 3d_pos_train beside 3d_pos_valid."""


@dataclass
class TrainingState:
    """What a training run is made of between two epochs."""

    optimizer: AdamW
    learning_rate: float
    epoch: int
    """The last one that is done."""
    history: list[dict]
    """A row an epoch: epoch, minutes, lr, 3d_train, 3d_pos_train, 3d_pos_valid (mm)."""
    best_error: float
    num_steps: int = 0
    """Optimizer steps taken so far."""

    @classmethod
    def new(cls, model: DSGDiffu, options: Options) -> "TrainingState":
        optimizer = AdamW(model.trained_parameters(), lr=options.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
        return cls(optimizer, options.learning_rate, 0, [], math.inf)

    def as_data(self) -> dict:
        return {
            "optimizer": self.optimizer.state_dict(),
            "learning_rate": self.learning_rate,
            "history": self.history,
            "best_error": self.best_error,
            "num_steps": self.num_steps,
            "random_state": torch.get_rng_state(),
            "cuda_random_states": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def restore(self, checkpoint: Checkpoint, path: Path) -> None:
        """Go on where the checkpoint was written: optimizer, learning rate, random states, history.

        Raises:
            DataError: the checkpoint has weights alone, or its training state is damaged.
        """
        saved = checkpoint.training
        if saved is None:
            raise DataError(f"{path} holds weights alone, no optimizer to go on with; resume from {LAST}")
        try:
            self.learning_rate, self.best_error = saved["learning_rate"], saved["best_error"]
            self.history, self.epoch = list(saved["history"]), checkpoint.epoch
            self.num_steps = saved["num_steps"]
            if type(self.num_steps) is not int or not 0 <= self.num_steps < 1 << 63:
                raise ValueError("num_steps is no number of steps")
            if not isinstance(self.best_error, float) or not self.best_error >= 0:
                raise ValueError("best_error is no error in mm")
            if not (isinstance(self.learning_rate, float) and 0 <= self.learning_rate < math.inf):
                raise ValueError("the learning rate is no number that can be")
            for row in self.history:
                if not all(type(value) in (int, float) and math.isfinite(value) for value in row.values()):
                    raise ValueError("the history has a row that is not of numbers")
                log_line(row)
            load_optimizer(self.optimizer, saved["optimizer"])
            torch.set_rng_state(saved["random_state"])
            if torch.cuda.is_available() and len(saved["cuda_random_states"]) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(saved["cuda_random_states"])
        except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError) as error:
            raise DataError(f"{path}: its training state does not fit this network ({error})") from None


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


def train_epoch(
    model: DSGDiffu, windows: TrainingWindows, state: TrainingState, options: Options, progress: tqdm
) -> float:
    """One pass over the windows; returns the mean loss over windows, metres.

    Raises:
        DataError: the loss is not a finite number any more.
    """
    model.train()
    total, count = torch.zeros((), dtype=torch.float64, device=model.device), 0
    for batch in windows.epoch(state.epoch + 1):
        x_2d, x_start = batch.x_2d.to(model.device), batch.x_start.to(model.device)
        loss = model.training_loss(x_2d, x_start, batch.verbs, options.text_dropout)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward(loss.detach())
        state.num_steps += 1
        for group in state.optimizer.param_groups:
            group["lr"] = state.learning_rate * min(1.0, state.num_steps / max(1, options.warmup))
        state.optimizer.step()
        total += loss.detach() * len(x_start)
        count += len(x_start)
        progress.update(x_start.shape[0] * x_start.shape[1])
        if options.debug:
            break
    mean = (total / count).item()
    if not math.isfinite(mean):
        raise DataError(
            f"the loss of epoch {state.epoch + 1} is {mean}; train again with a lower -lr, or with --warmup"
        )
    return mean


def fit(
    model: DSGDiffu,
    dataset: Dataset,
    options: Options,
    state: TrainingState,
    checkpoint: Callable[..., Checkpoint],
    aside: Path | None = None,
) -> None:
    """Train from the state's epoch to `options.epochs`, and leave its files in the folder: checkpoint/README.md.

    Args:
        model: on its device.
        dataset: training and validation clips.
        options: of the run.
        state: new, or restored.
        checkpoint: (epoch=, training=) -> what to write of the model.
        aside: where the best epoch that is there goes when this run has one of its own; None: it is this run's.
    """
    folder = options.folder
    if not (folder / BEST).exists():
        state.best_error = math.inf  # a run that was copied here without its best epoch begins anew to look for one
    windows = TrainingWindows(
        dataset.train,
        options.num_frames,
        model.skeleton,
        options.batch_windows,
        options.augmentation,
        options.seed,
    )
    sampling = Sampling(
        options.num_frames, 1, 1, options.batch_size, options.action_prompt, seed=options.seed, one_batch=options.debug
    )
    writer = None if options.nolog else _tensorboard(options, state.epoch)
    frames = min(windows.batch_windows, windows.num_windows) if options.debug else windows.num_windows
    try:
        for epoch in range(state.epoch + 1, options.epochs + 1):
            begin = time.perf_counter()
            with tqdm(
                total=frames * options.num_frames, unit="frame", desc=f"epoch {epoch}", leave=False, disable=None
            ) as progress:
                loss = train_epoch(model, windows, state, options, progress)
            row = {"epoch": epoch, "lr": state.optimizer.param_groups[0]["lr"], "3d_train": loss * MM}
            if not options.no_eval:
                row |= _error("3d_pos_train", model, _spread(dataset.train), sampling)
                row |= _error("3d_pos_valid", model, dataset.validation, sampling)
            row["minutes"] = (time.perf_counter() - begin) / 60
            state.history.append(row)
            state.epoch = epoch
            state.learning_rate *= options.lr_decay
            error = row.get("3d_pos_valid")
            if error is not None and not math.isfinite(error):
                raise DataError(f"the validation error of epoch {epoch} is {error}; train again with a lower -lr")
            if error is None or error < state.best_error:  # not measured: the last epoch is the best
                state.best_error = math.inf if error is None else error
                if aside is not None:
                    (folder / BEST).rename(aside)
                    aside = None
                write_checkpoint(folder / BEST, checkpoint(epoch=epoch, training=None))
            full = checkpoint(epoch=epoch, training=state.as_data())
            write_checkpoint(folder / LAST, full)
            if epoch % options.checkpoint_frequency == 0:
                write_checkpoint(folder / f"epoch_{epoch}.bin", full)
            write_text(folder / "training_log.txt", "".join(log_line(row) + "\n" for row in state.history))
            write_text(folder / "training_log.jsonl", "".join(json.dumps(row) + "\n" for row in state.history))
            print(log_line(row), flush=True)
            if writer is not None:
                _log_epoch(writer, row)
                if epoch == 1 or epoch % options.checkpoint_frequency == 0:
                    _log_picture(writer, model, dataset, sampling, epoch)
            if options.export_training_curves or epoch == options.epochs:
                write_curves(folder / "training_curves.png", state.history)
    finally:
        if writer is not None:
            writer.close()


def log_line(row: dict) -> str:
    """An epoch as a line of training_log.txt; errors in mm, "-" where none was measured."""

    def number(name: str) -> str:
        return f"{row[name]:.6f}" if name in row else "-"

    return (
        f"[{row['epoch']}] time {row['minutes']:.2f} lr {row['lr']:.8f} 3d_train {number('3d_train')} "
        f"3d_pos_train {number('3d_pos_train')} 3d_pos_valid {number('3d_pos_valid')}"
    )


def _error(name: str, model: DSGDiffu, clips: list[Clip], sampling: Sampling) -> dict[str, float]:
    """{name: the action- or sequence-wise average of MPJPE in mm, one hypothesis and one step}.

    Nothing where no frame counts, which `--debug`'s first batches may lead to.
    """
    found = evaluate(model, clips, sampling).average("")
    return {name: float(found[1]["P_Agg"][-1])} if found else {}


def _spread(clips: list[Clip]) -> list[Clip]:
    """A few clips, evenly over the list, and no more than some windows of each."""
    chosen = clips[:: max(1, len(clips) // TRAIN_ERROR_CLIPS)][:TRAIN_ERROR_CLIPS]
    return [replace(clip, **{name: array[:500] for name, array in clip.arrays().items()}) for clip in chosen]


def _tensorboard(options: Options, epoch: int):
    from torch.utils.tensorboard import SummaryWriter

    try:
        return SummaryWriter(options.log, purge_step=epoch + 1)
    except OSError as error:
        raise DataError(f"-l {options.log} cannot be written to ({error.strerror}); name another, or --nolog") from None


def _log_epoch(writer, row: dict) -> None:
    for name, title in (
        ("3d_train", "loss/train_mm"),
        ("3d_pos_train", "error/train_mm"),
        ("3d_pos_valid", "error/validation_mm"),
        ("lr", "learning_rate"),
    ):
        if name in row:
            writer.add_scalar(title, row[name], row["epoch"])


def _log_picture(writer, model: DSGDiffu, dataset: Dataset, sampling: Sampling, epoch: int) -> None:
    """The first validation clip's first window: input, prediction and truth."""
    model.eval()
    clip = dataset.validation[0]
    frames, _, samples = next(clip_hypotheses(model, clip, sampling, TextCache(model)))
    length = min(clip.num_frames, sampling.num_frames)
    first = replace(clip, **{name: array[frames[0, :length]] for name, array in clip.arrays().items()})
    prediction = samples[0, -1, :, :length].cpu().numpy()
    picture = contact_sheet(clip_scene(first, prediction, model.skeleton))
    writer.add_image("poses", picture, epoch, dataformats="HWC")
