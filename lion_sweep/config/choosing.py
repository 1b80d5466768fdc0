"""Values that go by another key's, as a batch by the model's name.

    batch_size: "${by:model.name,{1b: 112, default: 128}}"

A cell's frozen configuration has what was chosen.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, Node, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from lion_sweep.errors import UserError

DEFAULT = "default"
CHOSEN = re.compile(r"\$\{by:([\w.]+),")
# How OmegaConf tells what a resolver has raised.
TOLD = f"{UserError.__name__} raised while resolving interpolation: "


def by(key: str, choices: Mapping[Any, Any], _root_: Any, _node_: Node) -> Any:
    """What `choices` have for the value of `key`, or their default; `UserError` for neither."""
    value = str(OmegaConf.select(_root_, key))
    named = {str(name): choice for name, choice in choices.items()}
    if value in named or DEFAULT in named:
        return named.get(value, named.get(DEFAULT))
    asking = _node_._get_full_key(None)
    raise UserError(
        f"{asking} goes by {key}, and says nothing of {value}: say {asking}=VALUE, or give it "
        f"{value} or {DEFAULT} where it has {', '.join(named)}."
    )


def chosen_by(section: DictConfig) -> dict[str, str]:
    """By which options each key of a section goes, in words; its own keys that go by none left out.

    A value that a command line gives goes by none, whatever stood there.
    """
    found = {}
    for key, value in _leaves(OmegaConf.to_container(section, resolve=False), ""):
        options = sorted(option.partition(".")[0] for option in set(CHOSEN.findall(str(value))))
        if options:
            found[key] = " and ".join(options)
    return found


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def register_choosing() -> None:
    """Make `${by:...}` known to OmegaConf."""
    OmegaConf.register_new_resolver("by", by, replace=True)


def refusal(error: InterpolationResolutionError) -> UserError | None:
    """What `by` has raised, out of OmegaConf's error; None for any other."""
    said = str(error).splitlines()[0]
    return UserError(said.removeprefix(TOLD)) if said.startswith(TOLD) else None
