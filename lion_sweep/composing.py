"""From the words of a command line to the configurations of its cells, through Hydra."""

import copy
from collections.abc import Sequence

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigResult

from lion_sweep.config import AXES, Config, resolve


class _ReadOnce(CachingConfigRepository):
    """Keeps what was read of conf/ from cell to cell, which saves a third of a grid's composing.

    Hydra copies its repository for every cell, and changes what it gets from it.
    """

    def __deepcopy__(self, memo: object) -> "_ReadOnce":
        return self

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A copy of the file's content that its reader may change."""
        return copy.deepcopy(super().load_config(config_path=config_path))


def compose_cells(
    cells: Sequence[Sequence[str]],
) -> tuple[list[Config], list[Config | None]]:
    """(configurations, the cells that their budgets are anchored to) of lists of overrides."""
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    as_it_was = loader.repository
    loader.repository = _ReadOnce(as_it_was)  # type: ignore[assignment]
    try:
        configs = [compose(cell) for cell in cells]
        return configs, [reference(*pair) for pair in zip(configs, cells, strict=True)]
    finally:
        loader.repository = as_it_was


def compose(overrides: Sequence[str]) -> Config:
    """The configuration of one cell."""
    return resolve(hydra.compose("config", overrides=list(overrides)))


def reference(config: Config, overrides: Sequence[str]) -> Config | None:
    """The cell that a budget is anchored to: the same command line with other axes and budget."""
    anchor = config.budget.anchor
    if anchor is None:
        return None
    keys = [override.lstrip("+~").split("=")[0] for override in overrides]
    kept = [
        override
        for override, key in zip(overrides, keys, strict=True)
        if key not in AXES and key.split(".")[0] != "budget"
    ]
    axes = [f"{axis}={getattr(anchor, axis)}" for axis in AXES]
    return compose([*kept, *axes, "budget=epochs", f"budget.epochs={anchor.epochs}"])
