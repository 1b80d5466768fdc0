"""The commands that make a cell again, score its checkpoint elsewhere, and export it."""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import hydra
import yaml

from lion_sweep.config.composing import compose, config_folder, register
from lion_sweep.config.schema import AXES
from lion_sweep.config.section import plain
from lion_sweep.config.sharing import shared

# What a command says of the machine that runs it, or of other commands.
ELSEWHERE = ("id", "axes", "site", "tracking", "alarms", "paths.root", "plan", "status",
             "confirm")  # fmt: skip
GROUPS = (*AXES, "ladder", "data", "teacher", "budget", "evaluation", "engine")
SCORING = ("data", "evaluation", "engine", "paths")
PLAIN = re.compile(r"[A-Za-z_/.][\w/.:@+~-]*|\d+[A-Za-z][\w.-]*")
WORDS = ("null", "true", "false", "nan", "inf")
OUTPUTS = "outputs"


def spelled(value: Any) -> str:
    """A value as an override of Hydra spells it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{spelled(k)}:{spelled(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(spelled, value))}]"
    if isinstance(value, int | float):
        short = f"{value:g}"  # a whole number would read back as an integer
        return short if "e" in short and float(short) == value else repr(value)
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in WORDS and not _is_number(text):
        return text
    # Hydra reads backslashes before a quote only: each of those is doubled, and the quote escaped.
    quoted = re.sub(r'(\\*)"', lambda found: 2 * found[1] + r"\"", text)
    return '"' + quoted + quoted[len(quoted.rstrip("\\")) :] + '"'


def _is_number(text: str) -> bool:
    try:
        float(text.replace("_", ""))
    except ValueError:
        return False
    return True


def overrides(ours: Mapping[str, Any], theirs: Mapping[str, Any], key: str = "") -> Iterator[str]:
    """The words that turn one configuration into the other."""
    for name, value in theirs.items():
        inner = f"{key}.{name}" if key else str(name)
        if inner in ELSEWHERE or (name == "title" and value is None):
            continue
        if name not in ours:
            yield f"+{inner}={spelled(value)}"
        elif isinstance(value, Mapping) and isinstance(ours[name], Mapping):
            yield from overrides(ours[name], value, inner)
        elif value != ours[name]:
            yield f"{inner}={spelled(value)}"
    for name in ours:
        inner = f"{key}.{name}" if key else str(name)
        if name not in theirs and inner not in ELSEWHERE:
            yield f"~{inner}"


class Commands:
    """Writes commands; composes defaults once for each choice of options, while it is entered."""

    def __enter__(self) -> "Commands":
        register()
        self._stack, self._composed = ExitStack(), dict[tuple[str, ...], dict[str, Any] | None]()
        self._stack.enter_context(
            hydra.initialize_config_dir(str(config_folder()), version_base="1.3")
        )
        self._stack.enter_context(shared())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def of(self, identity: str, config: Mapping[str, Any], root: Path) -> list[dict[str, str]]:
        """What each block is for, its command, and a note on it."""
        words, note = self.words(config)
        where = [] if root == Path(OUTPUTS) else [f"--root={root}"]
        scored = [w for w in words if re.split(r"[.=]", w.lstrip("+~"))[0] in SCORING]
        here = [] if root == Path(OUTPUTS) else [f"paths.root={spelled(str(root))}"]
        train = ["python", "-m", "lion_sweep", *words, *here]
        evaluate = ["python", "-m", "lion_sweep.evaluate", f"checkpoint={identity}"]
        export = ["python", "-m", "lion_sweep.export", identity, f"{identity}-model"]
        return [
            {"title": "Train it again", "command": _joined(train), "note": note},
            {
                "title": "Evaluate its checkpoint",
                "command": _joined([*evaluate, *scored, *where]),
                "note": "On its own collection; data= and data.path= choose another one.",
            },
            {
                "title": "Export it as a model",
                "command": _joined([*export, *where]),
                "note": "--as sentence-transformers writes a model of that library.",
            },
        ]

    def words(self, config: Mapping[str, Any]) -> tuple[list[str], str]:
        """The overrides that differ from the defaults; where these are unknown, the axes alone."""
        chosen = {group: self._option(group, config) for group in GROUPS}
        words = [
            f"{group}={option}"
            for group, option in chosen.items()
            if option and (group in AXES or option != self._defaults.get(group))
        ]
        words += self._mandatory(chosen, config)
        ours, recipe = self._compose(words), self._option("recipe", config)
        if ours is not None and recipe and ours["recipe"].get("name") != recipe:
            words.append(f"recipe={recipe}")
            ours = self._compose(words)
        if ours is None or not all(chosen[axis] for axis in AXES):
            axes = [f"{axis}={spelled((config.get(axis) or {}).get('name'))}" for axis in AXES]
            note = "It has options of your own: add --config-dir and what else it was given."
            return axes, f"{note} Its configuration is in config.yaml in its folder."
        return [*words, *overrides(ours, config)], "Every key that differs from the defaults."

    def _mandatory(
        self, chosen: Mapping[str, str | None], config: Mapping[str, Any]
    ) -> Iterator[str]:
        """What the chosen options leave to whoever chooses them."""
        for group, option in chosen.items():
            for key, value in self._options[group].get(option or "", {}).items():
                if value == "???":
                    yield f"{group}.{key}={spelled(config[group].get(key))}"

    def _compose(self, words: list[str]) -> dict[str, Any] | None:
        """The whole configuration; None where the words cannot be composed here."""
        key = tuple(words)
        if key not in self._composed:
            try:
                self._composed[key] = plain(compose(words))
            except Exception:  # of Hydra, OmegaConf, or a refusal: the command goes without it
                self._composed[key] = None
        return self._composed[key]

    @cached_property
    def _defaults(self) -> dict[str, str]:
        primary = yaml.safe_load((config_folder() / "config.yaml").read_text("utf-8"))
        return {k: v for entry in primary["defaults"] if isinstance(entry, dict)
                for k, v in entry.items()}  # fmt: skip

    @cached_property
    def _options(self) -> dict[str, dict[str, Any]]:
        return {
            group: {
                path.stem: yaml.safe_load(path.read_text("utf-8")) or {}
                for path in sorted((config_folder() / group).glob("*.yaml"))
            }
            for group in (*GROUPS, "recipe")
        }

    def _option(self, group: str, config: Mapping[str, Any]) -> str | None:
        """The option that a section came from: of its name, or the one that it is most like."""
        section, options = config.get(group), self._options[group]
        name = section.get("name") if isinstance(section, Mapping) else section
        if name in options or not isinstance(section, Mapping):
            return name if name in options else None
        if group in (*AXES, "recipe", "teacher", "engine"):
            return None  # these are known by their name

        def unlike(option: str) -> tuple[int, bool]:
            written = options[option]
            own = {k: v for k, v in written.items() if k not in ("defaults", "name")}
            fixed = {k: v for k, v in own.items() if "${" not in str(v)}
            wrong = sum(section.get(key) != value for key, value in fixed.items())
            right = len(fixed) - wrong
            return wrong - right, option != self._defaults.get(group)

        return min(options, key=unlike, default=None)


def _joined(words: list[str]) -> str:
    """One command, a line for each few words, that a shell takes as it is."""
    lines, line = list[str](), ""
    for word in map(shlex.quote, words):
        if line and len(line) + len(word) > 76:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
    return " \\\n    ".join([*lines, line])
