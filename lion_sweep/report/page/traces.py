"""What lies in a cell's folder beside its result: curves of training, hits, attempts.

Everything here may be missing, or cut off by a kill: what cannot be read is left out.

Shapes: T steps of a history, P of them kept.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lion_sweep.files import read_note
from lion_sweep.machine.seal import what_is_wrong

HISTORY, POINTS = "history.jsonl", "points.jsonl"
RUN_BYTES = 64 << 20
"""Hits are looked up in runs up to this size: larger ones take longer to read than a page may."""
DIGITS = 5  # significant ones of what is drawn

Hits = list[tuple[str, float]]


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; none where there is no file, broken lines left out."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found


def columns(records: Sequence[Mapping[str, Any]], most: int) -> dict[str, list[float | None]]:
    """Numbers by name, at most `most` of each: [T] records thinned evenly to [P].

    The first and the last stay. None stands where a record lacks the number, or it is not finite.
    """
    picked = [records[place] for place in thinned(len(records), most)]
    names = dict.fromkeys(name for record in picked for name in record)
    found = {name: [_number(record.get(name)) for record in picked] for name in names}
    return {name: values for name, values in found.items() if any(v is not None for v in values)}


def thinned(count: int, most: int) -> list[int]:
    """At most `most` of the places 0 to count-1, evenly spread, with the first and the last."""
    if count <= most:
        return list(range(count))
    step = (count - 1) / (most - 1)
    return [round(place * step) for place in range(most)]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def first_hits(run: Path, queries: Iterable[str], most: int = 3) -> dict[str, Hits] | None:
    """(document id, score) of the best hits of some queries in a TREC run; None if not looked up.

    A query without hits has no line in a run, hence no entry here.
    """
    try:
        if run.stat().st_size > RUN_BYTES:
            return None
        content = b"\n" + run.read_bytes()
    except OSError:
        return None
    found = {}
    for query in queries:
        hits: Hits = []
        at = content.find(f"\n{query} Q0 ".encode())
        while at >= 0 and len(hits) < most:
            end = content.find(b"\n", at + 1)
            words = content[at + 1 : end if end >= 0 else None].decode("utf-8", "replace").split()
            if len(words) != 6 or words[0] != query:
                break
            hits.append((words[2], float(words[4])))
            at = end
        if hits:
            found[query] = hits
    return found


def query_texts(stage: Path, wanted: Iterable[str], longest: int = 300) -> dict[str, str]:
    """The texts of these ids that an import of queries holds; none of files that are damaged, which
    Arrow would read past their ends, or gone."""
    import pyarrow as pa  # here, as most reports are read where no texts are
    import pyarrow.compute as pc

    ids = pa.array(sorted(set(wanted)), pa.large_string())
    found: dict[str, str] = {}
    files = read_note(stage / "done.json").get("files") or {}
    for name, told in files.items():
        if not name.endswith(".arrow") or what_is_wrong(stage, name, told):
            continue
        path = stage / name
        try:
            with pa.memory_map(str(path)) as file:
                table = pa.ipc.open_file(file).read_all()
            rows = table.filter(pc.is_in(table["id"], value_set=ids)).select(["id", "text"])
        except (OSError, KeyError, pa.ArrowException):
            continue
        for row in rows.to_pylist():
            text = " ".join(row["text"].split())
            found[row["id"]] = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return found


def ending(folder: Path) -> str:
    """How the last attempt at a cell without a result ended, in words."""
    records = []
    for path in sorted((folder / "attempts").glob("*.json")):
        try:
            records.append(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError):
            continue
    told = [record for record in records if isinstance(record, dict)]
    if not told:
        return "not begun"
    last, count = told[-1], f"attempt {len(told)}"
    if last.get("outcome") == "failed":
        failure = last.get("failure") or {}
        return f"failed ({count}, {failure.get('class', 'unknown')}): {failure.get('message', '')}"
    if last.get("outcome") == "finished":
        return f"finished ({count}), but its result is gone or of another version"
    outcome = last.get("outcome", "unknown")
    return "running, or ended without a word" if outcome == "running" else f"{outcome} ({count})"
