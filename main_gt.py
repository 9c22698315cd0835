"""Train and evaluate on Human3.6M with 2D ground truth (and the other datasets of `-d`)."""

import sys

from common.arguments import H36M_GT
from common.runs import run_script


def main(argv=None) -> int:
    return run_script(argv, H36M_GT, __doc__)


if __name__ == "__main__":
    sys.exit(main())
