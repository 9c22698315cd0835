"""The ways from many hypotheses to one answer, and what each needs: what every table says of its columns."""

from dataclasses import dataclass

ORACLE, TRUE_ROOT, DEPLOYABLE = "oracle", "needs the true root", "deployable"
_SIGNS = {ORACLE: "*", TRUE_ROOT: "+", DEPLOYABLE: ""}
_REMARKS = {ORACLE: "an oracle, not a result", TRUE_ROOT: "which no camera delivers", DEPLOYABLE: "deployable"}
LEGEND = "* an oracle: it looks at the truth; + needs the true root position; without a sign: deployable"
"""What stands under every table whose columns are settings."""


@dataclass(frozen=True)
class Setting:
    """How many hypotheses become one answer."""

    label: str
    what: str
    needs: str
    kind: str
    """ORACLE, TRUE_ROOT or DEPLOYABLE: it takes no more than a 2D detector and, at most, a calibrated camera."""

    @property
    def oracle(self) -> bool:
        return self.kind == ORACLE

    @property
    def marked(self) -> str:
        """The label with the sign that LEGEND explains."""
        return self.label + _SIGNS[self.kind]

    @property
    def note(self) -> str:
        """A line for those who read a table."""
        return f"{self.label}: {self.what}; needs {self.needs} -- {_REMARKS[self.kind]}"

    def as_data(self) -> dict:
        return {
            "label": self.label, "what": self.what, "needs": self.needs, "kind": self.kind, "oracle": self.oracle
        }  # fmt: skip


SETTINGS = {
    "P_Agg": Setting("P-Agg", "the mean of the hypotheses", "nothing", DEPLOYABLE),
    "J_Agg_est": Setting(
        "J-Agg-est", "as J-Agg, from root positions solved from the 2D input", "the camera", DEPLOYABLE
    ),
    "R_Agg": Setting(
        "R-Agg",
        "each joint's mean over the hypotheses, weighted by how close they reproject from solved root positions",
        "the camera",
        DEPLOYABLE,
    ),
    "J_Agg": Setting(
        "J-Agg",
        "each joint of the hypothesis that reprojects closest",
        "the camera and the true root position",
        TRUE_ROOT,
    ),
    "P_Best": Setting("P-Best", "the hypothesis with the least mean error", "the 3D truth", ORACLE),
    "J_Best": Setting("J-Best", "each joint of the hypothesis closest to the truth", "the 3D truth", ORACLE),
}
"""In the order of the tables' columns: what can be deployed first, oracles last."""
