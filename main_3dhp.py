"""Train and evaluate on MPI-INF-3DHP, and export the answers for its scorer (and the other datasets of `-d`)."""

import sys

from common.arguments import MPI_INF_3DHP
from common.runs import run_script


def main(argv=None) -> int:
    return run_script(argv, MPI_INF_3DHP, __doc__)


if __name__ == "__main__":
    sys.exit(main())
