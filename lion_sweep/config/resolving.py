"""From what Hydra composed to a typed configuration, and from there to a file and back."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from lion_sweep.config.schema import Config
from lion_sweep.config.section import frozen, plain, sections
from lion_sweep.errors import UserError
from lion_sweep.files import write_text

CONFIG = "config.yaml"


def register() -> None:
    """Make the schema known to Hydra under the name that conf/config.yaml asks for."""
    ConfigStore.instance().store(name="schema", node=Config)


def config_folder() -> Path:
    """The conf/ folder: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def resolve(composed: DictConfig) -> Config:
    """A typed `Config` with every interpolation resolved.

    Raises `UserError` for a missing value, and for a key of no section's declaration.
    """
    try:
        config = OmegaConf.to_object(composed)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise UserError(f"{key} has no value: give it one with {key}=VALUE.") from None
    assert isinstance(config, Config)
    for path, section in sections(config):
        declared = {field.name for field in fields(section)}  # type: ignore[arg-type]
        for name, value in list(vars(section).items()):
            if name not in declared:
                key = f"{path}.{name}" if path else name
                raise UserError(f"{key} is no setting: leave +{key} out, or correct its name.")
            if isinstance(value, dict):  # which interpolations bring enumerations into
                setattr(section, name, plain(value, keep_sections=True))
    if config.recipe.lora and config.recipe.lora.rank == 0:
        config.recipe.lora = None
    return frozen(config)


def write_config(config: Config, folder: Path, on_top: dict[str, Any]) -> None:
    """Write `config.yaml` atomically: `on_top`, then every key of the configuration."""
    whole = OmegaConf.create(on_top | plain(config))
    write_text(folder / CONFIG, OmegaConf.to_yaml(whole))


def read_config(folder: Path) -> Config:
    """Read what `write_config` wrote, equal to what was written.

    Raises `UserError` for a configuration of another version.
    """
    written = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    known = {key: value for key, value in written.items() if key not in ("id", "axes")}
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), known))
    except OmegaConfBaseException as error:
        raise UserError(
            f"{folder / CONFIG} was written by another version of lion_sweep: "
            f"{str(error).splitlines()[0]}"
        ) from None
    assert isinstance(config, Config)
    return frozen(config)
