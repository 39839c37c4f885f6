"""Drills of the surroundings: weights, configs, time zone, locale, file mode."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from cycler_da.drills.trials import Ground, Outcome, judged

TYPOS = (
    "cycels.count=3",
    "ensemble.member=8",
    "forecast.weigths=x",
    "chains.letkf.scheme.inflaton=1.1",
    "observations.insitu.qc.backgroundcheck=5",
    "ensemble.members=many",
    "cycles.start=yesterday",
    "cycles.every=25h",
    "observations.insitu.operator.kind=point",
    "executor.kind=slurm",
    "verification.scale={q9: 1.0}",
    "verification.scale={}",
)


def wrong_weights(ground: Ground, draw: random.Random) -> Outcome:
    """A bit flips in the weights, they are cut short, gone, or their card is of another network."""
    with ground.drill() as drill:
        copy = drill.folder / "weights"
        shutil.copytree(ground.system.folder / "weights", copy)
        draw.choice((_flip, _cut, _remove, _edit))(copy, draw)
        result = drill.run(f"forecast.weights={copy}")
        is_refused = result.code == 78 and not drill.root.exists() and "Traceback" not in result.output
        return Outcome(is_refused, drill.root.exists(), told="" if is_refused else f"ended with {result.code}")


def wrong_setting(ground: Ground, draw: random.Random) -> Outcome:
    """An unknown key or a value that cannot be: refused before anything runs, with the key named."""
    setting = draw.choice(TYPOS)
    with ground.drill() as drill:
        result = drill.run(setting)
        named = setting.split("=")[0].split(".")[-1] in result.output or "valid" in result.output
        is_refused = result.code == 78 and named and not drill.root.exists()
        return Outcome(is_refused, drill.root.exists(), told="" if is_refused else f"{setting}: {result.code}")


def other_surroundings(ground: Ground, draw: random.Random) -> Outcome:
    """Another time zone, locale, file mode and home: the same bytes."""
    environment = {
        "TZ": draw.choice(("Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati", "Europe/Berlin")),
        "LC_ALL": draw.choice(("C", "C.UTF-8", "POSIX", "de_DE.UTF-8")),
        "HOME": "/nonexistent",
        "http_proxy": "http://127.0.0.1:9",
    }
    with ground.drill() as drill:
        result = drill.run(environment=environment, umask=draw.choice((0o000, 0o022, 0o027, 0o077)))
        return judged(drill, result, ground.undisturbed)


def _flip(folder: Path, draw: random.Random) -> None:
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def _cut(folder: Path, draw: random.Random) -> None:
    path = draw.choice((folder / "weights.safetensors", folder / "card.json"))
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size - 1)])


def _remove(folder: Path, draw: random.Random) -> None:
    (folder / draw.choice(("weights.safetensors", "card.json"))).unlink()


def _edit(folder: Path, draw: random.Random) -> None:
    card = json.loads((folder / "card.json").read_text())
    card["network"]["arguments"]["products"] = draw.randint(3, 9)
    (folder / "card.json").write_text(json.dumps(card))
