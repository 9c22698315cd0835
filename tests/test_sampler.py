"""The sampler against the formulas written out again; chunks and batches do not show in its answers."""

import itertools
import math
import weakref

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from common.denoiser import Denoiser, DenoiserConfig
from common.diffusion import GaussianDiffusion
from common.sampler import (
    LEAST_SHARE,
    average_with_mirror,
    best_split,
    sample_hypotheses,
    sample_steps,
    sampling_times,
    window_noise,
)
from common.skeleton import H36M, mirror
from common.solvers import Solver
from common.text_prompts import Prompts
from common.threads import GAIN
from tests.conftest import awaken


def test_times_run_down_to_the_clean_pose():
    assert sampling_times(1000, 1) == [(999, -1)]
    assert sampling_times(1000, 4) == [(999, 749), (749, 499), (499, 249), (249, -1)]


def independent_ddim(denoise, alphas_cumprod, noise, eta):
    """Song et al. 2021, Eq. 12 and 16, on numbers alone, in float64."""
    steps = len(noise)
    times = [math.floor(-1 + 1000 * k / steps + 1e-9) for k in range(steps + 1)][::-1]
    x, found = noise[0].double(), []
    for k in range(steps):
        x0 = denoise(x.clamp(-1.1, 1.1), times[k]).clamp(-1.1, 1.1)
        found.append(x0)
        if times[k + 1] < 0:
            break
        a, b = alphas_cumprod[times[k]].item(), alphas_cumprod[times[k + 1]].item()
        epsilon = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
        sigma = eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b)
        x = math.sqrt(b) * x0 + math.sqrt(max(0, 1 - b - sigma**2)) * epsilon + sigma * noise[k + 1].double()
    return torch.stack(found)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_against_the_formula(eta):
    diffusion = GaussianDiffusion()
    noise = torch.randn(5, 2, 3, 4, 17, 3, generator=torch.Generator().manual_seed(0))

    def denoise(x, t):
        return torch.sin(3 * x) * (1 + t / 1000)

    found = sample_steps(lambda x, t: denoise(x, t[0].item()), diffusion, noise, Solver(eta=eta))
    expected = independent_ddim(denoise, diffusion.alphas_cumprod, noise, eta)
    torch.testing.assert_close(found.transpose(0, 1).double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [2, 3, 5, 10, 20])
def test_dpm_solver_against_diffusers(steps):
    diffusion = GaussianDiffusion()
    noise = torch.randn(steps, 2, 3, 4, 17, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = [time for time, _ in sampling_times(1000, steps)]
    scheduler = DPMSolverMultistepScheduler(
        trained_betas=diffusion.betas.numpy(), prediction_type="sample", algorithm_type="dpmsolver++", solver_order=2
    )
    scheduler.set_timesteps(timesteps=times)
    scheduler.alphas_cumprod = diffusion.alphas_cumprod
    x, expected = noise[0], []
    for time in times:
        x_start = torch.sin(3 * x.clamp(-1.1, 1.1)) * (1 + time / 1000)
        expected.append(x_start.clamp(-1.1, 1.1))
        x = scheduler.step(expected[-1], time, x).prev_sample
    found = sample_steps(lambda x, t: torch.sin(3 * x) * (1 + t[0].item() / 1000), diffusion, noise, Solver("dpm++2m"))
    torch.testing.assert_close(found.transpose(0, 1), torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_a_second_order_step_is_nearer_to_the_end_than_a_first_order_one():
    """Gaussian poses have an exact answer: x_start is linear in x, and so is the path without noise."""
    diffusion, spread = GaussianDiffusion(), 0.3
    noise = torch.randn(1, 1, 1, 1, 500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def denoise(x, t):
        alpha = diffusion.alphas_cumprod[t[0]].item()
        return alpha**0.5 * spread**2 / (alpha * spread**2 + 1 - alpha) * x

    def last(steps, solver):
        return sample_steps(denoise, diffusion, 0.3 * noise.expand(steps, *noise.shape[1:]), solver)[0, -1]

    exact = last(1000, Solver(eta=0))
    errors = [
        [(last(steps, solver) - exact).norm() for solver in (Solver(eta=0), Solver("dpm++2m"))] for steps in (10, 20)
    ]
    (first_10, second_10), (first_20, second_20) = errors
    assert 1.8 < first_10 / first_20 < 2.2  # twice the steps: half the error
    assert second_10 < first_10
    assert second_10 / second_20 > 4  # a quarter, or less


@pytest.mark.parametrize("solver", [Solver(), Solver(eta=0), Solver("dpm++2m")], ids=["eta 1", "eta 0", "dpm++2m"])
@pytest.mark.parametrize("steps", [*range(1, 21), 50, 1000])
def test_samples_are_finite_whatever_the_number_of_steps(steps, solver):
    noise = torch.randn(steps, 1, 1, 1, 2, 3, generator=torch.Generator().manual_seed(steps))
    assert sample_steps(lambda x, t: 0.5 * x, GaussianDiffusion(), noise, solver).isfinite().all()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    denoiser = awaken(Denoiser(DenoiserConfig(num_frames=5, width=16, depth=2), H36M)).eval()
    prompts = Prompts(torch.randn(3, 16), torch.randn(3, 77, 512))
    return denoiser, torch.randn(3, 5, 17, 2), prompts, torch.randn(2, 3, 4, 5, 17, 3)


@torch.no_grad()
def sample(network, chunk, windows=slice(None), threads=1):
    denoiser, x_2d, prompts, noise = network
    prompts = Prompts(prompts.text_proj[windows], prompts.text_tokens[windows])
    diffusion = GaussianDiffusion()
    return sample_hypotheses(
        denoiser.given, diffusion, x_2d[windows], prompts, noise[:, windows], H36M, chunk, threads=threads
    )


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 16])
def test_chunks_do_not_show(network, chunk):
    whole = sample(network, 10**9)
    assert whole.shape == (3, 2, 4, 5, 17, 3)
    torch.testing.assert_close(sample(network, chunk), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 8, 100])
@pytest.mark.parametrize("threads", [2, 3, 4, 30])
def test_threads_do_not_show(network, chunk, threads):
    whole, found = sample(network, 10**9), sample(network, chunk, threads=threads)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)
    assert torch.equal(sample(network, chunk, threads=threads), found)  # whichever thread is the faster one


@pytest.mark.parametrize(
    ("batch", "chunk", "threads", "expected"),
    [
        ((30, 5), 240, 1, (2, 1, 1)),
        ((30, 5), 240, 2, (2, 1, 2)),  # 15 windows each, not 24 and 6
        ((50, 5), 240, 2, (4, 1, 2)),  # three would leave a thread idle at the end
        ((20, 5), 240, 2, (2, 1, 2)),  # one piece would do without threads
        ((5, 5), 240, 2, (1, 1, 1)),  # 3 windows and 2 take as long as all threads for 5
        ((6, 5), 240, 2, (1, 1, 1)),  # too little for a thread
        ((1, 100), 240, 2, (1, 2, 2)),
        ((3, 20), 240, 2, (1, 2, 2)),  # 10 hypotheses each, not 2 windows and one
        ((4, 2), 20, 4, (2, 1, 2)),  # two threads for each
        ((40, 5), 240, 16, (5, 1, 5)),  # as many as are worth it, three threads for each
        ((4, 5), 2, 2, (4, 5, 2)),  # the published network: one hypothesis with its image at a time
        ((1, 3), 2, 2, (1, 2, 1)),  # 2 and 1 take longer than all threads for 3, with all of the two chunks
        ((1, 2), 1, 2, (1, 2, 2)),
        ((1, 1), 1, 4, (1, 1, 1)),
    ],
)
def test_the_split_that_is_done_the_soonest(batch, chunk, threads, expected):
    assert best_split(*batch, chunk, threads) == expected


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("chunk", [1, 2, 5, 20, 240])
def test_no_split_within_the_chunk_is_done_sooner(chunk, threads):
    """Tried out, with any number of workers."""

    def time(groups, parts, workers):
        largest = math.ceil(B / groups) * math.ceil(H / parts)
        assert 2 * largest <= max(2, chunk if workers > 1 else chunk * threads)
        return largest * math.ceil(groups * parts / workers) / (threads // workers) ** GAIN

    for B, H in itertools.product((1, 2, 3, 7, 12), (1, 2, 5, 7)):
        best = best_split(B, H, chunk, threads)
        found = time(*best) if best.workers > 1 else B * H / threads**GAIN
        assert found <= B * H / threads**GAIN
        for groups, parts in itertools.product(range(1, B + 1), range(1, H + 1)):
            within = 2 * math.ceil(B / groups) * math.ceil(H / parts) <= max(2, chunk)
            if within and LEAST_SHARE * chunk * groups * parts <= 2 * B * H:
                for workers in range(2, min(threads, groups * parts) + 1):
                    assert found <= time(groups, parts, workers) + 1e-9


@pytest.mark.parametrize("threads", [1, 2])
def test_what_windows_share_is_not_kept_for_all_of_them_at_once(network, threads):
    """Of 40 windows in 20 groups."""
    _, x_2d, prompts, _ = network
    living, most = weakref.WeakSet(), 0

    def given(x_2d, _prompts):
        nonlocal most

        def denoise(x_t, _t):
            return 0.5 * x_t

        living.add(denoise)
        most = max(most, len(living))
        return denoise

    many = Prompts(*(part[:1].expand(40, *part.shape[1:]) for part in prompts))
    noise = torch.randn(1, 40, 2, 5, 17, 3)
    answers = sample_hypotheses(
        given, GaussianDiffusion(), x_2d[:1].expand(40, -1, -1, -1), many, noise, H36M, 8, threads=threads
    )
    assert answers.shape == (40, 1, 2, 5, 17, 3)
    assert most <= 2 * threads + 2


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 20])
def test_no_chunk_is_larger_than_asked_for_however_many_hypotheses(network, chunk):
    _, x_2d, prompts, _ = network
    sequences = []

    def given(x_2d, _prompts):
        def denoise(x_t, _t):
            sequences.append(x_t.shape[0] * x_t.shape[1])
            assert len(x_t) == len(x_2d)
            return 0.5 * x_t

        return denoise

    for num_hypotheses in (1, 40):
        noise = torch.randn(2, 3, num_hypotheses, 5, 17, 3)
        sample_hypotheses(given, GaussianDiffusion(), x_2d, prompts, noise, H36M, chunk)
    assert max(sequences) == (chunk if chunk != 3 else 2)  # a window and its image are not taken apart for one more
    assert sum(sequences) == 2 * 2 * 3 * (1 + 40)


def test_what_hypotheses_and_steps_share_is_computed_once_a_window(network):
    denoiser, x_2d, prompts, noise = network
    windows = []

    def given(x_2d, prompts):
        windows.append(len(x_2d))
        return denoiser.given(x_2d, prompts)

    with torch.no_grad():
        sample_hypotheses(given, GaussianDiffusion(), x_2d, prompts, noise, H36M, 4)
    assert windows == [2, 2, 2]  # each window and its mirror image


def test_a_window_is_answered_alone(network):
    torch.testing.assert_close(sample(network, 10**9, slice(1, 2))[0], sample(network, 10**9)[1], atol=1e-5, rtol=1e-5)


def test_the_root_is_zero_and_hypotheses_differ(network):
    samples = sample(network, 10**9)
    assert not samples[..., H36M.root, :].any()
    assert (samples[:, -1, 0] - samples[:, -1, 1]).abs().max() > 1e-3


def test_the_mirrored_input_gives_the_mirrored_answer(network):
    denoiser, x_2d, prompts, noise = network
    noise = noise[:1]
    with torch.no_grad():
        plain = sample_hypotheses(denoiser.given, GaussianDiffusion(), x_2d, prompts, noise, H36M, 10**9)
        mirrored = sample_hypotheses(
            denoiser.given, GaussianDiffusion(), mirror(x_2d, H36M), prompts, mirror(noise, H36M), H36M, 10**9
        )
    torch.testing.assert_close(mirror(mirrored, H36M), plain, atol=1e-5, rtol=1e-5)


def test_both_copies_are_one_call(network):
    _, x_2d, prompts, noise = network
    batches = []

    def given(x_2d, _prompts):
        return lambda x_t, _t: batches.append(len(x_2d)) or x_t

    denoise = average_with_mirror(given, x_2d, prompts, H36M, rows=6)
    torch.testing.assert_close(denoise(noise[0], torch.zeros(3)), noise[0])
    assert batches == [6]


def test_noise_belongs_to_a_window():
    shape = (2, 3, 4, 17, 3)
    assert torch.equal(window_noise(1, "S9 Walking", 0, shape), window_noise(1, "S9 Walking", 0, shape))
    others = [window_noise(2, "S9 Walking", 0, shape), window_noise(1, "S9 Walking", 1, shape)]
    for other in [*others, window_noise(1, "S11 Walking", 0, shape)]:
        assert not torch.equal(window_noise(1, "S9 Walking", 0, shape), other)
