"""Ctrl-C, SIGTERM and SIGUSR1 in a training: they end it where it can be gone on with.

SLURM sends SIGTERM before it kills a job, and SIGUSR1 where `--signal=USR1@60` asks for it.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1")
    if hasattr(signal, name)  # Windows has no USR1
)
Request = signal.Signals | None


class StopNow(BaseException):
    """The run is to end here: what it is made of is whole. Like KeyboardInterrupt, nothing on the way takes it."""


class Stop:
    """Whether the run was asked to end. Between steps it is asked by `check`; `at_once` need not be.

    Args:
        agree: what was asked of one of the processes that share the run, in all of them.
    """

    def __init__(self, agree: Callable[[Request], Request]):
        self.requested: Request = None
        self._received: Request = None
        self._agree, self._at_once = agree, False

    def handle(self, number: int, _frame) -> None:
        if self._received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait
        self._received = signal.Signals(number)
        if self._at_once:
            self._at_once = False  # a second signal must not break off what is put in order on the way out
            raise StopNow

    def is_requested(self) -> bool:
        """By now, of any process; all come here together."""
        self.requested = self._agree(self._received)
        return self.requested is not None

    def check(self) -> None:
        """As `is_requested`.

        Raises:
            StopNow: the run was asked to end.
        """
        if self.is_requested():
            raise StopNow

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Work that changes nothing of what is kept: a request to this process ends it where it is.

        Raises:
            StopNow: there is or was one.
        """
        self._at_once = True
        try:
            if self._received:
                raise StopNow
            yield
        finally:
            self._at_once = False


@contextlib.contextmanager
def stop_requests(agree: Callable[[Request], Request]) -> Iterator[Stop]:
    """Take the signals, and give them back to whom they belonged. One that the shell has us ignore stays ignored."""
    stop, before = Stop(agree), {}
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop.handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
