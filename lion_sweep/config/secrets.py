"""Secrets never come into a configuration: it stands in results, logs, reports, and at trackers."""

import os
import re
from collections.abc import Iterator
from typing import Any

from lion_sweep.config.section import plain
from lion_sweep.errors import UserError

NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
LEAST = 8  # characters of a value that is one
# As Hugging Face, GitHub, AWS and W&B make them, and what is given a name that says so.
LOOKS = re.compile(
    r"hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{12,}|wandb_v\d_\w{20,}"
    r"|(?:KEY|TOKEN|SECRET|PASSWORD)\s*[=:]\s*[^\s$\"']{8,}"
)


def refuse_secrets(config: Any) -> None:
    """Raises `UserError`, which names the key and not its value."""
    known = {
        value: name
        for name, value in os.environ.items()
        if NAMES.search(name) and len(value) >= LEAST
    }
    for key, text in _texts(plain(config), ""):
        named = [name for value, name in known.items() if value in text]
        if named or LOOKS.search(text):
            what = f"the value of {named[0]}" if named else "what looks like a secret"
            raise UserError(
                f"{key} holds {what}, and would be written into every result: leave it out, and "
                "have it in the environment, or in a file that only you can read."
            )


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """(key, text) of every text in it."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, f"{key}[{number}]")
    elif isinstance(value, str):
        yield key, value
