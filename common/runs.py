"""A run from its options to its files: what main.py, main_gt.py and their like have in common."""

import contextlib
import itertools
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from common.aggregation import hypothesis_spread
from common.arguments import Options, parse_options
from common.checkpoints import BEST, LAST, Checkpoint, find_checkpoint, read_checkpoint
from common.clip_text import TextTower, load_text_tower, random_text_tower
from common.clips import Clip, kind_of_truth, truths_of
from common.dataset_description import DatasetDescription
from common.datasets import DATASETS, Dataset, load_dataset
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.errors import DataError, UsageError, exit_code
from common.evaluation import Sampling, evaluate, predict_clip
from common.files import replacing, write_json
from common.model import DSGDiffu
from common.npz_files import write_npz
from common.rendering import check_output, check_video, render
from common.results import file_stem, notes, report, seen_in_training, write_results
from common.scenes import clip_scene
from common.skeleton import Skeleton
from common.solvers import Solver
from common.training import TrainingState, fit

SCORES = "scores"
"""What the folder, in the run's, of a dataset's own scores begins with; then comes the evaluation's name."""
RUN_FILES = (
    "*.bin", "options.json", "training_log.*", "training_curves.png", "prediction.png", "*_test_log_*.txt",
    "results_*.json", "*_predictions_*.npz", "inference_data_*.mat", f"{SCORES}_*",
)  # fmt: skip
"""What a run writes into its folder."""

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Storage size calculation overflowed")
"""What PyTorch says, on its devices, of an allocation that fails."""

PRECISIONS = {"32": None, "bf16-mixed": torch.bfloat16}


def run_script(argv: Sequence[str] | None, defaults: Options, description: str) -> int:
    """Parse, run, and turn a user's mistake into one line; returns the exit code."""
    return exit_code(
        lambda: run_within_memory(parse_options(argv, defaults, description)),
        after_interrupt="run an evaluation again; a training that has a last.bin goes on with --resume last.bin",
    )


def run_within_memory(options: Options) -> None:
    """`run`; what does not fit into memory is one line too.

    Raises:
        UsageError, DataError: one line.
    """
    with memory_in_one_line("-b, -num_proposals, -sampling_timesteps, -timestep, -f, -cs or -dep"):
        run(options)


@contextlib.contextmanager
def memory_in_one_line(options: str) -> Iterator[None]:
    """What does not fit into memory becomes a line that names the options to make smaller.

    Raises:
        UsageError: it did not fit.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        size = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
        raise UsageError(
            f"not enough memory{f' for {size[1]}' if size else ''}; ask for less at a time: a smaller {options}"
        ) from None


def run(options: Options) -> None:
    """Train and evaluate, or evaluate, or draw, as the options say.

    Raises:
        UsageError, DataError: one line.
    """
    description = DATASETS[options.dataset]
    name = options.evaluate or options.resume
    path = find_checkpoint(name, options.folder) if name else None
    checkpoint = read_checkpoint(path, description.skeleton, options.compat_release) if path else None
    if checkpoint:
        options = options_with(checkpoint, options, path)
        description = DATASETS[options.dataset]
    if options.render:
        check_drawing(options)
    with run_folder(options.folder):
        dataset = dataset_of(options)
        torch.manual_seed(options.seed)
        model = build_model(options, description, checkpoint, path)
        if options.trains:
            train(model, dataset, options, checkpoint, path)
        elif options.render:
            draw(model, dataset, options)
        elif description.has_truth:
            measure(model, dataset.test, options, checkpoint, path)
        else:
            predict(model, dataset.test, options, checkpoint, path)


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
        DataError: an option given contradicts the checkpoint.
    """
    network = checkpoint.network
    try:
        its_run = options.over(checkpoint.options)
    except TypeError as error:
        raise DataError(f"{path} lacks a part of a checkpoint ({error}); it may be damaged") from None
    if options.resume:
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
    stored = {"width": network.width, "depth": network.depth, "timestep": checkpoint.num_timesteps}
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
        raise DataError(
            f"{path} was trained with -f {network.num_frames}; -f {num_frames} was given: give -f {network.num_frames}"
            + ("" if options.resume else " or fewer")
        )
    trained_on = checkpoint.options.get("keypoints")
    if trained_on not in (None, options.keypoints):
        print(f"note: trained on the 2D input '{trained_on}', run on '{options.keypoints}'")
    options = replace(options, **stored, num_frames=num_frames)
    options.check()
    return options


def choose_device(options: Options) -> torch.device:
    """--device if given, else the first of -gpu, else the CPU, saying so.

    Raises:
        UsageError: no such device.
    """
    name = options.device
    if name is None:
        first = options.gpu.split(",")[0].strip()
        if not torch.cuda.is_available():
            print("no CUDA device here: running on the CPU")
            return torch.device("cpu")
        if "," in options.gpu:
            print(f"note: one process uses one device; taking cuda:{first} of -gpu {options.gpu}")
        name = f"cuda:{first}"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("only cpu and cuda are known to work")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the device '{name}' cannot be used ({str(error).splitlines()[0]}); try --device cpu"
        ) from None
    return device


def check_folder(folder: Path, flag: str) -> bool:
    """Make the folder, and see at once that it can be written to; returns whether it is new.

    Raises:
        DataError: it cannot.
    """
    try:
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
        return new
    except FileExistsError:
        raise DataError(f"{flag} {folder} is a file; name a folder") from None
    except OSError as error:
        raise DataError(f"{flag} {folder} cannot be written to ({error.strerror}); name another folder") from None


@contextlib.contextmanager
def run_folder(folder: Path, flag: str = "-c") -> Iterator[None]:
    """Make the run's folder, and see at once that it can be written to; a run that left nothing leaves no folder.

    Raises:
        DataError: it cannot be written to.
    """
    new = check_folder(folder, flag)
    try:
        yield
    finally:
        if new and not any(folder.iterdir()):
            folder.rmdir()


def text_tower(options: Options, checkpoint: Checkpoint | None, path: Path | None) -> TextTower:
    """CLIP's tower, or the random one, or the copy in a checkpoint of the release.

    Raises:
        DataError: no weights to be had, or not those that the checkpoint was trained with.
    """
    if checkpoint and checkpoint.tower is not None:
        if options.clip_weights:
            raise UsageError(f"--clip-weights with {path}, which holds its own text tower; leave it out")
        from common.release_compat import release_tower

        return release_tower(checkpoint, path)
    asked = checkpoint.options.get("text_encoder") if checkpoint else options.text_encoder
    if asked not in (None, options.text_encoder):  # said before 350 MB are downloaded
        raise DataError(
            f"{path} was trained with the text tower '{checkpoint.tower_source}'; give --text-encoder {asked} again"
        )
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
    state = TrainingState.new(model, options)
    if resumed is not None:  # refused before anything is written
        state.restore(resumed, path)
        if resumed.epoch >= options.epochs:
            raise UsageError(f"{path} is at epoch {resumed.epoch} already, -e is {options.epochs}; give a larger -e")
        if resumed.annotation and kind_of_truth(resumed.annotation) != kind_of_truth(annotation):
            raise DataError(
                f"{path} was trained on {resumed.annotation}; the data is {annotation}: go on with the data of before"
            )
    print(f"the best epoch is chosen on {selection}")
    both = seen_in_training(options, options.as_data())
    if both:
        print(f"note: {both}")
    if not options.nolog:
        check_folder(Path(options.log), "-l")
    if resumed is None or path.resolve().parent != folder.resolve():
        move_aside(folder)
    write_json(folder / "options.json", options.as_data())
    tower, compat = model.prompt_encoder.tower, options.compat_release

    def checkpoint(epoch: int, training: dict | None) -> Checkpoint:
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
            annotation=annotation,
        )

    aside = None
    if resumed is not None:
        print(f"going on after epoch {state.epoch} with the learning rate {state.learning_rate:g}; -lr is not used")
        if best_is_no_candidate(folder, model.skeleton, compat, state.epoch, selection):
            state.best_error, aside = math.inf, unused(folder, "earlier_best_{}.bin")
    fit(model, dataset, options, state, checkpoint, aside)
    best = read_checkpoint(folder / BEST, model.skeleton, compat)
    model.load_trained_state(best.weights)
    measure(model, dataset.test, options, best, folder / BEST)
    scene_file, clip = folder / "prediction.png", dataset.test[0]
    hypotheses = predict_clip(model, clip, sampling_of(options))
    render(scene_file, clip_scene(clip, hypotheses, model.skeleton))
    print(f"wrote {scene_file}")


def best_is_no_candidate(folder: Path, skeleton: Skeleton, compat_release: bool, epoch: int, selection: str) -> bool:
    """Whether the folder's best epoch cannot be the best of a run that goes on after `epoch`; says why."""
    if not (folder / BEST).is_file():
        return False
    best = read_checkpoint(folder / BEST, skeleton, compat_release)
    if best.epoch > epoch:
        why = "is of a later epoch, which this run will not have"
    elif best.selection != selection:
        why = f"was chosen on {best.selection}, which cannot be compared"
    else:
        return False
    print(f"{folder / BEST} {why}: it gives way, to a file of its own, when this run has one")
    return True


def move_aside(folder: Path) -> None:
    """A run that the folder already holds is kept, in a folder of its own; files that no run writes stay."""
    if not any(folder.glob("*.bin")):
        return
    earlier = unused(folder, "earlier_{}")
    earlier.mkdir()
    for path in sorted({path for pattern in RUN_FILES for path in folder.glob(pattern)}):
        path.rename(earlier / path.name)
    print(f"{folder} held a run already: moved to {earlier} (--resume {LAST} would have gone on with it)")


def unused(folder: Path, pattern: str) -> Path:
    """The first of the pattern's numbered names that the folder does not hold."""
    return next(path for number in itertools.count(1) if not (path := folder / pattern.format(number)).exists())


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
    print(
        f"\n{path} (epoch {checkpoint.epoch}), {options.num_proposals} hypotheses, {options.sampling_timesteps} steps, "
        f"{found.num_frames} frames in {found.seconds:.0f} s\n"
    )
    print(report(found, options, checkpoint))
    for written in write_results(found, options, checkpoint, path):
        print(f"wrote {written}")
    description = DATASETS[options.dataset]
    if description.export is None:
        return
    if options.downsample > 1 or options.debug:
        print("no files for the dataset's own scorer: it takes every frame, not some (--debug, --downsample)")
        return
    for written in description.export(options.folder, found.answers):
        print(f"wrote {written}")
    if description.score and found.num_frames:
        folder = options.folder / f"{SCORES}_{file_stem(options, checkpoint, path)}"
        text, written = description.score(folder, found.answers, notes(options, checkpoint, found))
        print(f"\n{text}\n\nwrote {len(written)} files of these scores to {folder}")


def predict(model: DSGDiffu, clips: list[Clip], options: Options, checkpoint: Checkpoint, path: Path) -> None:
    """Write the predictions for 2D input that has no truth: no errors."""
    poses, spread, told = {}, {}, {}
    sampling = sampling_of(options)
    for clip in clips:
        told.setdefault(clip.subject, {})[clip.action] = sampling.told(clip)
        hypotheses = predict_clip(model, clip, sampling)
        poses.setdefault(clip.subject, {}).setdefault(clip.action, []).append(hypotheses.mean(axis=0))
        spread.setdefault(clip.subject, {}).setdefault(clip.action, []).append(hypothesis_spread(hypotheses))
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
        check_output(options.viz_output)
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
