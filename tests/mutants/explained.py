"""The list of survivors that were read and are let be, and why."""

import re
import tomllib
from pathlib import Path


class Explained:
    """What `explained.toml` says of faults that no test notices."""

    def __init__(self, path: Path) -> None:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
        self._kinds = [(re.compile(kind["change"]), kind["why"]) for kind in told["kinds"]]
        self._single = {
            (one["function"], one["was"], one["made"]): one["why"]
            for one in told.get("survivors", ())
        }

    def harmless(self, function: str, was: str, made: str) -> str:
        """Why faults of this kind change nothing here; empty where they may."""
        return next((why for change, why in self._kinds if change.search(f"{was} -> {made}")), "")

    def of(self, function: str, was: str, made: str) -> str:
        """Why this one is let be; empty where nobody has said."""
        return self._single.get((function, was, made), "")
