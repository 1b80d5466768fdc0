"""Real test collections in BEIR layout, for tests that need them; they are not part of the project.

The environment variable LION_SWEEP_TEST_DATA names the folder that holds them.
"""

import csv
import gzip
import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("LION_SWEEP_TEST_DATA", ""))
needed = pytest.mark.skipif(
    "LION_SWEEP_TEST_DATA" not in os.environ,
    reason="LION_SWEEP_TEST_DATA names no folder of collections",
)


def texts(name: str, part: str) -> dict[str, str]:
    """Title and text by id, of "corpus" or "queries"; some documents are empty."""
    lines = (FOLDER / name / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
    records = map(json.loads, lines)
    return {
        record["_id"]: f"{record.get('title') or ''} {record['text']}".strip() for record in records
    }


def qrels(name: str) -> dict[str, dict[str, int]]:
    """Judgements of the test split."""
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    with (FOLDER / name / "qrels" / "test.tsv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            grades[row["query-id"]][row["corpus-id"]] = int(row["score"])
    return dict(grades)


def published_runs(name: str) -> dict[str, dict[str, list[tuple[str, float]]]]:
    """Hits by system and query."""
    hits: dict[str, dict[str, list[tuple[str, float]]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(FOLDER / name / "runs.tsv.gz", "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            hit = (row["corpus-id"], float(row["score"]))
            hits[row["system"]][row["query-id"]].append(hit)
    return hits
