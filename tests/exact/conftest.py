"""Problems with dense answers that several tests share are found by name."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
if str(FOLDER) not in sys.path:
    sys.path.insert(0, str(FOLDER))
