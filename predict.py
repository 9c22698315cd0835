"""3D poses of the people in a video, in images or in 2D keypoints, with any trained network."""

import sys

from common.errors import exit_code


def run(argv) -> int:
    from common.prediction import predict_script  # here, since PyTorch takes seconds to import: Ctrl-C then is one line

    return predict_script(argv, __doc__)


def main(argv=None) -> int:
    return exit_code(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
