"""The two ways a user can go wrong, and the exit code of each."""


class UsageError(Exception):
    """A wrong command line: exit code 2. The message is one line: found, expected, what to do."""

    exit_code = 2


class DataError(Exception):
    """A file that is absent or odd: exit code 1. The message is one line: found, expected, what to do."""

    exit_code = 1
