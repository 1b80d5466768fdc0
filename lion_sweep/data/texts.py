"""Texts by id, memory-mapped from Arrow files, so that millions of them cost no memory.

Shapes: N texts, R rows asked for.
"""

import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lion_sweep.data.forms import Text, whole
from lion_sweep.data.ids import Ids
from lion_sweep.errors import UserError
from lion_sweep.files import written
from lion_sweep.machine import interruption
from lion_sweep.machine.seal import mark, marked
from lion_sweep.machine.workers import spread

BATCH = 10_000
SCHEMA = pa.schema([("id", pa.large_string()), ("text", pa.large_string())])
# 8 bytes of the id and 8 of the text: what is repeated is found without either.
HASH = pa.field("hash", pa.binary(16))


class Texts:
    """N texts in a fixed order; row i has the id `ids[i]`.

    `checksum` is a digest of ids, texts and their order; `flaws` is how many are "empty", repeat
    an earlier one ("repeated"), or held half a character that no file can hold ("mended").
    """

    def __init__(
        self, table: pa.Table, checksum: str, flaws: Iterable[tuple[str, int]] = ()
    ) -> None:
        self._table, self.checksum, self.flaws = table, checksum, dict(flaws)
        self.ids = Ids(table["id"])

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Rows of these ids, [R]; -1 where there is no such text."""
        asked = pa.array(ids, type=pa.large_string())
        found = pc.index_in(asked, value_set=self._table["id"])
        return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """Of their batches alone: Arrow would first join all of them in memory."""
        order_R = np.argsort(rows, kind="stable")
        sorted_R = np.asarray(rows, dtype=np.int64)[order_R]
        taken, first, done = np.empty(len(order_R), dtype=object), 0, 0
        for batch in self._table["text"].chunks:
            until = int(np.searchsorted(sorted_R, first + len(batch)))
            taken[order_R[done:until]] = batch.take(sorted_R[done:until] - first).to_pylist()
            first, done = first + len(batch), until
        return taken.tolist()

    def of(self, ids: Sequence[str]) -> list[str]:
        """The texts of these ids, which must all be there."""
        return self.take(self.rows(ids))

    def all(self) -> list[str]:
        return self._table["text"].to_pylist()

    def batches(self, first: int = 0, size: int = BATCH) -> Iterator[list[str]]:
        """Every text from row `first` on, `size` at a time."""
        for start in range(first, len(self), size):
            yield self._table["text"].slice(start, size).to_pylist()


def write(
    blocks: Iterable[Iterable[Text]],
    folder: Path,
    source: str,
    on_kept: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Write texts to Arrow files, on all cores; returns what is worth knowing of them.

    Every block, which can be pickled, has a file of its own: one that is there already stays, and
    `on_kept` hears how many texts are. Texts may be empty or equal, or hold half a character, which
    U+FFFD takes the place of; this is counted. Raises `UserError`, naming `source`, for a repeated
    id, or where there is no text.
    """
    folder.mkdir(exist_ok=True)
    texts, paths = 0, []
    for path, rows in spread(_part, ((_name(folder, i), b) for i, b in enumerate(blocks))):
        texts += rows
        paths.append(path)
        on_kept(texts)
        if interruption.requested():
            raise interruption.stop()
    for stale in set(folder.iterdir()).difference(paths):
        stale.unlink()
    if not texts:
        raise UserError(f"{source} is empty.")
    parts = list(map(_mapped, paths))
    hash_N2 = np.concatenate([_hashes(chunk) for part in parts for chunk in part["hash"].chunks])
    _check_unique(hash_N2[:, 0], pa.concat_tables([part.select(["id"]) for part in parts]), source)
    filled = np.sort(hash_N2[:, 1][hash_N2[:, 1] != EMPTY])
    flaws = {
        "empty": texts - len(filled),
        "repeated": int((filled[1:] == filled[:-1]).sum()),
        "mended": sum(int(part.schema.metadata[b"mended"]) for part in parts),
    }
    checksum = hashlib.sha256(hash_N2.data).hexdigest()[:16]
    return {"texts": texts, "checksum": checksum, "flaws": flaws}


def _name(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.arrow"


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()


(EMPTY,) = np.frombuffer(_hash(b""), np.uint64)


def _part(task: tuple[Path, Iterable[Text]]) -> tuple[Path, int]:
    """Write a block, where its file does not hold it already; returns the file and its texts."""
    path, block = task
    known_by = hashlib.sha256(pickle.dumps(block)).hexdigest()
    # A file that is not as it was written must not be looked into: Arrow would read past its end.
    if marked(path) and (kept := _mapped(path)).schema.metadata[b"block"] == known_by.encode():
        return path, kept.num_rows
    ids, contents, mended = [], [], 0
    for identifier, text in block:
        try:
            content = text.encode()
        except UnicodeEncodeError:
            content = whole(text).encode()
            mended += 1
        ids.append(identifier.encode())
        contents.append(content)
    hashed = zip(map(_hash, ids), map(_hash, contents), strict=True)
    columns = [pa.array(column, pa.large_binary()) for column in (ids, contents)]
    columns = [column.view(pa.large_string()) for column in columns]
    both = pa.py_buffer(b"".join(chain.from_iterable(hashed)))
    columns.append(pa.Array.from_buffers(pa.binary(16), len(ids), [None, both]))
    schema = SCHEMA.append(HASH).with_metadata({"block": known_by, "mended": str(mended)})
    with written(path) as temporary, pa.ipc.new_file(str(temporary), schema) as writer:
        writer.write_table(pa.table(columns, schema=schema), BATCH)
    mark(path)
    return path, len(ids)


def _hashes(chunk: pa.Array) -> NDArray[np.uint64]:
    """Of the ids and the texts of a record batch, [N, 2]."""
    return np.frombuffer(chunk.buffers()[1], np.uint64).reshape(-1, 2)


def _check_unique(hash_N: NDArray[np.uint64], table: pa.Table, source: str) -> None:
    order_N = np.argsort(hash_N, kind="stable")
    sorted_N = hash_N[order_N]
    again = np.flatnonzero(sorted_N[1:] == sorted_N[:-1])
    for place in again[np.argsort(order_N[again + 1])]:
        one, other = table["id"].take(order_N[place : place + 2]).to_pylist()
        if one == other:  # not two that have one hash
            raise UserError(f"{source} repeats the id {shortened(one)}: ids must be unique.")


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def read(folder: Path, checksum: str, flaws: Iterable[tuple[str, int]]) -> Texts:
    """The texts that `write` wrote, memory-mapped; the rest is what it returned."""
    parts = [_mapped(path).replace_schema_metadata() for path in sorted(folder.glob("*.arrow"))]
    return Texts(pa.concat_tables(parts), checksum, flaws)
