"""What the processes of test_processes.py train and evaluate. A module of its own: each of them imports it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from common import processes
from common.arguments import H36M_GT
from common.clip_text import TextTowerConfig, random_text_tower
from common.datasets import load_dataset
from common.denoiser import DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.evaluation import Sampling, evaluate
from common.model import DSGDiffu
from common.skeleton import H36M
from common.text_prompts import ACTION_PROMPT
from common.training import shared_gradient
from common.training_state import TrainingState
from common.windows import TrainingWindows
from tests.conftest import awaken

NUM_STEPS = 20


def tiny_model() -> DSGDiffu:
    torch.manual_seed(1)
    tower = random_text_tower(config=TextTowerConfig(width=32, layers=1, heads=4))
    return awaken(DSGDiffu.build(DenoiserConfig(9, 16, 3), H36M, ACTION_PROMPT, tower, GaussianDiffusion()))


def evaluate_and_train(data: str, out: str, accumulate: int) -> int:
    """Evaluate a tiny network, then train it for 20 steps; process 0 writes what came out to the file `out`.json.

    The other processes write the averages that they have: each decides by them which epoch is the best.
    """

    def work() -> None:
        torch.set_num_threads(1)
        dataset = load_dataset("h36m", data, "gt", subjects_train=["S1"], subjects_test=["S9"])
        model = tiny_model()
        found = evaluate(model, dataset.test, Sampling(9, 2, 2, 4, p2=True), by_subject=True)
        if not processes.leads():
            Path(f"{out}.{processes.rank()}.json").write_text(json.dumps(printed(found.average("S9"))))
        rows = {row: [table.num_frames, printed(table.errors)] for row, table in found.rows("S9").items()}

        options = replace(H36M_GT, num_frames=9, stride=9, batch_size=9 * 7, accumulate=accumulate, learning_rate=3e-3)
        windows = TrainingWindows(dataset.train, 9, H36M, options.batch_windows, options.augmentation, options.seed)
        state, network, losses = TrainingState.new(model, options), processes.training_network(model), []
        model.train()
        for epoch in range(NUM_STEPS):
            for number, chosen in enumerate(windows.order(epoch)):
                if len(losses) < NUM_STEPS:
                    loss = shared_gradient(model, network, windows, chosen, options, (epoch, number))
                    state.optimizer.step()
                    losses.append([len(chosen), loss.item()])
        weights = {
            name: weight.double().sum().item()
            for name, weight in model.trained_state().items()
            if name.endswith("weight")
        }
        if processes.leads():
            found = {"rows": rows, "average": printed(found.average("S9")), "losses": losses, "weights": weights}
            Path(f"{out}.json").write_text(json.dumps(found))

    return processes.take_part(work, "advice")


def printed(errors: dict) -> dict:
    """Errors in mm with the six decimals that the log has."""
    return {
        f"{protocol} {name}": [f"{value:f}" for value in error]
        for protocol, settings in errors.items()
        for name, error in settings.items()
    }


if __name__ == "__main__":
    sys.exit(evaluate_and_train(sys.argv[1], sys.argv[2], 1))
