"""Train and evaluate on Human3.6M with CPN detections (and the other datasets of `-d`)."""

import sys

from common.arguments import H36M_CPN
from common.runs import run_script


def main(argv=None) -> int:
    return run_script(argv, H36M_CPN, __doc__)


if __name__ == "__main__":
    sys.exit(main())
