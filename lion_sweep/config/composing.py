"""From the words of a command line to typed configurations, through Hydra; to a file and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from lion_sweep.config.choosing import chosen_by, refusal, register_choosing
from lion_sweep.config.schema import AXES, Config
from lion_sweep.config.section import frozen, plain, sections
from lion_sweep.config.sharing import composed, shared
from lion_sweep.errors import UserError, sentence
from lion_sweep.files import write_text

CONFIG = "config.yaml"
PRIMARY = "config"  # of conf/, which every other one starts from
NULL_SECTION = (AssertionError, AttributeError)  # what OmegaConf raises there


def swept(words: Sequence[str]) -> list[list[str]]:
    """The words of every cell: those given, with one value of each that names several.

    As Hydra's own sweeper, which cannot take a key away (`~key`). Raises `UserError` for an
    interval, of whose values there is no end.
    """
    options: dict[str, list[str]] = {}
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    for word, override in zip(words, parser.parse_overrides(list(words)), strict=True):
        key, values = override.get_key_element(), [word]
        if override.is_interval_sweep():
            raise UserError(f"{word} has no end of values: list those to try, as in {key}=1,2,3.")
        if override.is_sweep_override():
            values = [f"{key}={value}" for value in override.sweep_string_iterator()]
        if not values:
            raise UserError(f"{word} fits no option of {key}.")
        options.pop(key, None)  # the last one counts, where it stands
        options[key] = values
    return [list(cell) for cell in product(*options.values())]


def compose_cells(
    cells: Sequence[Sequence[str]], primary: str = PRIMARY
) -> tuple[list[Config], list[Config | None]]:
    """(configurations, the cells that their budgets are anchored to) of lists of overrides.

    `primary` is the file that the overrides change. Raises `UserError` where two options have one
    name.
    """
    refuse_hidden(GlobalHydra.instance().config_loader())
    with shared():
        configs = [compose(cell, primary) for cell in cells]
        refuse_namesakes(configs, cells)
        told = zip(configs, cells, strict=True)
        return configs, [reference(config, cell, primary) for config, cell in told]


def refuse_hidden(loader: ConfigLoader) -> None:
    """Refuse an option that stands in two folders: Hydra reads the first, and says nothing."""
    for group in loader.list_groups(""):
        read: dict[str, str] = {}
        for source in loader.get_sources():
            options = source.list(group, ObjectType.CONFIG) if source.is_group(group) else []
            for option in options:
                first = read.setdefault(option, source.path)
                if first != source.path:
                    raise UserError(
                        f"{source.path}/{group}/{option}.yaml is never read, as {first} has an "
                        f"option of that name too: call it otherwise, and choose {group}=THAT."
                    )


def refuse_namesakes(configs: Sequence[Config], cells: Sequence[Sequence[str]]) -> None:
    """Refuse options of one grid that tables would show under one name."""
    options: dict[tuple[str, str], str] = {}
    for config, words in zip(configs, cells, strict=True):
        for word in words:
            group, _, option = word.partition("=")
            name = getattr(getattr(config, group, None), "name", None)
            if name is None:
                continue
            other = options.setdefault((group, str(name)), option)
            if other != option:
                raise UserError(
                    f"{group}={other} and {group}={option} are both named {name}, so that no table "
                    f"could tell them apart: give one of their files another `name:`."
                )


# What a key of an earlier version is now.
MOVED = {
    "teacher.encoder": "teacher=minilm teacher.scorers.encoder.model=MODEL",
    "teacher.encoder_weight": "teacher.scorers.encoder.weight, with teacher=minilm",
    "teacher.bm25_weight": "teacher.scorers.own.weight",
    "teacher.length": "teacher.scorers.encoder.length, with teacher=minilm",
    "evaluation.sparse_engine": "engine=lucene, seismic or exact",
    "evaluation.bm25_engine": "engine=lucene, or engine.kinds.words._target_=CLASS",
    "evaluation.seismic": "engine.kinds.sparse, with engine=seismic",
    "evaluation.dense_precision": "engine.kinds.dense.half=true",
}


def refuse_moved(overrides: Sequence[str]) -> None:
    """Name the key that a former one has become. Raises `UserError`."""
    for word in overrides:
        key = word.lstrip("+~").split("=")[0]
        for old, new in MOVED.items():
            if f"{key}.".startswith(f"{old}."):
                raise UserError(f"{word}: {old} is no more, say {new}.")


def compose(overrides: Sequence[str], primary: str = PRIMARY) -> Config:
    """The configuration of one cell."""
    refuse_moved(overrides)
    try:
        found = composed(primary, overrides)
    except NULL_SECTION as error:
        raise inside_null(error, overrides) from None
    return resolve(found)


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


def reference(config: Config, overrides: Sequence[str], primary: str) -> Config | None:
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
    budget = ["budget=epochs", f"budget.epochs={anchor.epochs}"]
    return compose([*kept, *axes, *budget], primary)


def register() -> None:
    """Make known the schema, under the name that conf/config.yaml asks for, and `${by:...}`."""
    register_choosing()
    ConfigStore.instance().store(name="schema", node=Config)


def config_folder() -> Path:
    """The conf/ folder: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def resolve(found: DictConfig) -> Config:
    """A typed `Config` with every interpolation resolved.

    Raises `UserError` for a missing value, of its own or another key's, and for a key of no
    section's declaration.
    """
    try:
        config = OmegaConf.to_object(found)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise UserError(f"{key} has no value: give it one with {key}=VALUE.") from None
    except InterpolationKeyError as error:
        key, reason = error.full_key, str(error).splitlines()[0]
        raise UserError(f"{key} is taken from elsewhere: {reason}: say {key}=VALUE.") from None
    except InterpolationResolutionError as error:
        raise refusal(error) or error from None
    assert isinstance(config, Config)
    for path, section in sections(config):
        declared = {field.name for field in fields(section)}  # type: ignore[arg-type]
        for name, value in list(vars(section).items()):
            if name not in declared:
                key = f"{path}.{name}" if path else name
                raise UserError(f"{key} is no setting: leave +{key} out, or correct its name.")
            if isinstance(value, dict):  # which interpolations bring enumerations into
                value = plain(value, keep_sections=True)
            setattr(section, name, _at_home(value))
    config.recipe.by = chosen_by(found.recipe)
    if config.recipe.lora and config.recipe.lora.rank == 0:
        config.recipe.lora = None
    return frozen(config)


def _at_home(value: Any) -> Any:
    """With the folder of the user in place of the ~ that a path begins with."""
    if isinstance(value, dict):
        return {key: _at_home(item) for key, item in value.items()}
    at_home = isinstance(value, str) and value.startswith("~/")
    return str(Path(value).expanduser()) if at_home else value


def write_config(config: Config, folder: Path, on_top: dict[str, Any]) -> None:
    """Write `config.yaml` atomically: `on_top`, then every key of the configuration."""
    whole = OmegaConf.create(on_top | plain(config))
    write_text(folder / CONFIG, OmegaConf.to_yaml(whole))


def read_config(folder: Path) -> Config:
    """Read what `write_config` wrote, equal to what was written.

    Raises `UserError` for a configuration that cannot be read, or is of another version.
    """
    path = folder / CONFIG
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        known = {key: value for key, value in written.items() if key not in ("id", "axes")}
    except (OSError, ValueError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {sentence(error)}") from None
    return config_of(known, path)


def config_of(told: Mapping[str, Any], path: Path) -> Config:
    """The configuration that `path` tells. Raises `UserError` for one of another version.

    What was written is settled: an interpolation in it would read this machine's environment.
    """
    if "${" in json.dumps(told):
        raise UserError(f"{path} is not as lion_sweep writes it: it has ${{...}} in it.")
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), dict(told)))
    except OmegaConfBaseException as error:
        raise UserError(
            f"{path} was written by another version of lion_sweep: {str(error).splitlines()[0]}"
        ) from None
    assert isinstance(config, Config)
    return frozen(config)
