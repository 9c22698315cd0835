"""Work side by side."""

import threading

import pytest
import torch

from common.threads import side_by_side


@pytest.fixture(autouse=True)
def four_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_answers_come_in_the_order_of_the_pieces(workers):
    first = threading.Event()

    def slow():
        if workers > 1:
            assert first.wait(60)  # for a piece after it: they do run side by side
        return 0

    pieces = [slow, lambda: first.set() or 1, lambda: 2, lambda: 3, lambda: 4]
    assert side_by_side(pieces, workers) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("workers", "expected"), [(1, 4), (2, 2), (3, 1), (4, 1), (50, 1)])
def test_workers_share_the_threads_and_give_them_back(workers, expected):
    assert side_by_side([torch.get_num_threads] * 8, workers) == [expected] * 8
    assert torch.get_num_threads() == 4


def test_no_more_workers_than_pieces():
    assert side_by_side([torch.get_num_threads] * 2, 4) == [2, 2]
    assert side_by_side([torch.get_num_threads], 4) == [4]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_gradients_are_kept(workers):
    weight = torch.ones(3, requires_grad=True)
    assert not any(answer.requires_grad for answer in side_by_side([lambda: weight * 2] * 2, workers))


def test_what_goes_wrong_in_a_piece_goes_wrong_outside_and_the_threads_are_given_back():
    done = []

    def fails():
        raise ValueError("found in a piece")

    with pytest.raises(ValueError, match="found in a piece"):
        side_by_side([fails, *[lambda: done.append(1)] * 2], 2)
    assert torch.get_num_threads() == 4
