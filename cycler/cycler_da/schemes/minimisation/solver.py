"""Which solver a variational scheme uses, within which limits; the solvers themselves are in `variational`."""

from __future__ import annotations

from dataclasses import dataclass

from cycler_da.errors import AnalysisFailed
from cycler_da.obs.base import Observations
from cycler_da.schemes.base import Needs
from cycler_da.schemes.frame.settings import require

SOLVERS = ("dense", "cg", "control")


@dataclass(frozen=True)
class Solver:
    """A solver by name; raises ConfigError, naming the scheme, for one that does not exist or cannot start."""

    name: str
    max_observations: int  # of the dense solver
    most_loops: int  # of the control solver
    scheme: str

    def __post_init__(self) -> None:
        require(self.name in SOLVERS, "solver", self.name, expected=" or ".join(SOLVERS), scheme=self.scheme)
        expected = "a whole number from 1"
        for name, number in (("max_observations", self.max_observations), ("most_loops", self.most_loops)):
            require(number >= 1, name, number, expected=expected, scheme=self.scheme)

    def needs(self, *, n_members: int) -> Needs:
        """What a scheme with this solver cannot do without."""
        return Needs(couples_members=True, linear_operators=self.name != "control", n_members=n_members)

    def require_fitting(self, observations: Observations) -> None:
        """Raise AnalysisFailed for more observations than a dense matrix holds, or an operator that is not linear."""
        if self.name == "dense" and len(observations) > self.max_observations:
            raise AnalysisFailed(
                f"{self.scheme}: {len(observations)} observations; expected at most {self.max_observations}, because "
                "the matrix is dense. Set solver: cg, thin the observations, or raise max_observations."
            )
        if self.name == "control" or observations.is_linear:
            return
        names = sorted({batch.operator.name for batch in observations.batches if not batch.operator.is_linear})
        raise AnalysisFailed(
            f"{self.scheme}: the operators {', '.join(names)} are not linear; solver {self.name} expects linear ones. "
            "Set solver: control, which linearises them again and again, or use another scheme."
        )
