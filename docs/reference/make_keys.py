"""Writes docs/reference/keys.md from conf/ and the schema: `python docs/reference/make_keys.py`."""

import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import yaml

from lion_sweep.config.composing import config_folder
from lion_sweep.config.schema import Config
from lion_sweep.files import write_text

PAGE = Path(__file__).with_name("keys.md")
LONGEST = 70  # characters of a value
SKIPPED = ("defaults", "hydra")
HEAD = """# Every key

Made from conf/ and the schema by `python docs/reference/make_keys.py`; a test holds that it is
current.

An option is chosen with `group=option`, a key changed with `group.key=value`;
`python -m lion_sweep --cfg job` prints what that comes to. `${...}` takes the value of another key.
In brackets stand the options that have a value; without them all have it, or take it from the first
one. `int | null` may be null. Keys without a type are those of the class that `_target_` names.
"""


class Entry(NamedTuple):
    """A key of one option's file."""

    key: str
    value: str
    said: str  # the comments beside and above it


def intro(lines: list[str]) -> str:
    """The comment that a file begins with."""
    words = []
    for line in lines:
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# "))
    return " ".join(word for word in words if not word.startswith("@package"))


def entries(text: str) -> Iterator[Entry]:
    """The keys of a file that hold no keys of their own, with what its comments say of them.

    A comment goes on in lines that stand further in than their key; what stands no further in is
    said of the next key.
    """
    lines = text.splitlines()
    begun = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    for key, node, line in _leaves(yaml.compose(text), ""):
        inset = _inset(lines[line])
        above, number = list[str](), line - 1
        while (
            number >= begun
            and lines[number].strip().startswith("#")
            and (_inset(lines[number]) == inset)
        ):
            above.insert(0, _comment(lines[number]))
            number -= 1
        last = max(line, node.end_mark.line - (node.end_mark.column == 0))
        beside = [_comment(lines[last])]
        for below in lines[last + 1 :]:
            if not below.strip().startswith("#") or _inset(below) <= inset:
                break
            beside.append(_comment(below))
        value = "\n".join(lines[line : last + 1]).partition(":")[2].partition(" #")[0].strip()
        yield Entry(key, value, " ".join(filter(None, [*above, *beside])))


def _inset(line: str) -> int:
    return len(line) - len(line.lstrip())


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any, int]]:
    for name, value in node.value:
        own = f"{key}.{name.value}" if key else name.value
        if own in SKIPPED:
            continue
        if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            if own == "sets":  # evaluation=paper's seventeen
                continue
            yield from _leaves(value, own)
        else:
            yield own, value, name.start_mark.line


def _comment(line: str) -> str:
    code, mark, words = line.partition("# ")
    return words.strip() if mark and (not code.strip() or code.endswith(" ")) else ""


def _section(group: str) -> Any:
    return typing.get_type_hints(Config)[group]


def type_of(key: str) -> str:
    """As the schema has it; empty where it leaves that to a class behind `_target_`."""
    found: Any = Config
    for name in key.split("."):
        if found is None or not is_dataclass(found):
            return ""
        hints = typing.get_type_hints(found)
        if name not in hints:
            return ""
        found = hints[name]
        inner = [kind for kind in typing.get_args(found) if is_dataclass(kind)]
        found = inner[0] if inner and name not in ("resources",) else found
    return _said(found)


def _said(kind: Any) -> str:
    if kind is NoneType:
        return "null"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " | ".join(option.name for option in kind)
    if typing.get_origin(kind) in (list, dict, tuple):
        return typing.get_origin(kind).__name__
    if options := typing.get_args(kind):
        return " | ".join(map(_said, options))
    return "section" if is_dataclass(kind) else getattr(kind, "__name__", "")


def _row(group: str, key: str, found: dict[str, Entry], options: int, default: str) -> str:
    values: dict[str, list[str]] = {}
    for option, entry in found.items():
        values.setdefault(_short(entry.value), []).append(option)
    everywhere = len(values) == 1 and (len(found) == options or [*found] == [default])
    told = (
        f"`{value}`" + ("" if everywhere else f" ({', '.join(of)})") for value, of in values.items()
    )
    value = ", ".join(told)
    said = dict.fromkeys(entry.said for entry in found.values() if entry.said)
    cells = f"`{group}.{key}`" if group else f"`{key}`", type_of(f"{group}.{key}" if group else key)
    return "| " + " | ".join(_cell(text) for text in (*cells, value, " / ".join(said))) + " |"


def _short(value: str) -> str:
    flat = " ".join(value.split()) or "null"
    return flat if len(flat) <= LONGEST else f"{flat[:LONGEST]}..."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def page() -> str:
    """The whole of keys.md."""
    folder = config_folder()
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.yaml"))}
    parts = [HEAD]
    told = yaml.safe_load(texts[folder / "config.yaml"])["defaults"]
    defaults = {key: value for one in told if isinstance(one, dict) for key, value in one.items()}
    top = {entry.key: {"config": entry} for entry in entries(texts[folder / "config.yaml"])}
    parts.append(_table("", top, 1, "config"))
    groups = [f.name for f in fields(Config) if (folder / f.name).is_dir()]
    for group in groups:
        options = {path.stem: text for path, text in texts.items() if path.parent.name == group}
        default = defaults[group]  # others take from it what they do not have
        order = sorted(options, key=lambda name: (name != default, name))
        parts.append(f"\n## {group}\n")
        parts += [f"- `{group}={name}`: {intro(options[name].splitlines())}" for name in order]
        keys: dict[str, dict[str, Entry]] = {}
        if group != "ladder":
            for name in order:
                for entry in entries(options[name]):
                    keys.setdefault(entry.key, {})[name] = entry
            above = [key.removeprefix(f"{group}.") for key in top if key.startswith(f"{group}.")]
            for key in fields(_section(group)):  # what no file sets
                if not any(f"{known}.".startswith(f"{key.name}.") for known in [*keys, *above]):
                    keys[key.name] = {default: Entry(key.name, "null", "")}
            parts += ["", _table(group, keys, len(order), default)]
    return "\n".join(parts) + "\n"


def _table(group: str, keys: dict[str, dict[str, Entry]], options: int, default: str) -> str:
    rows = [_row(group, key, found, options, default) for key, found in keys.items()]
    return "\n".join(["| key | type | value | what it is |", "| --- | --- | --- | --- |", *rows])


if __name__ == "__main__":
    write_text(PAGE, page())
