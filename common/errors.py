"""The two ways a user can go wrong, and the exit code of each."""

import sys
from collections.abc import Callable


class UsageError(Exception):
    """A wrong command line: exit code 2. The message is one line: found, expected, what to do."""

    exit_code = 2


class DataError(Exception):
    """A file that is absent or odd: exit code 1. The message is one line: found, expected, what to do."""

    exit_code = 1


def exit_code(work: Callable[[], None]) -> int:
    """Do the work; a user's mistake becomes one line on standard error and its exit code."""
    try:
        work()
    except (UsageError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # what the system refuses: a name too long, no permission, no space
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}; name another file or folder", file=sys.stderr)
        return DataError.exit_code
    return 0
