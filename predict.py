"""3D poses of the people in a video, in images or in 2D keypoints, with any trained network."""

import sys

from common.prediction import predict_script


def main(argv=None) -> int:
    return predict_script(argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
