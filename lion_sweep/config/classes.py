"""Classes that configurations name with `_target_`: whose they may be, and how they are made.

A configuration may come from elsewhere, inside somebody's result, and a class that is made runs. So
it has to be one of this package, or of a package that the user of this process has named in
LION_SWEEP_PACKAGES, with commas between several. That holds for classes inside of settings too, and
for what a name leads to, not for how it begins: modules of this package import others.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.utils import get_class, instantiate

from lion_sweep.errors import UserError

TARGET, PACKAGES = "_target_", "LION_SWEEP_PACKAGES"


def class_named(name: Any) -> type[Any]:
    """The class of that name. Raises `UserError` where it may not be used, or cannot be loaded."""
    said = str(name)
    _refuse_foreign(said, said)
    try:
        found = get_class(said)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{TARGET}={said} cannot be loaded: {reason}") from None
    _refuse_foreign(said, found.__module__)
    return found


def made(value: Mapping[str, Any], **more: Any) -> Any:
    """What the class makes of its settings, and of `more`."""
    for name in _named(value):
        class_named(name)
    return instantiate(value, **more)


def _named(value: Any) -> Iterator[Any]:
    """Every `_target_` in it, at whatever depth."""
    if isinstance(value, Mapping):
        if TARGET in value:
            yield value[TARGET]
        value = list(value.values())
    for item in value if isinstance(value, list | tuple) else ():
        yield from _named(item)


def _refuse_foreign(said: str, module: str) -> None:
    package = module.partition(".")[0]
    named = [name.strip() for name in os.environ.get(PACKAGES, "").split(",")]
    if package not in ("lion_sweep", *filter(None, named)):
        raise UserError(
            f"{TARGET}={said} is of the package {package or 'without a name'}, and only classes of "
            f"lion_sweep are made unless you name others: set {PACKAGES}={package}, if you trust "
            "what it does."
        )
