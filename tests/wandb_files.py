"""Reading what W&B writes down offline: records in the blocks of LevelDB's log."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, FILE_HEADER, HEADER = 32768, 7, 7
FULL, LAST = 1, 4


def records(path: Path) -> Iterator[Record]:
    """Every record of a .wandb file. A chunk has a checksum, a length and what part it is."""
    content, place, parts = path.read_bytes(), FILE_HEADER, b""
    while place + HEADER <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:  # padding
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def read_run(path: Path) -> dict[str, Any]:
    """The run's own record, its history, configuration, summary, metrics and artifacts."""
    found: dict[str, Any] = {"history": [], "config": {}, "summary": {}, "metrics": {}}
    found["artifacts"] = []
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = record.run
            found["config"] |= _items(record.run.config.update)
        elif kind == "config":
            found["config"] |= _items(record.config.update)
        elif kind == "history":
            found["history"].append(_items(record.history.item))
        elif kind == "summary":
            found["summary"] |= _items(record.summary.update)
        elif kind == "metric":
            metric = record.metric
            found["metrics"][metric.name or metric.glob_name] = metric.step_metric
        elif kind == "artifact":
            found["artifacts"].append(record.artifact)
    return found


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
