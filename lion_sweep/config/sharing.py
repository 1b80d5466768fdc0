"""Many cells composed for the price of few: what they have in common is read and merged once."""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf


class _Shared(CachingConfigRepository):
    """Keeps what was read of conf/, and what options make of it, from cell to cell.

    Hydra copies its repository for every cell, and changes what it gets from it. Everything is
    kept pickled, which is copied in half the time that deepcopy takes.
    """

    def __init__(self, delegate: IConfigRepository) -> None:
        super().__init__(delegate)
        self._files: dict[str, bytes] = {}
        self._options: dict[tuple[str, ...], bytes] = {}

    def __deepcopy__(self, memo: object) -> "_Shared":
        return self

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A copy of the file's content that its reader may change."""
        if config_path not in self._files:
            self._files[config_path] = pickle.dumps(super().load_config(config_path=config_path))
        return pickle.loads(self._files[config_path])

    def of_options(self, primary: str, words: Sequence[str]) -> DictConfig:
        """A copy of what the chosen options alone make."""
        key = (primary, *words)
        if key not in self._options:
            self._options[key] = pickle.dumps(hydra.compose(primary, overrides=list(words)))
        copy: DictConfig = pickle.loads(self._options[key])
        return copy


@contextmanager
def shared() -> Iterator[None]:
    """Meanwhile cells share what they have in common."""
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    as_it_was = loader.repository
    loader.repository = _Shared(as_it_was)  # type: ignore[assignment]
    try:
        yield
    finally:
        loader.repository = as_it_was


def composed(primary: str, words: Sequence[str]) -> DictConfig:
    """As `hydra.compose`, which only changes single values after it has merged all options.

    Raises what that raises: where anything goes wrong, it is asked.
    """
    loader = GlobalHydra.instance().config_loader()
    repository = loader.repository if isinstance(loader, ConfigLoaderImpl) else None
    if isinstance(repository, _Shared):
        try:
            overrides = OverridesParser.create(loader).parse_overrides(list(words))
            options = [one for one in overrides if _chooses(one, repository)]
            values = [one for one in overrides if not _chooses(one, repository)]
            if all(one.type is OverrideType.CHANGE and one.package is None for one in values):
                found = repository.of_options(primary, [str(one.input_line) for one in options])
                for one in values:
                    OmegaConf.update(found, one.key_or_group, one.value(), merge=True)
                return found
        except Exception:  # of the parser, Hydra, OmegaConf: told below, in Hydra's words
            pass
    return hydra.compose(primary, overrides=list(words))


def _chooses(override: Override, repository: IConfigRepository) -> bool:
    """Whether it chooses a file, by Hydra's own rule, or says where files are."""
    of_group = repository.group_exists(override.key_or_group)
    return override.is_hydra_override() or (of_group and not isinstance(override.value(), dict))
