"""Origin: all complete cycles of a chain are of one config, one model and one covariance.

Results of two configs cannot be told apart in a series, so that a change is refused unless everything that was made
with the other is made again (docs/operations.md, another experiment).
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np

from cycler_da.errors import ConfigError, MissingProduct, WeightsMismatch
from cycler_da.products.store import Store
from cycler_da.setting import Chain, Setting
from cycler_da.times import time_stamp

log = logging.getLogger(__name__)

_ADVICE = "give this experiment another name or root, or make revisions of all cycles with --force"


def require_same_origin(
    setting: Setting, chain: Chain, store: Store, *, made_again: Collection[np.datetime64] = ()
) -> None:
    """Compare the manifest of every complete cycle with what would be used now, but for those `made_again`.

    A manifest that cannot be read says nothing, and stops nobody but who needs its cycle: an old one must not hold up
    new cycles. Raises ConfigError for another config, WeightsMismatch for another model or covariance.
    """
    for time in (time for time in store.complete_cycles() if time not in made_again):
        try:
            inputs, folder = store.manifest(time)["inputs"], store.cycle_folder(time)
        except MissingProduct as error:
            log.warning("event=manifest_unreadable cycle=%s text=%s", time_stamp(time), error)
            continue
        config, model = inputs["config"], inputs["weights"].get("model")
        covariance = inputs["weights"].get("covariance", "")
        if config != setting.config.digest:
            raise ConfigError(
                f"{folder} was made with another config (sha256 {config[:12]}, now {setting.config.digest[:12]}); "
                f"{_ADVICE}"
            )
        if model != chain.model.digest:
            raise WeightsMismatch(
                f"{folder} was forecast by model {model}, the config's weights are now {chain.model.digest}; put the "
                f"earlier weights back, {_ADVICE}"
            )
        if covariance != chain.covariance_digest:
            raise WeightsMismatch(
                f"{folder} was analysed with B file {covariance or '(none)'}, the config's is now "
                f"{chain.covariance_digest or '(none)'}; put the earlier file back, {_ADVICE}"
            )
