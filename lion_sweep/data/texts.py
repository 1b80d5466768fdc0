"""Texts by id, memory-mapped from an Arrow file, so that millions of them cost no memory.

Shapes: N texts, R rows asked for.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lion_sweep.data.forms import whole
from lion_sweep.data.ids import Ids
from lion_sweep.errors import UserError

BATCH = 10_000
SCHEMA = pa.schema([("id", pa.large_string()), ("text", pa.large_string())])


class Texts:
    """N texts in a fixed order; row i has the id `ids[i]`.

    `identity` is a digest of ids, texts and their order; `flaws` is how many are "empty", repeat
    an earlier one ("repeated"), or held half a character that no file can hold ("mended").
    """

    def __init__(
        self, table: pa.Table, checksum: str, flaws: Iterable[tuple[str, int]] = ()
    ) -> None:
        self._table, self.identity, self.flaws = table, checksum, dict(flaws)
        self.ids = Ids(table["id"])

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Rows of these ids, [R]; -1 where there is no such text."""
        asked = pa.array(ids, type=pa.large_string())
        found = pc.index_in(asked, value_set=self._table["id"])
        return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> list[str]:
        return self._table["text"].take(pa.array(rows, type=pa.int64())).to_pylist()

    def of(self, ids: Sequence[str]) -> list[str]:
        """The texts of these ids, which must all be there."""
        return self.take(self.rows(ids))

    def all(self) -> list[str]:
        return self._table["text"].to_pylist()

    def batches(self) -> Iterator[list[str]]:
        """Every text, some thousands at a time."""
        for start in range(0, len(self), BATCH):
            yield self._table["text"].slice(start, BATCH).to_pylist()


def write(pairs: Iterable[tuple[str, str]], path: Path, source: str) -> dict[str, Any]:
    """Write (id, text) pairs to an Arrow file; returns what is worth knowing of them.

    Texts may be empty or equal, or hold half a character, which U+FFFD takes the place of; this is
    counted. Raises `UserError`, naming `source`, for a repeated id, or where there is no text.
    """
    digest, seen, hashes = hashlib.sha256(), set[str](), Counter[bytes]()
    left, flaws = iter(pairs), {"empty": 0, "repeated": 0, "mended": 0}
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        while rows := list(islice(left, BATCH)):
            for number, (identifier, text) in enumerate(rows):
                if identifier in seen:
                    said = shortened(identifier)
                    raise UserError(f"{source} repeats the id {said}: ids must be unique.")
                seen.add(identifier)
                mended = whole(text)
                if mended != text:
                    rows[number] = identifier, mended
                    flaws["mended"] += 1
                content = mended.encode()
                # With its length, as a text may look like a line of several.
                digest.update(f"{identifier}\t{len(content)}\t".encode() + content)
                flaws["empty"] += not content
                hashes[hashlib.blake2b(content, digest_size=8).digest()] += bool(content)
            ids, texts = zip(*rows, strict=True)
            writer.write(pa.record_batch([list(ids), list(texts)], schema=SCHEMA))
    if not seen:
        raise UserError(f"{source} is empty.")
    flaws["repeated"] = sum(count - 1 for count in hashes.values() if count > 1)
    return {"texts": len(seen), "checksum": digest.hexdigest()[:16], "flaws": flaws}


def read(path: Path, checksum: str, flaws: Iterable[tuple[str, int]]) -> Texts:
    """The texts that `write` wrote, memory-mapped; the rest is what it returned."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    return Texts(table, checksum, flaws)
