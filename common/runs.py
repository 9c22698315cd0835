"""A run from its options to its files: what main.py, main_gt.py and their like have in common."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import processes
from common.aggregation import hypothesis_spread
from common.arguments import Options, parse_options
from common.checkpoints import AUTO, BEST, BEST_EMA, LAST, Checkpoint, find_checkpoint, read_checkpoint, refuse_or_note
from common.clip_text import TextTower, load_text_tower, random_text_tower
from common.clips import Clip, kind_of_truth, truths_of
from common.dataset_description import DatasetDescription, DatasetScores
from common.datasets import DATASETS, Dataset, load_dataset
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.errors import DataError, UsageError, memory_in_one_line
from common.evaluation import Evaluation, Sampling, evaluate, predict_clip
from common.files import move_aside, remove_parts, replacing, unused, writable_folder, write_json
from common.manifest import MANIFEST, made_with, write_manifest
from common.model import DSGDiffu
from common.npz_files import write_npz
from common.processes import Seat
from common.rendering import check_output, check_video, render
from common.results import REPORT, file_stem, notes, report, seen_in_training, write_results
from common.scenes import clip_scene
from common.skeleton import Skeleton
from common.solvers import Solver
from common.training import fit, training_windows
from common.training_state import Best, TrainingState

SCORES = "scores"
"""What the folder, in the run's, of a dataset's own scores begins with; then comes the evaluation's name."""
RUN_FILES = (
    "*.bin", "*.onnx", "options.json", MANIFEST, "training_log.*", "training_curves.png", "prediction.png",
    "*_test_log_*.txt", "results_*.json", REPORT, "*_predictions_*.npz", "inference_data_*.mat", f"{SCORES}_*",
)  # fmt: skip
"""What a run writes into its folder."""

PRECISIONS = {"32": None, "bf16-mixed": torch.bfloat16}


AFTER_THE_END = "run an evaluation again; a training that has a last.bin goes on with --resume auto"
"""What helps after a run that was interrupted, or lost a process."""


def run_script(argv: Sequence[str] | None, defaults: Options, description: str) -> int:
    """Parse, run, and turn a user's mistake into one line; returns the exit code.

    With several devices, this starts a process for each, all of which come here again.
    """
    argv = tuple(sys.argv[1:] if argv is None else argv)

    def work() -> int | None:
        options = parse_options(argv, defaults, description)
        number = num_processes(options, processes.seat())
        if number > 1:
            return processes.launch(number, run_script, (argv, defaults, description), AFTER_THE_END)
        run_within_memory(options)
        return None

    return processes.take_part(work, AFTER_THE_END)


def run_within_memory(options: Options) -> None:
    """`run`; what does not fit into memory is one line too.

    Raises:
        UsageError, DataError: one line.
    """
    with memory_in_one_line("-b, -num_proposals, -sampling_timesteps, -timestep, -f, -cs or -dep"):
        run(options)


def run(options: Options) -> None:
    """Train and evaluate, or evaluate, or draw, as the options say.

    Raises:
        UsageError, DataError: one line.
    """
    description = DATASETS[options.dataset]
    # One process reads it: the others may be on machines that do not have the file.
    path = processes.from_leader(lambda: checkpoint_path(options))
    checkpoint = None
    if path:
        checkpoint = processes.from_leader(
            lambda: read_checkpoint(path, description.skeleton, options.compat_release, options.force)
        )
        options = options_with(checkpoint, options, path)
        description = DATASETS[options.dataset]
    if options.trains:
        check_shares(options)
    if options.render:
        check_drawing(options)
    with run_folder(options.folder):
        dataset = dataset_of(options)
        set_deterministic(options.deterministic)
        torch.manual_seed(options.seed)
        model = build_model(options, description, checkpoint, path)
        if options.trains:
            train(model, dataset, options, checkpoint, path)
        elif options.render:
            if processes.leads():
                draw(model, dataset, options)
        else:
            assert checkpoint is not None  # --evaluate names one
            assert path is not None
            if description.has_truth:
                measure(model, dataset.test, options, checkpoint, path)
            else:
                predict(model, dataset.test, options, checkpoint, path)


def checkpoint_path(options: Options) -> Path | None:
    """The file that the options name; None where they name none, or `auto` and there is none.

    Raises:
        DataError: it is not there, or leads out of the folder.
    """
    if options.resume == AUTO:
        last = options.folder / LAST
        if not os.path.lexists(last):
            print(f"{last} is not there: a new run begins")
            return None
        found = find_checkpoint(LAST, options.folder)  # a link may lead nowhere, or out of the folder
        print(f"going on with {found}")
        return found
    name = options.evaluate or options.resume
    return find_checkpoint(name, options.folder) if name else None


def set_deterministic(asked: bool) -> None:
    """Have PyTorch take algorithms that sum in one order, also on CUDA; it raises where it has none."""
    if asked:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when a device is first used
    torch.use_deterministic_algorithms(asked)


def check_shares(options: Options) -> None:
    """Whether a batch can be shared out.

    Raises:
        UsageError: it cannot.
    """
    number = processes.count()
    if number > options.batch_windows:
        raise UsageError(
            f"{number} processes for a batch of {options.batch_windows} windows (-b {options.batch_size} // -s "
            f"{options.stride}): give -b {number * options.stride} or more, or fewer processes"
        )
    if options.compat_release and (number > 1 or options.accumulate > 1):
        raise UsageError(
            f"--compat-release trains in one process (here: {number}) and without --accumulate: in the release's "
            "network the windows of a batch change each other's answers"
        )


def dataset_of(options: Options) -> Dataset:
    """The clips that the options ask for; see `load_dataset`."""
    dataset = load_dataset(
        options.dataset,
        options.data_dir,
        options.keypoints,
        subjects_train=options.subjects_train,
        subjects_test=options.subjects_test,
        val_subjects=options.val_subjects,
        actions=options.actions,
        downsample=options.downsample,
        subset=options.subset,
        training=options.trains,
    )
    if options.compat_release:
        from common.release_compat import release_cameras

        of_test, of_validation = release_cameras(dataset.test), release_cameras(dataset.validation)
        dataset = replace(dataset, test=of_test, validation=of_validation)
    return dataset


def options_with(checkpoint: Checkpoint, options: Options, path: Path) -> Options:
    """The options with the checkpoint's network in them, and, to go on with it, with those of its run.

    Raises:
        UsageError: -f is no window of its network.
        DataError: an option given contradicts the checkpoint, or the 2D input that errors would be measured on is of
            another source.
    """
    network = checkpoint.network
    its_run = options.over(checkpoint.options)
    if options.resume:
        if path.resolve().parent != options.folder.resolve():  # somebody else's file says nothing of where to write
            its_run = replace(its_run, log=options.log)
        options = its_run
        for name in sorted(options.given):
            before, now = checkpoint.options.get(name), options.as_data()[name]
            if (
                name in checkpoint.options
                and name not in ("checkpoint", "resume", "epochs", "learning_rate")
                and before != now
            ):
                print(f"note: {options.flag(name)} is {now} from here on; the run had {before}")
    else:
        options = replace(options, text_encoder=its_run.text_encoder)
    stored: dict[str, Any] = {"width": network.width, "depth": network.depth, "timestep": checkpoint.num_timesteps}
    if checkpoint.scale is not None:
        stored |= {"dropout": network.dropout, "scale": checkpoint.scale}
    for name, value in stored.items():
        asked = getattr(options, name)
        if name in options.given and asked != value:
            raise DataError(
                f"{path} was trained with {options.flag(name)} {value}; {options.flag(name)} {asked} was given: leave "
                "it out, or name another checkpoint"
            )
    num_frames = options.num_frames if "num_frames" in options.given else network.num_frames
    if num_frames > network.num_frames or (options.resume and num_frames != network.num_frames):
        raise UsageError(
            f"{path} was trained with -f {network.num_frames}; -f {num_frames} was given: give -f {network.num_frames}"
            + ("" if options.resume else " or fewer")
        )
    trained_on = checkpoint.options.get("keypoints")
    if trained_on not in (None, options.keypoints):
        what = f"{path} was trained on the 2D input '{trained_on}'; this is '{options.keypoints}'"
        goes_on = options.force or options.resume is not None or not DATASETS[options.dataset].has_truth
        refuse_or_note(what, f"give -k {trained_on}", goes_on)
    options = replace(options, **stored, num_frames=num_frames)
    options.check()
    return options


def num_processes(options: Options, seat: Seat | None) -> int:
    """How many processes this one has to start: one for each device. 1: it does the work itself.

    Raises:
        UsageError: the options do not fit together, or not to whoever has started this process.
    """
    if seat is not None:
        if "processes" in options.given and seat.starter != processes.OURS:
            raise UsageError(f"--processes with {seat.starter}, which has started them already; leave it out")
        return 1
    if options.render:
        return 1
    if options.device is None and torch.cuda.is_available():
        number = len(options.gpus)
        if "processes" in options.given and options.processes != number:
            raise UsageError(
                f"--processes is {options.processes} and -gpu {options.gpu} names {number} devices: a process takes "
                "one; leave --processes out"
            )
        return number
    if options.processes > 1 and options.device not in (None, "cpu"):
        raise UsageError(
            f"--processes {options.processes} with --device {options.device}: a process takes a device; name them with "
            "-gpu, as in -gpu 0,1"
        )
    return options.processes


def choose_device(options: Options) -> torch.device:
    """This process's: --device if given, else its own of -gpu, else the CPU, saying so.

    Raises:
        UsageError: no such device.
    """
    name, seat = options.device, processes.seat()
    if name is None:
        if not torch.cuda.is_available():
            alone = " in one process (--processes N starts more)" if len(options.gpus) > 1 and seat is None else ""
            print(f"no CUDA device here: running on the CPU{alone}")
            return torch.device("cpu")
        name = f"cuda:{gpu_of(options, seat, torch.cuda.device_count())}"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("only cpu and cuda are known to work")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the device '{name}' cannot be used ({str(error).splitlines()[0]}); try --device cpu"
        ) from None
    if device.type == "cuda":
        if options.device is not None and processes.count() > 1:
            raise UsageError(
                f"--device {name} for {processes.count()} processes: each takes its own; leave --device out"
            )
        torch.cuda.set_device(device)
    return device


def gpu_of(options: Options, seat: Seat | None, num_visible: int) -> int:
    """The number of this process's GPU.

    Args:
        options: of the run.
        seat: which of the run's processes this is; None: the only one.
        num_visible: GPUs that this process sees.

    Raises:
        UsageError: there is none for it.
    """
    if seat is None:
        return options.gpus[0]
    if seat.starter == processes.OURS or "gpu" in options.given:
        if len(options.gpus) <= seat.local_rank or len(options.gpus) != (seat.local_count or len(options.gpus)):
            started = seat.local_count or f"{seat.local_rank + 1} or more"
            raise UsageError(
                f"-gpu {options.gpu} names {len(options.gpus)} devices, and {seat.starter} started {started} processes "
                "on this machine; leave -gpu out, or name as many"
            )
        return options.gpus[seat.local_rank]
    if num_visible == 1 and seat.starter == "srun":
        return 0  # --gpus-per-task shows each process its own
    if seat.local_rank >= num_visible:
        raise UsageError(
            f"{seat.starter} started a process number {seat.local_rank} on this machine, from 0, which has "
            f"{num_visible} GPUs: a process takes one; start fewer, or give --device cpu"
        )
    return seat.local_rank


@contextlib.contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """`writable_folder` of the process that leads, which alone needs it.

    Raises:
        DataError: it cannot be written to.
    """
    with writable_folder(folder, "-c") if processes.leads() else contextlib.nullcontext():
        yield


def text_tower(options: Options, checkpoint: Checkpoint | None, path: Path | None) -> TextTower:
    """CLIP's tower, or the random one, or the copy in a checkpoint of the release.

    Raises:
        DataError: no weights to be had, or not those that the checkpoint was trained with.
    """
    if checkpoint and checkpoint.tower is not None:
        if options.clip_weights:
            raise UsageError(f"--clip-weights with {path}, which holds its own text tower; leave it out")
        from common.release_compat import release_tower

        assert path is not None  # where the checkpoint was read
        return release_tower(checkpoint.tower, checkpoint.tower_source, path)
    asked = checkpoint.options.get("text_encoder") if checkpoint else options.text_encoder
    if checkpoint and asked not in (None, options.text_encoder):  # said before 350 MB are downloaded
        raise DataError(
            f"{path} was trained with the text tower '{checkpoint.tower_source}'; give --text-encoder {asked} again"
        )
    with processes.one_first():  # it may download
        tower = random_text_tower() if options.text_encoder == "random" else load_text_tower(options.clip_weights)
    if checkpoint and checkpoint.tower_fingerprint != tower.fingerprint:
        raise DataError(
            f"{path} was trained with the text tower '{checkpoint.tower_source}'; this run has '{tower.source}': "
            "give the same with --text-encoder or --clip-weights"
        )
    return tower


def build_model(
    options: Options, description: DatasetDescription, checkpoint: Checkpoint | None = None, path: Path | None = None
) -> DSGDiffu:
    """The network of the options on its device, with the checkpoint's weights if there is one.

    Raises:
        DataError: the checkpoint does not fit, or the text tower is not to be had.
        UsageError: a width, depth or device that cannot be.
    """
    config = DenoiserConfig(options.num_frames, options.width, options.depth, options.dropout)
    if checkpoint:
        config = checkpoint.network
    device = choose_device(options)
    tower = text_tower(options, checkpoint, path)
    parts = checkpoint.prompt_parts if checkpoint else description.prompt_parts
    diffusion = GaussianDiffusion(options.timestep, options.scale)
    precision, solver = PRECISIONS[options.precision], Solver(options.solver, options.eta)
    build = DSGDiffu.build
    if options.compat_release:
        from common.release_compat import ReleaseDSGDiffu

        build = ReleaseDSGDiffu.build
    try:
        model = build(config, description.skeleton, parts, tower, diffusion, precision, solver, options.chunk)
        if checkpoint:
            model.load_trained_state(checkpoint.weights)
    except (RuntimeError, ValueError) as error:
        if checkpoint is None:
            raise
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise DataError(f"{path}: its weights do not fit its own description ({reason})") from None
    if options.compile:
        check_compiler(device)
        model.compile()
    return model.to(device)


def check_compiler(device: torch.device) -> None:
    """Compile next to nothing, to see before the long work whether torch.compile finds what it needs.

    Raises:
        UsageError: it does not.
    """
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device=device))
    except Exception as error:  # what it raises differs between versions and devices
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UsageError(
            f"--compile does not work here ({lines[0]}); install a C++ compiler such as g++, or leave --compile out"
        ) from None


def train(model: DSGDiffu, dataset: Dataset, options: Options, resumed: Checkpoint | None, path: Path | None) -> None:
    """Train, then evaluate the best checkpoint on the test subjects."""
    folder = options.folder
    held_out = ",".join(options.val_subjects)
    test = ",".join(dict.fromkeys(clip.subject for clip in dataset.test))
    if options.no_eval:
        selection = "nothing: the last epoch (--no-eval)"
    elif held_out:
        selection = f"held-out training subjects {held_out} (--val-subjects)"
    else:
        selection = f"the test subjects {test}, as the field does"
    if not options.no_eval and not any(clip.counted.any() for clip in dataset.validation):
        raise DataError("no valid frame to choose the best epoch on; give --no-eval, --val-subjects or other -ste")
    annotation = truths_of(dataset.train)
    windows = training_windows(dataset, model, options)
    state = TrainingState.new(model, options)
    if resumed is not None:  # refused before anything is written
        assert path is not None  # where the checkpoint was read
        state.restore(resumed, path)
        state.check_place(windows, path)
        if resumed.epoch >= options.epochs and options.resume != AUTO:
            raise UsageError(f"{path} is at epoch {resumed.epoch} already, -e is {options.epochs}; give a larger -e")
        if resumed.annotation and kind_of_truth(resumed.annotation) != kind_of_truth(annotation):
            raise DataError(
                f"{path} was trained on {resumed.annotation}; the data is {annotation}: go on with the data of before"
            )
    print(f"the best epoch is chosen on {selection}")
    both = seen_in_training(options, options.as_data())
    if both:
        print(f"note: {both}")
    if processes.leads():
        if not options.nolog:
            with writable_folder(Path(options.log), "-l"):
                pass
        remove_parts(folder)  # first: half of a file is no run to move aside
        if path is None or path.resolve().parent != folder.resolve():
            keep_earlier_run(folder)
    tower, compat = model.prompt_encoder.tower, options.compat_release
    if processes.leads():
        write_manifest(folder, options, model.device, tower, annotation, None if resumed is None else resumed.epoch)
        write_json(folder / "options.json", options.as_data())

    def checkpoint(epoch: int, training: dict | None = None, ema: float = 0.0) -> Checkpoint:
        return Checkpoint(
            network=model.denoiser.config,
            skeleton=model.skeleton,
            prompt_parts=model.prompt_encoder.parts,
            num_timesteps=options.timestep,
            scale=options.scale,
            weights=model.trained_state(),
            tower_fingerprint=tower.fingerprint,
            tower_source=tower.source,
            compat_release=compat,
            options=options.as_data(),
            selection=selection,
            epoch=epoch,
            training=training,
            ema=ema,
            annotation=annotation,
        )

    bests, aside = [BEST, *([BEST_EMA] if options.ema else [])], {}
    if resumed is not None:
        place = f"{state.progress.batches} batches into epoch {state.epoch + 1}"
        print(
            f"going on {place if state.progress.batches else f'after epoch {state.epoch}'} with the learning rate "
            f"{state.learning_rate:g}{'; -lr is not used' if 'learning_rate' in options.given else ''}"
        )
        if state.processes_before != processes.count():
            exactly = "but for dropout, which each draws for itself" if options.dropout else "to within rounding"
            print(
                f"note: {state.processes_before} processes wrote {path}, {processes.count()} go on: the batches are "
                f"the same, and so is the training, {exactly}"
            )
        for name in bests if processes.leads() else ():
            if best_is_no_candidate(folder / name, model.skeleton, compat, state.epoch, selection):
                state.best[name] = Best()
                aside[name] = unused(folder, f"earlier_{name.removesuffix('_1_1.bin').removesuffix('_epoch')}_{{}}.bin")
    fit(model, dataset, windows, options, state, checkpoint, aside)
    for name in reversed(bests):
        best = processes.from_leader(partial(read_checkpoint, folder / name, model.skeleton, compat))
        model.load_trained_state(best.weights)
        measure(model, dataset.test, options, best, folder / name)
    if not processes.leads():
        return
    scene_file, clip = folder / "prediction.png", dataset.test[0]
    hypotheses = predict_clip(model, clip, sampling_of(options))
    render(scene_file, clip_scene(clip, hypotheses, model.skeleton))
    print(f"wrote {scene_file}")


def best_is_no_candidate(path: Path, skeleton: Skeleton, compat_release: bool, epoch: int, selection: str) -> bool:
    """Whether the best epoch of the file cannot be the best of a run that goes on after `epoch`; says why."""
    if not path.is_file():
        return False
    best = read_checkpoint(path, skeleton, compat_release)
    if best.epoch > epoch:
        why = "is of a later epoch, which this run will not have"
    elif best.selection != selection:
        why = f"was chosen on {best.selection}, which cannot be compared"
    else:
        return False
    print(f"{path} {why}: it gives way, to a file of its own, when this run has one")
    return True


def keep_earlier_run(folder: Path) -> None:
    """A run that the folder already holds is kept, in a folder of its own; files that no run writes stay."""
    if any(folder.glob("*.bin")):
        earlier = move_aside(folder, RUN_FILES)
        print(f"{folder} held a run already: moved to {earlier} (--resume {LAST} would have gone on with it)")


def sampling_of(options: Options) -> Sampling:
    return Sampling(
        num_frames=options.num_frames,
        num_hypotheses=options.num_proposals,
        sampling_timesteps=options.sampling_timesteps,
        batch_windows=options.batch_size,
        action_prompt=options.action_prompt,
        p2=options.p2,
        seed=options.seed,
        one_batch=options.debug,
    )


def measure(model: DSGDiffu, clips: list[Clip], options: Options, checkpoint: Checkpoint, path: Path) -> None:
    """Evaluate the model that the checkpoint at `path` was loaded into, print the tables, write them."""
    found = evaluate(model, clips, sampling_of(options), options.by_subject, progress="evaluation")
    if not processes.leads():
        return
    print(
        f"\n{path} (epoch {checkpoint.epoch}), {options.num_proposals} hypotheses, {options.sampling_timesteps} steps, "
        f"{found.num_frames} frames in {found.seconds:.0f} s\n"
    )
    print(report(found, options, checkpoint))
    scores = own_scores(found, options, checkpoint, path)
    facts = made_with(options, model.device, model.prompt_encoder.tower, truths_of(clips))
    for written in write_results(found, options, checkpoint, path, scores, facts):
        print(f"wrote {written}")


def own_scores(found: Evaluation, options: Options, checkpoint: Checkpoint, path: Path) -> DatasetScores | None:
    """Write the files for the dataset's own scorer, score them as it does and print that; None where there is none."""
    description = DATASETS[options.dataset]
    if description.export is None:
        return None
    if options.downsample > 1 or options.debug:
        print("no files for the dataset's own scorer: it takes every frame, not some (--debug, --downsample)")
        return None
    for written in description.export(options.folder, found.answers):
        print(f"wrote {written}")
    if not (description.score and found.num_frames):
        return None
    folder = options.folder / f"{SCORES}_{file_stem(options, checkpoint, path)}"
    scores = description.score(folder, found.answers, notes(options, checkpoint, found))
    print(f"\n{scores.tables}\n\nwrote {len(scores.written)} files of these scores to {folder}\n")
    return scores


def predict(model: DSGDiffu, clips: list[Clip], options: Options, checkpoint: Checkpoint, path: Path) -> None:
    """Write the predictions for 2D input that has no truth: no errors."""
    sampling = sampling_of(options)

    def answer(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        hypotheses = predict_clip(model, clip, sampling)
        return hypotheses.mean(axis=0), hypothesis_spread(hypotheses)

    answers = processes.shared_out(answer, clips, lambda clip: clip.num_frames)
    if not processes.leads():
        return
    poses: dict[str, dict[str, list[np.ndarray]]] = {}
    spread: dict[str, dict[str, list[np.ndarray]]] = {}
    told: dict[str, dict[str, str]] = {}
    for clip, (mean, deviation) in zip(clips, answers, strict=True):
        told.setdefault(clip.subject, {})[clip.action] = sampling.told(clip)
        poses.setdefault(clip.subject, {}).setdefault(clip.action, []).append(mean)
        spread.setdefault(clip.subject, {}).setdefault(clip.action, []).append(deviation)
    target = options.folder / f"{options.dataset}_predictions_{file_stem(options, checkpoint, path)}.npz"
    write_npz(
        target,
        positions_3d=poses,
        spread=spread,
        metadata={
            "unit": "metres",
            "frame": "camera space (x right, y down, z forward), relative to the root",
            "joints": list(model.skeleton.joint_names),
            "answer": "P-Agg, the mean of the hypotheses; spread: root mean square distance of the hypotheses from it",
            "num_proposals": options.num_proposals,
            "sampling_timesteps": options.sampling_timesteps,
            "action_prompt": options.action_prompt,
            "told": told,  # the action word that the network read; "" is none
        },
    )
    print(f"{options.dataset} has no 3D truth: predictions and no errors")
    print(f"wrote {target}")


def check_drawing(options: Options) -> None:
    """What can be known to be wrong before the long work of sampling.

    Raises:
        UsageError, DataError: the picture's name ends in nothing known; the video is no video.
    """
    for flag, name in (("--viz-output", options.viz_output), ("--viz-export", options.viz_export)):
        if name is not None and (not name or name.endswith(("/", os.sep)) or Path(name).is_dir()):
            raise UsageError(f"{flag} is '{name}', no file; name a file in a folder")
    if options.viz_output:
        check_output(options.viz_output, video=options.viz_video)
    if options.viz_video:
        check_video(options.viz_video)


def draw(model: DSGDiffu, dataset: Dataset, options: Options) -> None:
    """--render: the prediction of one clip, as a picture or film, or as numbers.

    Raises:
        UsageError: the clip is not there.
    """
    subject = options.viz_subject or dataset.test[0].subject
    action = options.viz_action or next((clip.action for clip in dataset.test if clip.subject == subject), "")
    views = [clip for clip in dataset.test if (clip.subject, clip.action) == (subject, action)]
    if not views:
        there = sorted({f"{clip.subject} {clip.action}".rstrip() for clip in dataset.test})
        raise UsageError(f"--viz-subject {subject} --viz-action {action}: no such clip; there are {', '.join(there)}")
    if options.viz_camera >= len(views):
        raise UsageError(f"--viz-camera is {options.viz_camera}; {subject} {action} has {len(views)} views, from 0")
    clip = views[options.viz_camera]
    hypotheses = predict_clip(model, clip, sampling_of(options))
    if options.viz_export:
        prediction = hypotheses.mean(axis=0)
        with replacing(options.viz_export) as part, open(part, "wb") as file:
            np.save(file, prediction)
        print(f"wrote {options.viz_export}: {prediction.shape}, camera space, root-relative, metres")
    if options.viz_output:
        scene = clip_scene(
            clip,
            hypotheses,
            model.skeleton,
            with_truth=not options.viz_no_ground_truth,
        )
        render(
            options.viz_output,
            scene,
            size=options.viz_size,
            limit=max(options.viz_limit, 0),
            downsample=options.viz_downsample,
            skip=options.viz_skip,
            bitrate=options.viz_bitrate,
            video=options.viz_video,
        )
        print(f"wrote {options.viz_output}")
