"""Every stage from files to a scored run, on made-up collections of any size: time, memory, disk.

`python -m benchmarks.scale --passages 100000 1000000 --queries 6000 60000`. The collections are
those of `made_collection`; vectors are random ones of real widths, as no model runs here. Every
stage runs in a process of its own, so that its peak of resident memory is its own: that of the
process, and of its largest child once for every core. Of several sizes, the slope is that of
seconds over passages from each to the next, both in logarithms: 1 is linear.

Shapes: N passages, Q queries, P training pairs, D dimensions, V vocabulary.
"""

import argparse
import itertools
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
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import interleaved

DEPTH, HITS, LENGTH, VOCABULARY, BATCH, SAMPLE = 200, 1000, 192, 128_256, 1024, 4
MEASURES = ["MRR@10", "Recall@1000"]


@dataclass(frozen=True)
class Bench:
    """Where files and stages of a size lie, and how wide its vectors are."""

    files: Path
    folder: Path
    dev: int
    entries: int
    dimensions: int

    @cached_property
    def shop(self) -> Any:
        from lion_sweep.machine.progress import Progress
        from lion_sweep.stages.workshop import Workshop

        return Workshop(self.folder, Progress(self.files.name, None))

    @cached_property
    def source(self) -> Any:
        from lion_sweep.config.data import EvaluationSet
        from lion_sweep.stages.texts import collection

        names = ("collection.tsv", "queries.{split}.tsv", "qrels.{split}.tsv")
        layout = EvaluationSet(str(self.files), *names)
        return collection(self.shop, "made", layout, layout.path, ("train", "dev"))

    @cached_property
    def tokenizer(self) -> Any:
        from lion_sweep.stages.backbone import TrainTokenizer

        return TrainTokenizer(self.source.judged["train"])

    @cached_property
    def groups(self) -> Any:
        from lion_sweep.stages.groups import Mine
        from lion_sweep.stages.index import BM25, IndexWords

        index = IndexWords(self.source.documents, BM25)
        return Mine(self.source.judged["train"], DEPTH, index)

    def vectors(self, texts: str, kind: str) -> Any:
        from lion_sweep.search.parts import Stored

        return Stored(self.folder / f"{texts} {kind}")


@dataclass(frozen=True)
class Epoch:
    """A course that sees every pair once, whatever its texts and its decoder."""

    draws: Any

    def spending(self, shop: Any) -> Any:
        from lion_sweep.cost.meter import Spending

        return Spending(steps=self.draws.sampler(shop).steps_per_epoch)


def import_texts(bench: Bench) -> int:
    both = bench.source.documents, bench.source.queries
    return sum(bench.shop.run(stage).facts["texts"] for stage in both)


def judgements(bench: Bench) -> int:
    return sum(
        len(stage.read(bench.shop).column("grade")) for stage in bench.source.judged.values()
    )


def stand_in(bench: Bench) -> int:
    bench.shop.run(bench.tokenizer)
    return len(bench.source.documents.read(bench.shop))


def tokens(bench: Bench) -> int:
    from lion_sweep.stages.texts import Tokenise

    both = bench.source.documents, bench.source.queries
    made = (Tokenise(texts, bench.tokenizer, LENGTH).cut(LENGTH) for texts in both)
    return sum(len(cut.read(bench.shop)) for cut in made)


def index(bench: Bench) -> int:
    return len(bench.groups.index.read(bench.shop).postings)


def negatives(bench: Bench) -> int:
    pairs: int = bench.shop.run(bench.groups).facts["pairs"]
    return pairs


def teacher(bench: Bench) -> int:
    """BM25's own scores of an epoch: the least that there is to do with what is drawn."""
    from lion_sweep.stages.course import Draws
    from lion_sweep.stages.scorers import Own
    from lion_sweep.stages.teacher import Teach, Weighted

    epoch: Any = Epoch(Draws(bench.groups, 64, 16, seed=42))
    done = bench.shop.run(Teach(epoch, (Weighted(Own(), "own", 1, 1.0),)))
    return 64 * int(done.facts["steps"])


def vectors(bench: Bench) -> int:
    """Random ones: terms that are rarer the later they come, and unit vectors. They stand for
    encoding, which is measured elsewhere."""
    import numpy as np
    from scipy import sparse

    from lion_sweep.cost.meter import Spending
    from lion_sweep.search.parts import Parts

    random = np.random.default_rng(2)
    counts = {"passages": len(bench.source.documents.read(bench.shop)), "dev": bench.dev}
    for name, count in counts.items():
        kept = bench.entries if name == "passages" else min(bench.entries, 40)
        both = [Parts(bench.folder / f"{name} {kind}", count) for kind in ("sparse", "dense")]
        for first in range(0, count, BATCH):
            rows = np.arange(first, min(first + BATCH, count))
            drawn = random.random((len(rows), kept), dtype=np.float32)
            terms = np.sort((VOCABULARY * drawn**2).astype(np.int32), axis=1)
            weights = random.random((len(rows), kept), dtype=np.float32) + np.float32(0.1)
            entries = weights.ravel(), terms.ravel(), np.arange(len(rows) + 1) * kept
            dense_ND = random.standard_normal((len(rows), bench.dimensions), dtype=np.float32)
            dense_ND /= np.linalg.norm(dense_ND, axis=1, keepdims=True)
            made = sparse.csr_matrix(entries, (len(rows), VOCABULARY)), dense_ND
            for parts, found in zip(both, made, strict=True):
                parts.add(rows, found, Spending())
                if parts.full:
                    parts.keep()
        for parts in both:
            parts.keep()
    return sum(counts.values())


def search(bench: Bench, kind: str) -> int:
    from lion_sweep.stages.index import over
    from lion_sweep.stages.search import write_run

    (folder := bench.folder / f"run {kind}").mkdir()
    target = {"sparse": "sparse.SparseIndex", "dense": "dense.DenseIndex"}[kind]
    engine, passages = {"_target_": f"lion_sweep.search.{target}"}, bench.vectors("passages", kind)
    built = over(engine, bench.source.documents, passages, bench.shop, folder)
    asked = bench.source.judged["dev"].read(bench.shop).asked
    run = built.search(asked, bench.vectors("dev", kind).rows(0, len(asked)), HITS)
    write_run(run, folder, kind)
    return len(asked)


def search_sparse(bench: Bench) -> int:
    return search(bench, "sparse")


def search_dense(bench: Bench) -> int:
    return search(bench, "dense")


def score(bench: Bench) -> int:
    from lion_sweep.evaluation.measures import evaluate
    from lion_sweep.search.runs import Run

    judged = bench.source.judged["dev"].read(bench.shop).qrels
    for kind in ("sparse", "dense"):
        evaluate(Run.load(bench.folder / f"run {kind}" / "run.npz"), judged, MEASURES)
    return len(judged)


def compared(bench: Bench) -> int:
    """Hits of a few queries have to be those of a plain product in float64, block by block."""
    import numpy as np

    from lion_sweep.search.runs import Run

    documents = bench.source.documents.read(bench.shop)
    asked = bench.source.judged["dev"].read(bench.shop).asked[:SAMPLE]
    for kind in ("sparse", "dense"):
        queries_SD = bench.vectors("dev", kind).rows(0, len(asked)).astype(np.float64)
        blocks = (block for _, block in bench.vectors("passages", kind).blocks())
        scores_SN = np.concatenate([_products(queries_SD, block) for block in blocks], axis=1)
        run = Run.load(bench.folder / f"run {kind}" / "run.npz")
        for query_id, scores_N in zip(asked, scores_SN, strict=True):
            ids, found = zip(*run.hits(query_id), strict=True)
            np.testing.assert_allclose(found, scores_N[documents.ids.rows(ids)], rtol=1e-5)
            np.testing.assert_allclose(found, np.sort(scores_N)[: -len(ids) - 1 : -1], rtol=1e-5)
    return len(asked)


def _products(queries_SD: Any, block_MD: Any) -> Any:
    found = queries_SD @ block_MD.astype("float64").T
    return found.toarray() if hasattr(found, "toarray") else found


# In their order, by the names that `--stages` takes; each returns how many texts it was at.
STAGES: dict[str, Callable[[Bench], int]] = {
    stage.__name__: stage
    for stage in (
        import_texts,
        judgements,
        stand_in,
        tokens,
        index,
        negatives,
        teacher,
        vectors,
        search_sparse,
        search_dense,
        score,
        compared,
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


def slopes(sizes: dict[int, dict[str, dict[str, float]]]) -> dict[str, list[float]]:
    """By stage, from each size to the next."""

    def slope(name: str, few: int, many: int) -> float:
        seconds = sizes[many][name]["seconds"] / sizes[few][name]["seconds"]
        return round(math.log(seconds) / math.log(many / few), 3)

    steps = list(itertools.pairwise(sizes))
    return {name: [slope(name, *step) for step in steps] for name in next(iter(sizes.values()))}


def main() -> None:
    """Make the collections, run the stages, write results/scale.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, nargs="+", default=[100_000])
    parser.add_argument("--queries", type=int, nargs="+", default=[6_000], help="training ones")
    parser.add_argument("--dev", type=int, default=6980, help="queries that are searched for")
    parser.add_argument("--entries", type=int, default=300, help="of a sparse vector")
    parser.add_argument("--dimensions", type=int, default=1024, help="of a dense vector")
    parser.add_argument("--until", choices=STAGES, default="compared", help="the last stage to run")
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
            shutil.rmtree(folder, ignore_errors=True)
    results: dict[str, Any] = {"stages": sizes[options.passages[-1]], "sizes": sizes}
    if len(sizes) > 1:
        results["slopes"] = slopes(sizes)
        print(f"\nslopes of seconds: {json.dumps(results['slopes'])}")
    interleaved.write(
        results,
        checked="hits of four queries against a plain product, where vectors are searched",
        packages=["numpy", "pyarrow", "tokenizers"],
        facts={key: value for key, value in vars(options).items() if key != "folder"},
        device=interleaved.processor(),
    )


if __name__ == "__main__":
    main()
