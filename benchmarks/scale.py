"""Every stage from files to a scored run, on made-up collections of any size: time, memory, disk.

`python -m benchmarks.scale --passages 100000 1000000 --queries 6000 60000`. The collections are
those of `made_collection`; vectors are random ones of real widths, as no model runs here. Every
stage runs in a process of its own, so that its peak of resident memory is its own: that of the
process, and of its largest child once for every core. Of several sizes, the slope is that of
seconds over passages from the first to the last, both in logarithms: 1 is linear.

Shapes: N passages, Q queries, P training pairs, D dimensions, V vocabulary.
"""

import argparse
import json
import math
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import interleaved

DEPTH, HITS, LENGTH, VOCABULARY = 200, 1000, 192, 128_256
MEASURES = ["MRR@10", "Recall@1000"]


@dataclass(frozen=True)
class Bench:
    """Where files and results of a size lie, and how wide its vectors are."""

    files: Path
    folder: Path
    dev: int
    entries: int
    dimensions: int

    def read(self, name: str) -> Any:
        from lion_sweep.data import texts

        return texts.read(self.folder / name, "made", ())

    def collection(self, *splits: str) -> Any:
        from lion_sweep.data.collection import Collection, read_qrels
        from lion_sweep.data.places import Folder

        read = self.read("passages"), self.read("queries")
        judged = read_qrels(Folder(self.files), "qrels.{split}.tsv", splits, *read)
        return Collection("made", *read, *judged)


def import_texts(bench: Bench) -> int:
    from lion_sweep.data import texts
    from lion_sweep.data.places import Folder

    where, done = Folder(bench.files), 0
    named = {"passages": ["collection"], "queries": ["queries.train", "queries.dev"]}
    for name, files in named.items():
        blocks = (block for file in files for block in where.blocks(f"{file}.tsv"))
        done += texts.write(blocks, bench.folder / name, name)["texts"]
    return done


def judgements(bench: Bench) -> int:
    return sum(map(len, bench.collection("train", "dev").qrels.values()))


def stand_in(bench: Bench) -> int:
    from lion_sweep.models import proxy

    found = bench.collection("train")
    (folder := bench.folder / "stand_in").mkdir()
    queries = found.queries, found.queries.rows(found.asked("train"))
    proxy.train(found.documents, *queries, folder)
    return len(found.documents)


def tokens(bench: Bench) -> int:
    from lion_sweep.data import tokens
    from lion_sweep.data.pretrained import tokenizer_of

    done, tokenizer = 0, tokenizer_of(str(bench.folder / "stand_in"))
    for name in ("passages", "queries"):
        (folder := bench.folder / f"{name}_tokens").mkdir()
        tokens.write(folder, texts := bench.read(name), tokenizer, LENGTH)
        done += len(texts)
    return done


def negatives(bench: Bench) -> int:
    from lion_sweep.search.mining import mine

    groups, _ = mine(bench.collection("train"), "train", DEPTH)
    groups.save(bench.folder / "groups.npz")
    return len(groups)


def teacher(bench: Bench) -> int:
    """BM25's own scores: the least that there is to do with groups."""
    from lion_sweep.data.groups import Groups

    groups = Groups.load(bench.folder / "groups.npz")
    groups.save(bench.folder / "taught.npz")
    return len(groups)


def vectors(bench: Bench) -> int:
    """Random ones: terms that are rarer the later they come, and unit vectors. They stand for
    encoding, which is measured elsewhere."""
    import numpy as np
    from scipy import sparse

    from lion_sweep.search import encoding

    random, counts = (
        np.random.default_rng(2),
        {"passages": len(bench.read("passages")), "dev": bench.dev},
    )
    for name, count in counts.items():
        kept = bench.entries if name == "passages" else min(bench.entries, 40)
        drawn = random.random((count, kept), dtype=np.float32)
        terms = (VOCABULARY * drawn**2).astype(np.int32)
        weights = random.random((count, kept), dtype=np.float32)
        start = np.arange(count + 1) * kept
        arrays = weights.ravel(), terms.ravel(), start
        encoding.save(
            bench.folder / f"{name}_sparse", sparse.csr_matrix(arrays, (count, VOCABULARY))
        )
        dense_ND = random.standard_normal((count, bench.dimensions), dtype=np.float32)
        dense_ND /= np.linalg.norm(dense_ND, axis=1, keepdims=True)
        encoding.save(bench.folder / f"{name}_dense", dense_ND)
    return sum(counts.values())


def search(bench: Bench, kind: str) -> int:
    import torch

    from lion_sweep.search import encoding
    from lion_sweep.search.base import Engine, Where
    from lion_sweep.search.dense import DenseIndex
    from lion_sweep.search.sparse import SparseIndex
    from lion_sweep.stages.search import write_run

    (folder := bench.folder / f"run_{kind}").mkdir()
    classes: dict[str, type[Engine]] = {"sparse": SparseIndex, "dense": DenseIndex}
    found = bench.collection("dev")
    documents_N, queries_Q = (
        encoding.load(bench.folder / f"{name}_{kind}") for name in ("passages", "dev")
    )
    where = Where(folder, torch.device("cpu"), print)
    index = classes[kind].over(found.documents.ids, documents_N, where)
    asked = found.asked("dev")
    write_run(index.search(asked, queries_Q[: len(asked)], HITS), folder, kind)
    return len(asked)


def search_sparse(bench: Bench) -> int:
    return search(bench, "sparse")


def search_dense(bench: Bench) -> int:
    return search(bench, "dense")


def score(bench: Bench) -> int:
    from lion_sweep.evaluation.measures import evaluate
    from lion_sweep.search.runs import Run

    judged = bench.collection("dev").qrels["dev"]
    for kind in ("sparse", "dense"):
        evaluate(Run.load(bench.folder / f"run_{kind}" / "run.npz"), judged, MEASURES)
    return len(judged)


# In their order, by the names that `--stages` takes; each returns how many texts it was at.
STAGES: dict[str, Callable[[Bench], int]] = {
    stage.__name__: stage
    for stage in (
        import_texts,
        judgements,
        stand_in,
        tokens,
        negatives,
        teacher,
        vectors,
        search_sparse,
        search_dense,
        score,
    )
}


def made(*given: Any) -> Path:
    from benchmarks.made_collection import collection

    return collection(*given)


def measured(stage: Callable[[Bench], int], bench: Bench) -> dict[str, float]:
    """What a stage took, in a process that has done nothing else."""
    from lion_sweep.machine.workers import cores

    start = time.monotonic()
    texts = stage(bench)
    seconds = time.monotonic() - start
    own, child = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "seconds": round(seconds, 3),
        "texts": texts,
        "texts_per_second": round(texts / seconds, 1),
        "cpu_seconds": round(sum(one.ru_utime + one.ru_stime for one in (own, child)), 3),
        "peak_rss_bytes": (own.ru_maxrss + cores() * child.ru_maxrss) * 1024,
    }


def alone(work: Callable[..., Any], *given: Any) -> Any:
    """What a new process returns, which is not told of the memory of an earlier one."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(work, *given).result()


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run(bench: Bench, stages: list[str]) -> dict[str, dict[str, float]]:
    """Print and return what every stage took."""
    print(f"\n| {bench.files.name} | seconds | texts/s | CPU s | peak resident MB | disk MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    found: dict[str, dict[str, float]] = {}
    for name in stages:
        before = on_disk(bench.folder)
        found[name] = alone(measured, STAGES[name], bench)
        found[name]["disk_bytes"] = on_disk(bench.folder) - before
        seconds, _, speed, cpu, peak, disk = found[name].values()
        left = f"{cpu:.1f} | {peak / 1e6:,.0f} | {disk / 1e6:,.1f} |"
        print(f"| {name} | {seconds:.1f} | {speed:,.0f} | {left}", flush=True)
    return found


def slopes(sizes: dict[int, dict[str, dict[str, float]]]) -> dict[str, float]:
    """By stage, from the first size to the last."""
    (few, first), *_, (many, last) = sizes.items()
    growth = math.log(many / few)
    return {
        name: round(math.log(last[name]["seconds"] / first[name]["seconds"]) / growth, 3)
        for name in first
    }


def main() -> None:
    """Make the collections, run the stages, write results/scale.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, nargs="+", default=[100_000])
    parser.add_argument("--queries", type=int, nargs="+", default=[6_000], help="training ones")
    parser.add_argument("--dev", type=int, default=6980, help="queries that are searched for")
    parser.add_argument("--entries", type=int, default=300, help="of a sparse vector")
    parser.add_argument("--dimensions", type=int, default=1024, help="of a dense vector")
    parser.add_argument("--until", choices=STAGES, default="score", help="the last stage to run")
    parser.add_argument("--folder", type=Path, default=Path(".scale"), help="where all of it lies")
    options = parser.parse_args()
    if len(options.queries) != len(options.passages):
        parser.error("--queries takes as many numbers as --passages")
    sizes = {}
    for passages, queries in zip(options.passages, options.queries, strict=True):
        files = alone(made, options.folder, passages, queries, options.dev)
        folder = options.folder / f"stages-{os.getpid()}"
        folder.mkdir()
        try:
            bench = Bench(files, folder, options.dev, options.entries, options.dimensions)
            names = list(STAGES)
            sizes[passages] = run(bench, names[: names.index(options.until) + 1])
        finally:
            shutil.rmtree(folder)
    results: dict[str, Any] = {"stages": sizes[options.passages[-1]], "sizes": sizes}
    if len(sizes) > 1:
        results["slopes"] = slopes(sizes)
        print(f"\nslopes of seconds: {json.dumps(results['slopes'])}")
    interleaved.write(
        results,
        checked="nothing: there is one side",
        packages=["numpy", "pyarrow", "tokenizers"],
        facts=vars(options) | {"folder": str(options.folder)},
        device=interleaved.processor(),
    )


if __name__ == "__main__":
    main()
