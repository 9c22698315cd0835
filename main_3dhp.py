"""Train and evaluate on MPI-INF-3DHP, and export the answers for its scorer (and the other datasets of `-d`)."""

import sys

from common.errors import exit_code


def run(argv) -> int:
    # Here, since PyTorch takes seconds to import, and Ctrl-C then is one line too.
    from common.arguments import MPI_INF_3DHP
    from common.runs import run_script

    return run_script(argv, MPI_INF_3DHP, __doc__)


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
