"""Every YAML under config/ is read strictly: it is valid as it stands, and a key too many is refused wherever it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cycler_da.config import ExperimentConfig, load_config, read_settings, read_spec
from cycler_da.errors import ConfigError
from cycler_da.generative.networks import build_network
from cycler_da.obs.qc_settings import QCSettings
from cycler_da.setting import build_setting
from cycler_da.training_run import read_train_config

CONFIG = Path(__file__).resolve().parents[2] / "config"
EXPERIMENTS = sorted((CONFIG / "experiments").glob("*.yaml"))
BASES = sorted((CONFIG / "base").glob("*.yaml"))
TRAININGS = sorted((CONFIG / "train").glob("*.yaml"))

#: What a base leaves to its experiments.
REST: dict[str, Any] = {
    "name": "rest",
    "seed": 1,
    "cycles": {"start": "2020-01-01T00:00Z", "count": 1},
    "observations": [],
    "chains": [{"name": "free_run", "scheme": {"kind": "free_run"}}],
    "forecast": {"kind": "persistence"},
    "start": {"kind": "ensemble_file", "path": "start.nc"},
}

#: Blocks whose keys are names of variables, not of settings.
BY_VARIABLE = {"scale", "thresholds", "error", "error_at_zero", "bounds", "stream_check_above"}


def named(paths: list[Path]) -> list[Any]:
    return [pytest.param(path, id=str(path.relative_to(CONFIG))) for path in paths]


def read_all(config: ExperimentConfig) -> None:
    """Read every block of an experiment into its Spec, without weights or data."""
    read_spec("system", config.system, where="system")
    read_spec("start", config.start, where="start")
    read_spec("forecast", config.forecast, where="forecast")
    read_spec("executor", config.executor, where="executor")
    read_spec("scheme", {**config.fallback.letkf, "kind": "letkf"}, where="fallback.letkf")
    if config.nature is not None:
        read_spec("nature", config.nature, where="nature")
    for chain in config.chains:
        read_spec("scheme", chain.scheme, where=chain.name)
        if chain.forecast is not None:
            read_spec("forecast", chain.forecast, where=chain.name)
    for stream in config.observations:
        read_spec("operator", stream.operator, where=stream.stream)
        read_settings(QCSettings, stream.qc, where=stream.stream)
        if stream.draw is not None:
            read_spec("network_of_sites", stream.draw.network, where=stream.stream)


def blocks(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all blocks of settings in a config."""
    if isinstance(content, dict):
        if place and place[-1] in BY_VARIABLE:
            return
        yield place
        for key, value in content.items():
            yield from blocks(value, (*place, key))
    elif isinstance(content, list):
        for position, value in enumerate(content):
            yield from blocks(value, (*place, position))


def with_stranger(content: Any, place: tuple[Any, ...]) -> Any:
    """A copy with one unknown key in the block at a place."""
    changed = copy.deepcopy(content)
    block = changed
    for step in place:
        block = block[step]
    block["stranger"] = 1
    return changed


def test_there_are_configs_of_every_kind() -> None:
    assert EXPERIMENTS and BASES and TRAININGS
    listed = {path.parent.name for path in CONFIG.rglob("*.yaml")}
    assert listed == {"experiments", "base", "train"}, "a folder of configs that no test reads"


@pytest.mark.parametrize("path", named(EXPERIMENTS))
def test_an_experiment_is_strictly_valid(path: Path) -> None:
    config = load_config(path)
    read_all(config)
    assert config.name == path.stem
    assert "extends" in yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", named(BASES))
def test_a_base_is_strictly_valid(path: Path, tmp_path: Path) -> None:
    own = yaml.safe_load(path.read_text())
    rest = {key: value for key, value in REST.items() if key not in own}
    child = tmp_path / "child.yaml"
    child.write_text(yaml.safe_dump({**rest, "extends": str(path)}))
    read_all(load_config(child))
    assert any(yaml.safe_load(other.read_text()).get("extends", "").endswith(path.name) for other in EXPERIMENTS)


@pytest.mark.parametrize("path", named(TRAININGS))
def test_a_training_is_strictly_valid_and_its_network_can_be_built(path: Path) -> None:
    config = read_train_config(path)
    settings = config.settings("cpu")
    build_network(settings.network, seed=0)


@pytest.mark.parametrize("path", named(EXPERIMENTS))
def test_an_unknown_key_is_refused_in_every_block_of_an_experiment(path: Path, tmp_path: Path) -> None:
    whole = load_config(path).resolved()
    places = list(blocks(whole))
    assert len(places) > 10
    changed = tmp_path / "changed.yaml"
    for place in places:
        changed.write_text(yaml.safe_dump(with_stranger(whole, place)))
        with pytest.raises(ConfigError, match="stranger"):
            read_all(load_config(changed))


@pytest.mark.parametrize("path", named(TRAININGS))
def test_an_unknown_key_is_refused_in_every_block_of_a_training(path: Path, tmp_path: Path) -> None:
    whole = yaml.safe_load(path.read_text())
    changed = tmp_path / "changed.yaml"
    for place in blocks(whole):
        content = with_stranger(whole, place)
        if place == ("scaling",):
            content["scaling"]["stranger"] = [1.0]
        changed.write_text(yaml.safe_dump(content))
        with pytest.raises(ConfigError, match="stranger"):
            build_network(read_train_config(changed).settings("cpu").network, seed=0)


@pytest.mark.parametrize("path", named(EXPERIMENTS))
def test_an_experiment_is_built_with_its_weights(path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    config = load_config(path)
    models = [config.forecast, *(chain.forecast for chain in config.chains if chain.forecast)]
    absent = [model["weights"] for model in models if "weights" in model and not Path(model["weights"]).is_dir()]
    if absent:
        pytest.skip(f"{path.name} needs weights that are not in this checkout: {', '.join(absent)}")
    setting = build_setting(config)
    assert [chain.name for chain in setting.chains] == [block.name for block in config.chains]
    assert len(setting.valid_times) == config.cycles.count + 1
    assert setting.notes == (), "what `cycler check` warns of"


@pytest.mark.parametrize("path", named(EXPERIMENTS))
def test_what_is_stored_with_the_products_reads_back_as_the_same_experiment(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    stored = tmp_path / "experiment.yaml"
    stored.write_text(yaml.safe_dump(config.resolved(), sort_keys=False))
    assert load_config(stored) == config
    assert load_config(stored).digest == config.digest
