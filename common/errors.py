"""The ways a command ends other than well: a user's mistakes, a signal, Ctrl-C; each one line and an exit code."""

import argparse
import contextlib
import re
import sys
from collections.abc import Callable, Iterator

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Storage size calculation overflowed")
"""What PyTorch says, on its devices, of an allocation that fails."""


class _OneLineError(Exception):
    """Its message is one line that any terminal can show, whatever the names in it are that a file made up."""

    def __init__(self, message: str):
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in message))


class UsageError(_OneLineError):
    """A wrong command line: exit code 2. The message is one line: found, expected, what to do."""

    exit_code = 2


class DataError(_OneLineError):
    """A file that is absent or odd: exit code 1. The message is one line: found, expected, what to do."""

    exit_code = 1


class StoppedError(_OneLineError):
    """A training that a signal ended, after it saved all it takes to go on: exit code 75, sysexits' "try again"."""

    exit_code = 75


INTERRUPTED = 130
"""The exit code of what Ctrl-C ended otherwise: 128 and the signal's number, as shells have it."""


class OneLineParser(argparse.ArgumentParser):
    """argparse whose mistakes are one line: UsageError instead of the usage and an exit."""

    def error(self, message):
        raise UsageError(f"{message} (--help lists the options)")


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def exit_code(
    work: Callable[[], int | None], after_interrupt: str = "run it again", tell: Callable[[str], None] = to_stderr
) -> int:
    """Do the work; a user's mistake, or Ctrl-C, becomes one line on standard error and its exit code.

    Args:
        work: all that the command does, the reading of its command line included; returns its exit code, None for 0.
        after_interrupt: what helps after Ctrl-C.
        tell: prints the line.
    """
    try:
        return work() or 0
    except (UsageError, DataError) as error:
        tell(f"error: {error}")
        return error.exit_code
    except StoppedError as stopped:
        tell(str(stopped))
        return stopped.exit_code
    except OSError as error:  # what the system refuses: a name too long, no permission, no space
        if error.filename is None:
            raise
        tell(f"error: {error.filename}: {error.strerror}; name another file or folder")
        return DataError.exit_code
    except KeyboardInterrupt:
        tell(f"interrupted; {after_interrupt}")
        return INTERRUPTED


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
