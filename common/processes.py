"""The processes that share a run, one for each device: who starts them, what they exchange, and how they end together.

Every process runs the whole program on its own share of the windows and clips. `launch` starts them on one machine;
`torchrun` and SLURM's `srun` start them on several. They meet over torch.distributed: gloo between CPUs, NCCL between
GPUs. A run of one process meets nobody, and every function here then gives back what it was given.

Process 0 leads: it alone prints and writes. What goes wrong in all of them is said once.
"""

import contextlib
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing import ProcessExitedException, start_processes
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from common.errors import DataError, UsageError, exit_code, to_stderr
from common.signals import SIGNALS, StopNow
from common.threads import num_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

MEETING_TIME = timedelta(minutes=10)
"""So long a process waits for the others to be started."""
WORKING_TIME = timedelta(hours=12)
"""So long it waits for what another has to give: an evaluation's longest clip. Who dies is noticed at once."""
GRACE = 10.0
"""Seconds in which the others may end by themselves after one has failed."""
LOST = 76
"""The exit code of a process that ended because another one did: it is never the cause."""
LOST_WORDS = ("gloo", "NCCL", "by peer", "Broken pipe", "TCPStore")
"""What torch.distributed says where another process is gone."""
SILENCE = 180
"""So many looks, a second apart, may a process not answer: its machine, or the way to it, is gone."""
OURS = "this command"


@dataclass(frozen=True)
class Seat:
    """Which of a run's processes this one is, as whoever started it says."""

    rank: int
    """Among all."""
    count: int
    local_rank: int
    """Among those of this machine."""
    local_count: int | None
    """None: srun does not say in a plain number."""
    starter: str
    address: str
    port: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Seat | None":
        """The seat that the environment names, torchrun's or srun's; None: nobody started this process as one of many.

        Raises:
            UsageError: it names one by halves.
        """
        if "LOCAL_RANK" in environment and "WORLD_SIZE" in environment:
            rank, count, local_rank, local_count, port = (
                _whole_number(environment, name, "torchrun")
                for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
            )
            starter = environment.get(_STARTER, "torchrun")
            return cls(rank, count, local_rank, local_count, starter, environment.get("MASTER_ADDR", ""), port)
        if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":  # a batch script's own shell has no step
            names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_JOB_ID")
            rank, count, local_rank, job = (_whole_number(environment, name, "srun") for name in names)
            address = environment.get("MASTER_ADDR") or first_host(environment.get("SLURM_STEP_NODELIST", ""))
            port = _whole_number({"MASTER_PORT": str(15000 + job % 10000), **environment}, "MASTER_PORT", "srun")
            return cls(rank, count, local_rank, None, "srun", address, port)
        return None


_STARTER = "DSGDIFFU_STARTER"
"""Set in the environment of the processes that `launch` starts."""


def _whole_number(environment: Mapping[str, str], name: str, starter: str) -> int:
    value = environment.get(name)
    if value is None or not value.isdecimal():
        found = "absent" if value is None else f"'{value}'"
        raise UsageError(
            f"the environment has some of {starter}'s variables, but {name} is {found}, expected a number; start every "
            f"process with {starter}, or unset them"
        )
    return int(value)


def first_host(nodes: str) -> str:
    """The first name of SLURM's list of nodes: "gpu[03-05,9],cpu1" is gpu03 and others."""
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", nodes).split(",")[0]


def seat() -> Seat | None:
    return Seat.of(os.environ)


def count() -> int:
    """How many processes share this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This one's number among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def leads() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


# What they exchange. Every process must come to each of these.


def total(value: Tensor) -> Tensor:
    """The sum over the processes of a tensor on the model's device, the same in all of them."""
    if count() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def from_leader(make: Callable[[], Result]) -> Result:
    """What process 0 makes, in every process; the others make nothing."""
    if count() == 1:
        return make()
    made: list[Any] = [make() if leads() else None]
    dist.broadcast_object_list(made)
    return made[0]


def share(items: int, rank: int, count: int) -> slice:
    """Which of a number of items, side by side, are process `rank`'s: no two shares differ by more than one."""
    each, more = divmod(items, count)
    begin = rank * each + min(rank, more)
    return slice(begin, begin + each + (rank < more))


def any_of(flag: bool) -> bool:
    """Whether it is set in one of the processes."""
    return bool(total(torch.tensor(int(flag))))


def agreed(request: signal.Signals | None) -> signal.Signals | None:
    """A request that came to one of the processes, in all of them."""
    if count() == 1:
        return request
    number = torch.tensor(int(request or 0))  # on the CPU: nothing waits for a GPU
    dist.all_reduce(number, dist.ReduceOp.MAX)
    return signal.Signals(int(number)) if number else None


def shared_out(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    cost: Callable[[Item], float],
    within: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> list[Result]:
    """Do the work on every item, each in one process, the longest first to whoever has least.

    Args:
        work: what to do; its results travel to process 0.
        items: the same in every process.
        cost: about how long an item takes, in any unit.
        within: the context that a process does its share in. What it raises StopNow in ends there and is raised in all.

    Returns:
        The results in the items' order in process 0; [] in the others.

    Raises:
        StopNow: one of the processes was stopped.
    """
    mine = [number for number, owner in enumerate(owners([cost(item) for item in items], count())) if owner == rank()]
    done: list[tuple[int, Result]] = []
    stopped = None
    try:
        with within():
            done += [(number, work(items[number])) for number in mine]
    except StopNow as stop:
        stopped = stop
    if any_of(stopped is not None):
        raise stopped or StopNow
    if count() > 1:
        everyone: list[Any] | None = [None] * count() if leads() else None
        dist.gather_object(done, everyone)
        done = [pair for of_process in everyone or () for pair in of_process]
    return [result for _, result in sorted(done, key=lambda pair: pair[0])]


def owners(costs: Sequence[float], num_processes: int) -> list[int]:
    """Which process takes each item: from the longest down, each to the process that has the least to do."""
    loads, owner = [0.0] * num_processes, [0] * len(costs)
    for number in sorted(range(len(costs)), key=lambda number: -costs[number]):
        owner[number] = min(range(num_processes), key=lambda process: loads[process])
        loads[owner[number]] += costs[number]
    return owner


def mine_of(costs: Sequence[float]) -> float:
    """The part of all costs that `shared_out` gives to this process."""
    return sum(cost for cost, owner in zip(costs, owners(costs, count()), strict=True) if owner == rank())


@contextlib.contextmanager
def one_first() -> Iterator[None]:
    """One process of each machine goes through this before the others: what it puts into a cache, they find there."""
    place = seat() if count() > 1 else None
    if place and place.local_rank:
        dist.barrier()
    yield
    if place and not place.local_rank:
        dist.barrier()


def training_network(model: nn.Module) -> nn.Module:
    """The model, whose gradients after each backward pass are the mean over the processes (with `count() > 1`)."""
    if count() == 1:
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch 2.6 knows broadcast_buffers by this name alone
        # Without device_ids, on CUDA too: with them it would move all inputs, of which some belong on the CPU.
        return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)


def exchanging(network: Any, exchange: bool):
    """Within this, backward passes of `training_network` exchange gradients, or only add them up for a later one."""
    return contextlib.nullcontext() if exchange or count() == 1 else network.no_sync()


# Starting, and ending together.


def take_part(work: Callable[[], int | None], advice: str) -> int:
    """`exit_code` of work that several processes may share: meets the others, if there are any, and does its part.

    Args:
        work: returns its exit code, None for 0.
        advice: what helps after Ctrl-C, and after another process has died.

    Returns:
        The exit code. A process of several that failed does not come back: it ends here.
    """
    return exit_code(lambda: _take_part(work, advice), advice)


def _take_part(work: Callable[[], int | None], advice: str) -> int | None:
    place = seat()
    if place is None or place.count == 1:
        return work()
    alarm = _meet(place, advice)
    if place.rank:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 as long as the process is
        warnings.simplefilter("ignore")
    try:
        code = exit_code(lambda: _answering_signals(work), advice, alarm.tell)
        if code == 0:
            dist.barrier()  # the others' alarms may ask a store that lives in process 0
    except BaseException as error:
        if isinstance(error, RuntimeError) and any(words in str(error) for words in LOST_WORDS):
            alarm.lost(in_short(error))
        elif alarm.ring():
            raise
        code = LOST
    finally:
        alarm.off()
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # no goodbyes to processes that do not answer any more
    alarm.wait()
    dist.destroy_process_group()
    return code


def _answering_signals(work: Callable[[], int | None]) -> int | None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return work()


def _meet(place: Seat, advice: str) -> "Alarm":
    """Join the process group.

    The alarm, which has a connection of its own, is set first: who has joined can lose the others, and they it.

    Raises:
        DataError: the others did not come.
    """
    os.environ |= {
        "RANK": str(place.rank), "WORLD_SIZE": str(place.count), "MASTER_ADDR": place.address,
        "MASTER_PORT": str(place.port),
    }  # fmt: skip
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, count = next(dist.rendezvous("env://", timeout=MEETING_TIME))
        alarms = dist.TCPStore(place.address, place.port, is_master=False, timeout=MEETING_TIME)
        alarms.set_timeout(timedelta(seconds=SILENCE))
        alarm = Alarm(place, _of_this_attempt(alarms), advice)
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=WORKING_TIME)
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise DataError(
            f"process {place.rank} of {place.count} did not meet the others at {place.address}:{place.port} "
            f"({in_short(error)}); start all of them, and check that every machine reaches that address "
            "(GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name the network device to use)"
        ) from None
    return alarm


def _of_this_attempt(store: dist.Store) -> dist.Store:
    """The part of it for alarms, apart from those of the run before that torchrun starts anew."""
    return dist.PrefixStore(f"alarm {os.environ.get('TORCHELASTIC_RESTART_COUNT', '')}", store)


def in_short(error: Exception) -> str:
    """The first sentence of what PyTorch says, without the place in its code."""
    return re.sub(r"^\[\S+:\d+\] ", "", str(error).splitlines()[0]).split(". ")[0].rstrip(".")


class Alarm:
    """One process's failure ends the run: the first says why, the others end without a word.

    A thread looks for it, so that processes that wait for the one that failed end too.
    """

    def __init__(self, place: Seat, store: dist.Store, advice: str):
        self.place, self.store, self.advice = place, store, advice
        self.beats: dict[int, int] = {}
        self.silent: dict[int, int] = {}
        self.is_off = threading.Event()
        self.looks = 0
        self._beat()
        self.watch = threading.Thread(target=self._watch, daemon=True)
        self.watch.start()
        if place.starter != OURS:  # whose store is on this machine, and only paused if it does not answer
            threading.Thread(target=self._watch_store, daemon=True).start()

    def ring(self) -> bool:
        """Say that the run has failed; returns whether this process is the first to."""
        try:
            return self.store.add("failures", 1) == 1
        except RuntimeError:  # whoever held the store is gone
            return True

    def tell(self, line: str) -> None:
        """Print why the run ends, if no other process has."""
        if self.ring():
            to_stderr(line)

    def lost(self, reason: str) -> None:
        """Another process is gone without a word: print that, if nobody who knows more does."""
        what = f"process {self.place.rank} of {self.place.count} lost another one ({reason})"
        if self.place.starter == OURS:  # `launch` knows if one has died; if none has, this is why the run ends
            with contextlib.suppress(RuntimeError):  # `launch` itself is gone: nobody is left to tell
                if self.ring():
                    self.store.set("loss", what)
            return
        for _ in range(round(GRACE)):
            if self._has_rung():
                return
            time.sleep(0.5)
        self.tell(f"error: {what}; the run has ended: {self.advice}")

    def off(self) -> None:
        self.is_off.set()

    def wait(self) -> None:
        """Until its last question to the store is answered.

        A thread that comes back from PyTorch's code while the interpreter ends would abort the process.
        """
        self.watch.join()

    def _has_rung(self) -> bool:
        try:
            return self.store.check(["failures"])
        except RuntimeError:
            return False

    def _beat(self) -> None:
        self.store.add(f"beats of {self.place.rank}", 1)

    def _gone_silent(self) -> int | None:
        """A process that has been silent for too long: process 0 looks at the others, and they at it.

        Counted in this thread's looks, not by a clock: where all are paused together, nobody is silent.
        """
        for rank in range(1, self.place.count) if self.place.rank == 0 else (0,):
            beats = self.store.add(f"beats of {rank}", 0)
            waits = beats and beats == self.beats.get(rank)  # one that has not come yet is waited for elsewhere
            self.silent[rank] = self.silent.get(rank, 0) + 1 if waits else 0
            self.beats[rank] = beats
            if self.silent[rank] > SILENCE:
                return rank
        return None

    def _watch(self) -> None:
        reason = "it failed"
        while not self.is_off.wait(1.0):
            try:
                self._beat()
                if self.store.check(["failures"]):
                    break
                silent = self._gone_silent()
                self.looks += 1
            except RuntimeError as error:
                reason = in_short(error)
                break
            if silent is not None:
                self.tell(
                    f"error: process {silent} of {self.place.count} does not answer any more; the run has ended: "
                    f"{self.advice}"
                )
                break
        if not self.is_off.wait(GRACE):  # the main thread has not noticed: it waits for the one that is gone
            try:
                self.lost(reason)
            finally:
                os._exit(LOST)

    def _watch_store(self) -> None:
        """End the process if the store has been silent for too long: whoever asks it waits for ever."""
        before = silent = 0
        while not self.is_off.wait(1.0):
            silent = silent + 1 if self.looks == before else 0
            before = self.looks
            if silent > SILENCE:
                to_stderr(
                    f"error: process {self.place.rank} of {self.place.count} lost {self.place.address}, which does not "
                    f"answer any more; the run has ended: {self.advice}"
                )
                os._exit(LOST)


def check_cores(num_processes: int) -> None:
    """Processes inherit the cores of whoever starts them.

    Raises:
        UsageError: OpenMP has bound this one to a place, which they would all share.
    """
    if sys.platform != "linux" or os.environ.get("OMP_PROC_BIND", "").lower() == "false":
        return
    names = [name for name in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY") if os.environ.get(name)]
    cores = num_cores()
    if names and cores < max(num_processes, torch.get_num_threads()):
        raise UsageError(
            f"by {' and '.join(names)} this process is bound to {cores} core{'s' * (cores > 1)}, and so are the "
            f"{num_processes} that it would start; unset {'it' if len(names) == 1 else 'them'} for this command"
        )


def launch(num_processes: int, work: Callable[..., int], arguments: tuple, advice: str) -> int:
    """Start the processes on this machine and wait for them; whatever happens, none is left behind.

    Args:
        num_processes: one for each device.
        work: what each of them calls, a function of a module; it calls `take_part`.
        arguments: its arguments.
        advice: what helps after one has died.

    Returns:
        The exit code: that of the first that failed, 0 if all went well.

    Raises:
        UsageError: on Windows; see `check_cores`.
    """
    if sys.platform == "win32":
        raise UsageError(f"{num_processes} processes need Linux or macOS, for their signals; run one process here")
    check_cores(num_processes)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the processes inherit it, until they can answer
    started = start_processes(_work, (num_processes, store.port, work, arguments), num_processes, join=False)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # it tells how it ends who does not answer
    number = None
    with _passing_signals_on(started.processes):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            while not started.join(grace_period=2 * GRACE):  # in half of it they end by themselves
                pass
        except ProcessExitedException as failure:
            number = failure.error_index
    if number is None:
        return 0
    codes = [process.exitcode for process in started.processes]
    if codes[number] == LOST:  # which can end before the one that was lost
        number = next((n for n, code in enumerate(codes) if code not in (0, LOST)), number)
    code = codes[number]
    if code >= 0 and code != LOST:
        return code
    alarms, what = _of_this_attempt(store), f"process {number} of {num_processes} was ended"
    if alarms.check(["failures"]) and not alarms.check(["loss"]):
        return 1  # one of them has said why
    if code < 0:
        what += f" by {signal.Signals(-code).name}"
    elif alarms.check(["loss"]):
        what = alarms.get("loss").decode()
    to_stderr(f"error: {what}, and with it the run: {advice}")
    return 1 if code == LOST else 128 - code


@contextlib.contextmanager
def _passing_signals_on(workers: Sequence[multiprocessing.Process]) -> Iterator[None]:
    """Within this, signals go to the workers, who know what to do, and leave this process as it is."""

    def pass_on(number: int, _frame: object) -> None:
        for worker in workers:
            if worker.pid is not None and worker.is_alive():
                os.kill(worker.pid, number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _work(number: int, num_processes: int, port: int, work: Callable[..., int], arguments: tuple) -> None:
    """What a worker of `launch` does: look like one of torchrun's, and exit with the work's code."""
    os.setsid()  # a terminal's Ctrl-C reaches `launch`, which passes it on: once, not twice
    os.environ |= {
        "RANK": str(number), "WORLD_SIZE": str(num_processes), "LOCAL_RANK": str(number),
        "LOCAL_WORLD_SIZE": str(num_processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True", _STARTER: OURS,
    }  # fmt: skip
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    tqdm.set_lock(threading.RLock())  # its own is shared between processes, and outlives one that ends in a hurry
    try:
        code = work(*arguments)
    except Exception:  # a bug: torch would tell of that process alone that it finds ended first, which need not be this
        traceback.print_exc()
        code = 1
    sys.exit(code)
