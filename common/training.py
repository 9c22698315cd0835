"""One step, one epoch, and the loop over epochs that validates, logs and keeps checkpoints.

The gradient stepped is that of L^2/2, with L the mean joint error of a batch, as in D3DP. Several processes come to the
same steps together, each with its own copy of the weights; the one that leads writes.
"""

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from common import processes
from common.arguments import Options
from common.checkpoints import BEST, BEST_EMA, LAST, Checkpoint, read_epoch, write_checkpoint
from common.clips import Clip
from common.curves import write_curves
from common.datasets import Dataset
from common.devices import upload
from common.errors import DataError, StoppedError
from common.evaluation import MM, Sampling, TextCache, clip_hypotheses, evaluate
from common.files import write_text
from common.model import DSGDiffu
from common.rendering import contact_sheet
from common.scenes import clip_scene
from common.seeds import seeded_generator
from common.signals import Stop, StopNow, stop_requests
from common.training_state import Best, TrainingState, log_line
from common.windows import TrainingWindows

TRAIN_ERROR_CLIPS = 8
"""So many training clips are sampled after each epoch, to set 3d_pos_train beside 3d_pos_valid."""
MOST_SKIPPED = 10
"""Steps left out in a row after which a run is given up: none is taken any more."""
CHECK_EVERY = 50
"""Steps after which it is looked whether the run still learns: looking waits for the device."""


def training_windows(dataset: Dataset, model: DSGDiffu, options: Options) -> TrainingWindows:
    return TrainingWindows(
        dataset.train,
        options.num_frames,
        model.skeleton,
        options.batch_windows,
        options.augmentation,
        options.seed,
    )


def shared_gradient(
    model: DSGDiffu,
    network: nn.Module,
    windows: TrainingWindows,
    chosen: Tensor,
    options: Options,
    place: tuple[int, int],
) -> Tensor:
    """Leave in the model's weights the gradient of L^2/2 of a batch, each process having computed its windows.

    The gradient of L, the mean over all windows, is added up piece by piece; the factor L is known after the last. How
    many processes and pieces there are changes nothing but the rounding; only dropout (`-drop`) draws in each of them.

    Args:
        model: in training mode.
        network: `processes.training_network` of it.
        windows: where the batch is.
        chosen: (B,) the numbers of its windows.
        options: of the run.
        place: the epoch, and the batch's number in it.

    Returns:
        L, metres, the same in every process.
    """
    B, device = len(chosen), model.device
    draws = model.draw((B, *windows.window_shape), options.text_dropout, seeded_generator(options.seed, "step", *place))
    torch.manual_seed(seeded_generator(options.seed, "dropout", *place, processes.rank()).initial_seed())
    mine = torch.arange(B)[processes.share(B, processes.rank(), processes.count())]
    loss = torch.zeros((), device=device)
    model.zero_grad(set_to_none=True)
    pieces = mine.tensor_split(min(options.accumulate, max(1, len(mine))))
    for number, piece in enumerate(pieces, 1):
        weight = len(piece) / B
        # A process that has no window of a short last batch takes part all the same: the exchange waits for it.
        piece = piece if len(piece) else torch.zeros(1, dtype=torch.long)
        batch = windows.batch(chosen[piece])
        with processes.exchanging(network, number == len(pieces)):
            error = network(upload(batch.x_2d, device), upload(batch.x_start, device), batch.verbs, draws.of(piece))
            (error * weight).backward()
        loss += error.detach() * weight
    loss = processes.total(loss)
    gradients = [parameter.grad for parameter in model.trained_parameters() if parameter.grad is not None]
    torch._foreach_mul_(gradients, loss * processes.count())  # the exchange gave the mean over the processes
    return loss


def training_step(
    model: DSGDiffu,
    network: nn.Module,
    windows: TrainingWindows,
    chosen: Tensor,
    state: TrainingState,
    options: Options,
) -> None:
    """One optimizer step; none, where the gradient is no finite number. Nothing here waits for the device."""
    optimizer = state.optimizer
    loss = shared_gradient(model, network, windows, chosen, options, (state.epoch + 1, state.progress.batches))
    gradients = [parameter.grad for parameter in state.parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if options.clip_grad:
        torch.nn.utils.clip_grads_with_norm_(state.parameters, options.clip_grad, norm)
    state.num_steps += 1
    set_rate(state, options)
    # A loss that is no finite number makes the gradient so. The fused step reads this as it does from PyTorch's
    # GradScaler: it then leaves weights and averages as they are, on the device.
    is_taken = norm.isfinite() & (state.skipped_in_row < MOST_SKIPPED)
    optimizer.found_inf = (~is_taken).float()  # type: ignore[attr-defined] # PyTorch's types do not know it
    optimizer.step()
    if state.ema is not None:
        state.update_ema(options.ema)
    state.skipped_in_row.add_(1).mul_(~is_taken)
    state.progress.add(loss, norm, len(chosen), is_taken)


def set_rate(state: TrainingState, options: Options) -> None:
    """Give the optimizer the learning rate of the step that `state.num_steps` counts last."""
    for group in state.optimizer.param_groups:
        group["lr"] = state.learning_rate * min(1.0, state.num_steps / max(1, options.warmup))


def train_epoch(
    model: DSGDiffu,
    network: nn.Module,
    windows: TrainingWindows,
    state: TrainingState,
    options: Options,
    bar: tqdm,
    after_step: Callable[[], None],
) -> None:
    """The rest of the epoch after `state.epoch`, from the batch that it is at; `state.progress` is what came of it.

    Args:
        model, windows, options: of the run.
        network: `processes.training_network` of the model.
        state: moved on.
        bar: counts frames.
        after_step: called between steps, when the state is one to go on from.

    Raises:
        DataError: too many steps in a row, or all of the epoch, have no finite gradient.
    """
    model.train()
    state.begin_epoch(windows)
    set_rate(state, options)  # an epoch that is gone on with may have no step left
    first = state.progress.batches
    batches = windows.order(state.epoch + 1)
    for chosen in batches[first : 1 if options.debug else len(batches)]:
        training_step(model, network, windows, chosen, state, options)
        bar.update(len(chosen) * options.num_frames)
        if state.num_steps % CHECK_EVERY == 0:
            check_steps(state, options)
        after_step()
    check_steps(state, options)


def check_steps(state: TrainingState, options: Options) -> None:
    """Give a run up that no longer learns.

    Raises:
        DataError: one line that names the last good checkpoint.
    """
    in_row, taken = int(state.skipped_in_row), int(state.progress.steps)
    if in_row < MOST_SKIPPED and (taken or not in_row):
        return
    last = options.folder / LAST
    good = f"the last good checkpoint is {last}" if last.is_file() else "there is no checkpoint yet"
    raise DataError(
        f"the loss of epoch {state.epoch + 1} was no finite number, and steps in a row were left out, {in_row} by now; "
        f"{good}: train again with a lower -lr, with --warmup or --clip-grad"
    )


class Keeper:
    """Writes the run's checkpoints: last.bin to go on from, and the best epoch's weights.

    Only in the process that leads; it alone knows which epoch is the best.
    """

    def __init__(
        self,
        options: Options,
        state: TrainingState,
        checkpoint: Callable[..., Checkpoint],
        aside: dict[str, Path],
    ):
        self.folder, self.state, self.checkpoint, self.aside = options.folder, state, checkpoint, aside
        self.averages = {BEST: 0.0, **({BEST_EMA: options.ema} if state.ema is not None else {})}
        """The decay of the weights' average that each best file holds; 0: the weights themselves."""
        self.minutes = options.checkpoint_every
        self.saved = time.perf_counter()
        for name in self.averages if processes.leads() else ():
            best = state.best.setdefault(name, Best())
            path = self.folder / name
            if best.epoch == state.epoch > 0 and not state.progress.batches and read_epoch(path) != best.epoch:
                self.save_best(name)  # the run ended between its last.bin and this file
            elif not path.exists():
                state.best[name] = Best()  # a run that was copied here without its best epoch looks for one anew

    def save_last(self) -> None:
        last = self.checkpoint(epoch=self.state.epoch, training=self.state.as_data())
        write_checkpoint(self.folder / LAST, last)
        self.saved = time.perf_counter()

    def save_good(self) -> bool:
        """Save last.bin, unless the steps just now were left out: these weights may be those that went wrong."""
        is_good = not int(self.state.skipped_in_row)
        if is_good:
            self.save_last()
        return is_good

    def save_if_due(self) -> None:
        if processes.leads() and 0 < 60 * self.minutes <= time.perf_counter() - self.saved:
            self.save_good()

    def save_best(self, name: str) -> None:
        if name in self.aside:
            (self.folder / name).rename(self.aside.pop(name))
        with self.weights(name):
            write_checkpoint(self.folder / name, self.checkpoint(epoch=self.state.epoch, ema=self.averages[name]))

    def weights(self, name: str) -> contextlib.AbstractContextManager:
        """The model has those that belong in the file `name`."""
        return self.state.averaged() if self.averages[name] else contextlib.nullcontext()


ERRORS = {BEST: "3d_pos_valid", BEST_EMA: "3d_pos_valid_ema"}
"""What decides whether an epoch is the best, by the file of the best one."""


def fit(
    model: DSGDiffu,
    dataset: Dataset,
    windows: TrainingWindows,
    options: Options,
    state: TrainingState,
    checkpoint: Callable[..., Checkpoint],
    aside: dict[str, Path],
) -> None:
    """Train from the state's place to the end of `options.epochs`, and leave its files: checkpoint/README.md.

    Args:
        model: on its device.
        dataset: training and validation clips.
        windows: of the training clips.
        options: of the run.
        state: new, or restored.
        checkpoint: (epoch=, training=, ema=) -> what to write of the model.
        aside: by its name, where a best epoch that is there goes when this run has one of its own; absent: it is this
            run's.

    Raises:
        DataError: the training went wrong, or a file cannot be written.
        StoppedError: a signal asked for it; last.bin holds all that it takes to go on.
    """
    keeper = Keeper(options, state, checkpoint, aside)
    sampling = Sampling(
        options.num_frames, 1, 1, options.batch_size, options.action_prompt, seed=options.seed, one_batch=options.debug
    )
    last, saved, network = options.folder / LAST, True, processes.training_network(model)
    with _tensorboard(options, state.epoch) as writer, stop_requests(processes.agreed) as stop:

        def between_steps() -> None:
            stop.check()
            keeper.save_if_due()

        while state.epoch < options.epochs:
            try:
                stop.check()
                with _bar(windows, options, state) as bar:
                    train_epoch(model, network, windows, state, options, bar, between_steps)
                errors = _validate(model, dataset, sampling, keeper, options, stop)
            except StopNow:
                saved = processes.from_leader(keeper.save_good)  # the others wait until it is there
                break
            _end_epoch(model, dataset, sampling, options, state, errors, keeper, writer)
        if stop.is_requested():
            assert stop.requested is not None  # which one it was
            where = f"in epoch {state.epoch + 1}" if state.epoch < options.epochs else "after the last epoch"
            if saved:
                what = f"{last} is saved: go on with --resume auto"
            elif processes.from_leader(last.is_file):
                what = f"{last} is as it was before, since the last steps had no finite loss: go on with --resume auto"
            else:
                what = f"there is no {last} yet, since the last steps had no finite loss: train again with a lower -lr"
            raise StoppedError(f"stopped by {stop.requested.name} {where}; {what}")


def _bar(windows: TrainingWindows, options: Options, state: TrainingState) -> tqdm:
    """Of an epoch's frames, where it is."""
    of_batch = min(windows.batch_windows, windows.num_windows)
    return tqdm(
        total=(of_batch if options.debug else windows.num_windows) * options.num_frames,
        initial=state.progress.batches * of_batch * options.num_frames,
        unit="frame",
        desc=f"epoch {state.epoch + 1}",
        leave=False,
        disable=None if processes.leads() else True,
    )


def _validate(
    model: DSGDiffu, dataset: Dataset, sampling: Sampling, keeper: Keeper, options: Options, stop: Stop
) -> dict[str, float]:
    """The errors of the epoch that was just trained, mm, by their names in its row.

    Raises:
        StopNow: the run was asked to end; the model has its own weights.
    """
    stop.check()
    if options.no_eval:
        return {}
    errors = _error("3d_pos_train", model, _spread(dataset.train), sampling, stop)
    for name in keeper.averages:
        with keeper.weights(name):
            errors |= _error(ERRORS[name], model, dataset.validation, sampling, stop)
    return errors


def _end_epoch(
    model: DSGDiffu,
    dataset: Dataset,
    sampling: Sampling,
    options: Options,
    state: TrainingState,
    errors: dict[str, float],
    keeper: Keeper,
    writer,
) -> None:
    """Log the epoch, then keep it: a run that is killed between the files of an epoch goes on to the same ones.

    The logs come first, since they are written anew from last.bin's history; then last.bin; the best epoch's last,
    since the next start makes up for it.
    """
    folder, epoch, found = options.folder, state.epoch + 1, state.progress.row()
    row = {"epoch": epoch, "lr": state.optimizer.param_groups[0]["lr"], "3d_train": found.pop("loss") * MM}
    row |= errors | found | {"minutes": state.progress.elapsed / 60}
    for error in errors.values():
        if not math.isfinite(error):
            raise DataError(f"the validation error of epoch {epoch} is {error}; train again with a lower -lr")
    state.history.append(row)
    state.end_epoch(options.lr_decay)
    if not processes.leads():
        return
    improved = []
    for name in keeper.averages:
        error = errors.get(ERRORS[name], math.inf)
        if ERRORS[name] not in errors or error < state.best[name].error:  # not measured: the last epoch is the best
            state.best[name] = Best(error, epoch)
            improved.append(name)

    write_text(folder / "training_log.txt", "".join(log_line(row) + "\n" for row in state.history))
    write_text(folder / "training_log.jsonl", "".join(json.dumps(row) + "\n" for row in state.history))
    if options.export_training_curves or epoch == options.epochs:
        write_curves(folder / "training_curves.png", state.history)
    if writer is not None:
        with _writing_to_log(options):
            _log_epoch(writer, row)
            if epoch == 1 or epoch % options.checkpoint_frequency == 0:
                _log_picture(writer, model, dataset, sampling, epoch)
            writer.flush()
    if epoch % options.checkpoint_frequency == 0:
        write_checkpoint(folder / f"epoch_{epoch}.bin", keeper.checkpoint(epoch=epoch, training=state.as_data()))
    keeper.save_last()
    for name in improved:
        keeper.save_best(name)
    print(log_line(row), flush=True)
    if "skipped" in row:
        print(f"note: {row['skipped']} steps of epoch {epoch} were left out: their loss was no finite number")


def _error(name: str, model: DSGDiffu, clips: list[Clip], sampling: Sampling, stop: Stop) -> dict[str, float]:
    """{name: the action- or sequence-wise average of MPJPE in mm, one hypothesis and one step}.

    Nothing where no frame counts, which `--debug`'s first batches may lead to.
    """
    found = evaluate(model, clips, sampling, within=stop.at_once).average("")
    return {name: float(found[1]["P_Agg"][-1])} if found else {}


def _spread(clips: list[Clip]) -> list[Clip]:
    """A few clips, evenly over the list, and no more than some windows of each."""
    chosen = clips[:: max(1, len(clips) // TRAIN_ERROR_CLIPS)][:TRAIN_ERROR_CLIPS]
    return [replace(clip, **{name: array[:500] for name, array in clip.arrays().items()}) for clip in chosen]


@contextlib.contextmanager
def _tensorboard(options: Options, epoch: int) -> Iterator[object | None]:
    """TensorBoard's writer, which has what is in the log of epochs after `epoch` forgotten; None with --nolog, and in
    processes that write nothing.

    Raises:
        DataError: it cannot write.
    """
    if options.nolog or not processes.leads():
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    with _writing_to_log(options):
        writer = SummaryWriter(options.log, purge_step=epoch + 1)
    try:
        yield writer
    finally:
        with _writing_to_log(options):
            writer.close()


@contextlib.contextmanager
def _writing_to_log(options: Options) -> Iterator[None]:
    """Within this, nothing but TensorBoard's files is written.

    Raises:
        DataError: one cannot be.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"-l {options.log} cannot be written to ({error.strerror}); name another, or --nolog") from None


def _log_epoch(writer, row: dict) -> None:
    for name, title in (
        ("3d_train", "loss/train_mm"),
        ("3d_pos_train", "error/train_mm"),
        ("3d_pos_valid", "error/validation_mm"),
        ("3d_pos_valid_ema", "error/validation_ema_mm"),
        ("grad_norm", "gradient_norm/mean"),
        ("grad_norm_max", "gradient_norm/largest"),
        ("skipped", "steps_left_out"),
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
