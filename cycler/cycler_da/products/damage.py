"""Where a damaged file differs: variables and members whose values are not the recorded ones.

A damaged HDF5 file may end the process that reads it (the library follows what the file says), so it is read in a
process of its own: this module as a program, which takes the recorded hashes on its standard input and answers a list
of names on its standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cycler_da.errors import DataError
from cycler_da.products.gridfile import open_file, read_part
from cycler_da.products.provenance import logical_hash

UNREADABLE = "the structure of the file: it cannot be read"
_SECONDS = 120  # a reader that a damaged file leads in circles is ended


def damaged_arrays(path: Path, arrays: Mapping[str, Any]) -> list[str]:
    """Names of damaged variables, and of their members where hashes are of each; `arrays` as in a manifest."""
    command = [sys.executable, "-m", "cycler_da.products.damage", str(path)]
    try:
        done = subprocess.run(command, input=json.dumps(arrays), capture_output=True, text=True, timeout=_SECONDS)
        found: list[str] = json.loads(done.stdout) if done.returncode == 0 else [UNREADABLE]
    except (subprocess.TimeoutExpired, ValueError):
        return [UNREADABLE]
    return found


def differing(path: Path, arrays: Mapping[str, Any]) -> Iterator[str]:
    """The same in this process, for files that are known to open."""
    with open_file(path) as dataset:
        for name, recorded in arrays.items():
            single = not isinstance(recorded, Mapping)
            for position, (member, wanted) in enumerate({"": recorded}.items() if single else recorded.items()):
                try:
                    values = read_part(path, dataset.variables[name], ... if single else position)
                    is_whole = logical_hash(values) == wanted
                except (DataError, KeyError):
                    is_whole = False
                if not is_whole:
                    yield name if single else f"{name} of member {member}"


if __name__ == "__main__":
    print(json.dumps(list(differing(Path(sys.argv[1]), json.loads(sys.stdin.read())))))
