"""What registers itself can be named in a config: reading a config imports every file with a Spec."""

from __future__ import annotations

import re
import subprocess
import sys


def test_a_file_that_registers_a_spec_is_known_to_the_setting(repository):
    source = repository / "cycler"
    registering = {
        ".".join(path.relative_to(source).with_suffix("").parts)
        for path in (source / "cycler_da").rglob("*.py")
        if re.search(r"^@register\(", path.read_text(), re.M)
    }
    assert len(registering) > 10
    program = "import sys, cycler_da.setting; print(*(name for name in sys.modules if name.startswith('cycler_da')))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    missing = registering - set(result.stdout.split())
    assert not missing, f"name these files in the catalogue.py (or __init__.py) of their folder: {sorted(missing)}"
