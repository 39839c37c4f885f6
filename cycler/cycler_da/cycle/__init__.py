"""One cycle: forecast, observe, check, analyse, write, verify, draw, publish."""

from cycler_da.cycle.running import STAGES
from cycler_da.cycle.work import CycleWork

__all__ = ["STAGES", "CycleWork"]
