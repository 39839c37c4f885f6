from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np

from cycler_da.products.provenance import code_version, environment, logical_hash, sha256_file


def test_file_hash_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_logical_hash_is_the_sha256_of_type_shape_and_little_endian_values() -> None:
    values = np.asarray([[1.0, 2.0], [3.0, -0.5]], dtype=np.float32)
    expected = hashlib.sha256(b"f4|2x2|" + values.astype("<f4").tobytes()).hexdigest()
    assert logical_hash(values) == expected


def test_logical_hash_ignores_memory_order_and_byte_order() -> None:
    values = np.arange(12.0).reshape(3, 4)
    assert logical_hash(values) == logical_hash(np.asfortranarray(values))
    assert logical_hash(values) == logical_hash(values.astype(">f8"))
    assert logical_hash(values) == logical_hash(np.stack([values, values], axis=-1)[..., 0])


def test_logical_hash_tells_type_shape_and_every_bit_apart() -> None:
    values = np.arange(4.0)
    flipped = values.copy()
    flipped.view(np.uint8)[17] ^= 1
    others = [values.astype(np.float32), values.reshape(2, 2), values.astype(np.int64), flipped, -values[:0]]
    hashes = {logical_hash(other) for other in [values, *others]}
    assert len(hashes) == 6
    assert logical_hash(np.asarray([0.0])) != logical_hash(np.asarray([-0.0]))


def test_code_version_names_the_commit_of_the_checkout(repository: Path) -> None:
    commit = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    code_version.cache_clear()
    assert not commit or f"+g{commit}" in code_version()


def test_environment_names_the_libraries_that_make_the_numbers() -> None:
    facts = environment()
    assert {"python", "machine", "cpu_count", "torch", "numpy"} <= facts.keys()
    assert facts["numpy"] == np.__version__
