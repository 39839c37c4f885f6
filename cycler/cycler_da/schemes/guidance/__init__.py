"""Ways to guide every member towards the observations; a config names one after `guidance.kind`.

Importing this package registers them.
"""

from cycler_da.schemes.guidance import conjugate, drift, red
from cycler_da.schemes.guidance.base import Guidance, GuidanceSpec, Guided

__all__ = ["Guidance", "GuidanceSpec", "Guided", "conjugate", "drift", "red"]
