"""Vectors that memory does not hold: kept in parts, read block by block, dense ones searched.

`python -m benchmarks.vectors` makes random vectors as encoding does, batch by batch in an order
that is not that of the rows. Every step runs in a process of its own, whose peak of resident memory
is told. A sample of what is read has to be what was made, and a sample of the hits what a plain
float64 computation finds. A quarter as many vectors are measured too, and the line through both
tells the planned sizes; what dense vectors take grows with their dimensions as well.

Shapes: N vectors, B of a batch, Q queries, D dimensions, V vocabulary, E entries of a sparse
vector, K hits.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from benchmarks import interleaved
from lion_sweep.cost.meter import Spending
from lion_sweep.search.dense import DenseIndex
from lion_sweep.search.parts import BLOCK, Parts, Stored

VOCABULARY, BATCH, K = 128_256, 256, 1000
PASSAGES, DIMENSIONS = 8_841_823, 4096  # planned
SAMPLE = 4  # queries, and batches, that are compared


@dataclass(frozen=True)
class Made:
    """N random vectors: dense, [N, D], or sparse with E entries each."""

    vectors: int
    dimensions: int = 0
    entries: int = 0
    dtype: str = "float32"

    def batches(self) -> list[NDArray[np.int64]]:
        """Rows that are encoded together."""
        order_N = np.random.default_rng(0).permutation(self.vectors)
        return np.split(order_N, range(BATCH, self.vectors, BATCH))

    def batch(self, number: int, count: int) -> Any:
        """Its vectors."""
        random = np.random.default_rng([1, number])
        if self.dimensions:
            made_BD = random.standard_normal((count, self.dimensions), np.float32)
            return (made_BD / np.sqrt(self.dimensions, dtype=np.float32)).astype(self.dtype)
        step = VOCABULARY // self.entries
        terms_BE = np.arange(self.entries) * step + random.integers(
            step, size=(count, self.entries)
        )
        starts = np.arange(count + 1, dtype=np.int32) * self.entries
        data = random.random(count * self.entries, np.float32) + np.float32(0.1)
        entries = data, terms_BE.ravel().astype(np.int32), starts
        return sparse.csr_matrix(entries, (count, VOCABULARY))


@dataclass
class Clock:
    """Seconds inside of `with`, and those of all cores."""

    wall: float = 0.0
    cores: float = 0.0

    def __enter__(self) -> None:
        self.wall -= time.perf_counter()
        self.cores -= time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter()
        self.cores += time.process_time()


def write(made: Made, folder: Path) -> Clock:
    """Of keeping the vectors, not of making them."""
    parts, clock = Parts(folder, made.vectors), Clock()
    for number, rows_B in enumerate(made.batches()):
        vectors = made.batch(number, len(rows_B))
        with clock:
            parts.add(rows_B, vectors, Spending())
            if parts.full:
                parts.keep()
    with clock:
        parts.keep()
    return clock


def read(made: Made, folder: Path) -> Clock:
    """Of reading all blocks, after a look at some batches."""
    stored, batches = Stored(folder, made.vectors), made.batches()
    for number in np.linspace(0, len(batches) - 1, SAMPLE).astype(int).tolist():
        expected = made.batch(number, len(batches[number]))
        for row, vector in zip(batches[number].tolist(), expected, strict=True):
            found = stored.rows(row, row + 1)
            same = (found != vector).nnz == 0 if made.entries else np.array_equal(found[0], vector)
            if not same:
                raise SystemExit(f"Vector {row} is not what was made, nothing was timed.")
    with (clock := Clock()):
        for _ in stored.blocks():
            pass
    return clock


def search(made: Made, folder: Path, queries: int) -> Clock:
    """Of a search, whose hits are then compared with those of a plain computation."""
    stored = Stored(folder, made.vectors)
    ids = [str(row) for row in range(len(stored))]  # which sort otherwise than the rows
    queries_QD = Made(queries, made.dimensions).batch(2**31, queries)
    with (clock := Clock()):
        run = DenseIndex(ids, stored).search([str(q) for q in range(queries)], queries_QD, K)
    sample_SD = queries_QD[:SAMPLE].astype(np.float64)
    scores_SN = [sample_SD @ block.astype(np.float64).T for _, block in stored.blocks(BLOCK // 8)]
    scores_SN = np.concatenate(scores_SN, axis=1).astype(np.float32)
    for query, scores_N in enumerate(scores_SN):
        best = np.flatnonzero(scores_N >= np.partition(scores_N, -K)[-K])
        expected = sorted(
            ((ids[row], float(scores_N[row])) for row in best), key=lambda hit: (-hit[1], hit[0])
        )
        if run.hits(str(query)) != expected[:K]:
            raise SystemExit(f"Query {query}: the hits differ from a plain computation's.")
    return clock


def measured(work: Callable[..., Clock], *arguments: Any) -> dict[str, float]:
    """Seconds, and the peak of a process that does nothing else, in GB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        clock = pool.submit(work, *arguments).result()
        peak_KiB = pool.submit(_peak).result()
    seconds = {"seconds": round(clock.wall, 1), "core seconds": round(clock.cores, 1)}
    return {**seconds, "peak GB": round(peak_KiB * 1024 / 1e9, 2)}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def steps(made: Made, queries: int, root: Path | None) -> dict[str, dict[str, float]]:
    """What every step took, and the files' bytes."""
    with tempfile.TemporaryDirectory(dir=root) as name:
        folder = Path(name)
        found = {"write": measured(write, made, folder)}
        bytes_ = sum(path.stat().st_size for path in folder.iterdir())
        found["write"] |= {"bytes": bytes_, "files": len(list(folder.iterdir()))}
        found["read"] = measured(read, made, folder)
        if made.dimensions:
            found["search"] = measured(search, made, folder, queries)
    for step, figures in found.items():
        print(made, step, figures, flush=True)
    return found


def planned(few: dict[str, float], whole: dict[str, float], vectors: int, width: float) -> float:
    """Core seconds of the planned number, `width` times as wide, by the line through two sizes."""
    slope = (whole["core seconds"] - few["core seconds"]) / (vectors - vectors // 4)
    return round((whole["core seconds"] + slope * (PASSAGES - vectors)) * width)


def main() -> None:
    """Measure two sizes of each kind, and tell the planned ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=1024)
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float32")
    parser.add_argument("--entries", type=int, default=300)
    parser.add_argument("--queries", type=int, default=6980)
    parser.add_argument(
        "--kinds", nargs="+", choices=["dense", "sparse"], default=["dense", "sparse"]
    )
    parser.add_argument("--folder", type=Path, help="where there is room for them")
    options = parser.parse_args()
    count, facts = options.vectors, {**vars(options), "folder": None}
    facts |= {"threads": torch.get_num_threads()}
    shapes = {
        "dense": Made(count, dimensions=options.dimensions, dtype=options.dtype),
        "sparse": Made(count, entries=options.entries),
    }
    for kind in options.kinds:
        made, width = shapes[kind], DIMENSIONS / options.dimensions if kind == "dense" else 1.0
        sizes = made, replace(made, vectors=count // 4)
        whole, few = (steps(size, options.queries, options.folder) for size in sizes)
        found = {step: planned(few[step], whole[step], count, width) for step in whole}
        found["bytes"] = round(whole["write"]["bytes"] * width / count * PASSAGES)
        facts[kind] = {f"{count}": whole, f"{count // 4}": few, "planned": found}
        print(kind, "planned, core seconds", found, flush=True)
    interleaved.write(
        {},
        checked="vectors read, to the bit; hits of a plain float64 computation, ties by id",
        packages=["torch", "numpy", "numba", "scipy"],
        facts=facts,
        device=interleaved.processor(),
        variant="" if len(options.kinds) > 1 else options.kinds[0],
    )


if __name__ == "__main__":
    main()
