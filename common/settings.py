"""The ways from many hypotheses to one answer, and what each needs: what every table says of its columns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """How many hypotheses become one answer."""

    label: str
    what: str
    needs: str
    oracle: bool


SETTINGS = {
    "J_Best": Setting("J-Best", "each joint of the hypothesis closest to the truth", "the 3D truth", True),
    "P_Best": Setting("P-Best", "the hypothesis with the least mean error", "the 3D truth", True),
    "P_Agg": Setting("P-Agg", "the mean of the hypotheses", "nothing", False),
    "J_Agg": Setting(
        "J-Agg", "each joint of the hypothesis that reprojects closest", "the camera and the true root position", False
    ),
}
