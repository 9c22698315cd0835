"""Train and evaluate on Human3.6M with CPN detections (and the other datasets of `-d`)."""

import sys

from common.errors import exit_code


def run(argv) -> int:
    # Here, since PyTorch takes seconds to import, and Ctrl-C then is one line too.
    from common.arguments import H36M_CPN
    from common.runs import run_script

    return run_script(argv, H36M_CPN, __doc__)


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
