"""Work side by side."""

import threading
import time

import pytest
import torch

from common.threads import NobodyWaitsError, num_workers, side_by_side
from tests.conftest import torch_threads


@pytest.fixture(autouse=True)
def four_threads():
    with torch_threads(4):  # which are given back, whatever happens
        yield


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_answers_come_in_the_order_of_the_pieces(workers):
    first = threading.Event()

    def slow(_go_on):
        if workers > 1:
            assert first.wait(60)  # for a piece after it: they do run side by side
        return 0

    pieces = [slow, lambda _: first.set() or 1, lambda _: 2, lambda _: 3, lambda _: 4]
    assert side_by_side(pieces, workers) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("workers", "expected"), [(1, 4), (2, 2), (3, 1), (4, 1), (50, 1)])
def test_workers_share_the_threads(workers, expected):
    assert side_by_side([lambda _: torch.get_num_threads()] * 8, workers) == [expected] * 8


@pytest.mark.parametrize(
    ("num_pieces", "threads", "expected"),
    [
        (1, 1, 1),
        (1, 4, 1),  # one product by all threads
        (2, 4, 2),
        (20, 4, 4),
        (3, 2, 1),  # two would take as long as four pieces do
        (5, 2, 1),
        (20, 3, 3),
        (7, 16, 7),
        (1000, 64, 64),
        (0, 4, 1),
    ],
)
def test_so_many_workers_are_done_the_soonest(num_pieces, threads, expected):
    assert num_workers(num_pieces, threads) == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_no_gradients_are_kept(workers):
    weight = torch.ones(3, requires_grad=True)
    assert not any(answer.requires_grad for answer in side_by_side([lambda _: weight * 2] * 2, workers))


def test_one_worker_takes_a_piece_when_the_one_before_is_done():
    done = []

    def pieces():
        for number in range(3):
            assert len(done) == number
            yield lambda _: done.append(1)

    side_by_side(pieces(), 1)
    assert len(done) == 3


def test_what_goes_wrong_in_a_piece_ends_the_others():
    ended, begun = [], threading.Event()

    def fails(_go_on):
        assert begun.wait(60)
        raise ValueError("found in a piece")

    def endless(go_on):
        begun.set()
        try:
            while True:
                go_on()
                time.sleep(0.001)
        except NobodyWaitsError:
            ended.append("in work")
            raise

    later = [lambda _: ended.append("never begun")] * 50
    for pieces in ([fails, endless, *later], [endless, fails, *later]):
        with pytest.raises(ValueError, match="found in a piece"):
            side_by_side(pieces, 2)
        assert ended == ["in work"]
        ended.clear()
        begun.clear()


def test_an_interrupted_caller_does_not_wait_for_all_of_it():
    """As a signal does: it is raised where the main thread waits."""
    ended, begun = [], threading.Barrier(3)

    def endless(go_on):
        begun.wait(60)
        try:
            while True:
                go_on()
                time.sleep(0.001)
        except NobodyWaitsError:
            ended.append(1)
            raise

    def pieces():
        yield endless
        yield endless
        yield lambda _: ended.append("never begun")
        begun.wait(60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side(pieces(), 2)
    assert ended == [1, 1]


def test_few_pieces_are_taken_that_are_not_done():
    taken, done, most = 0, [], 0

    def pieces():
        nonlocal taken, most
        for _ in range(50):
            taken += 1
            most = max(most, taken - len(done))
            yield lambda _: done.append(time.sleep(0.002))

    side_by_side(pieces(), 2)
    assert len(done) == 50
    assert 2 <= most <= 4


@pytest.mark.parametrize("workers", [1, 2])
def test_pieces_run_in_the_callers_inference_mode(workers):
    with torch.inference_mode():
        answers = torch.empty(4, 3)
        side_by_side([lambda _, answer=answer: answer.fill_(1) for answer in answers], workers)
    assert torch.equal(answers, torch.ones(4, 3))


def test_two_callers_do_not_mix_up_the_threads():
    found = []
    callers = [
        threading.Thread(target=lambda: found.extend(side_by_side([lambda _: torch.get_num_threads()] * 9, 2)))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [2] * 36
