"""From the words of a command line to the configurations of its cells, through Hydra."""

import pickle
from collections.abc import Sequence

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigResult

from lion_sweep.config.resolving import resolve
from lion_sweep.config.schema import AXES, Config
from lion_sweep.errors import UserError

NULL_SECTION = (AssertionError, AttributeError)  # what OmegaConf raises there


class _ReadOnce(CachingConfigRepository):
    """Keeps what was read of conf/ from cell to cell, which saves a third of a grid's composing.

    Hydra copies its repository for every cell, and changes what it gets from it.
    """

    def __init__(self, delegate: IConfigRepository) -> None:
        super().__init__(delegate)
        self._pickled: dict[str, bytes] = {}  # copied in half the time that deepcopy takes

    def __deepcopy__(self, memo: object) -> "_ReadOnce":
        return self

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A copy of the file's content that its reader may change."""
        if config_path not in self._pickled:
            read = super().load_config(config_path=config_path)
            self._pickled[config_path] = pickle.dumps(read)
        found: ConfigResult | None = pickle.loads(self._pickled[config_path])
        return found


def compose_cells(cells: Sequence[Sequence[str]]) -> tuple[list[Config], list[Config | None]]:
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
    try:
        composed = hydra.compose("config", overrides=list(overrides))
    except NULL_SECTION as error:
        raise inside_null(error, overrides) from None
    return resolve(composed)


def inside_null(error: Exception, words: Sequence[str]) -> Exception:
    """What to do where OmegaConf fails to change a section that is null, or the error itself."""
    deep = [word for word in words if "=" in word and "." in word.split("=")[0]]
    known = any(said in str(error) for said in ("root: NoneType", "'NoneType' object has no"))
    if not (known and deep):
        return error
    return UserError(
        f"{' or '.join(deep)} changes a section that is null: choose the option of its group "
        "that has one, as in budget=anchor for budget.anchor."
    )


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
