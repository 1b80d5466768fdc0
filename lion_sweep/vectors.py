"""`python -m lion_sweep.vectors CELL FOLDER --for lucene`: a cell's vectors for an engine.

--for lucene       what Anserini and Pyserini index and search: levels of 8 bits (or --bits), or
                   dense vectors
--for opensearch   bodies of OpenSearch's requests, with float weights or dense vectors

The vectors are those that the cell was scored with, read from its stages. The files are checked
before the folder appears: read back, they have to find what the cell's own search finds.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_class

from lion_sweep import command
from lion_sweep.config import changed
from lion_sweep.data.collection import Collection
from lion_sweep.data.pretrained import tokenizer_of
from lion_sweep.errors import UserError
from lion_sweep.evaluation.measures import evaluate, mean
from lion_sweep.files import write_json
from lion_sweep.interop.finished import Finished
from lion_sweep.machine.progress import Progress
from lion_sweep.search import anserini, anserini_files, encoding, opensearch_files, topk
from lion_sweep.search.encoded import Encoded
from lion_sweep.search.lucene import ImpactSearcher, quantise
from lion_sweep.search.runs import Run, drop_self_hits
from lion_sweep.stages.engine import DONE
from lion_sweep.stages.search import RUN
from lion_sweep.stages.texts import evaluation_sets
from lion_sweep.stages.workshop import Workshop

FORMATS: dict[str, Any] = {"lucene": anserini_files, "opensearch": opensearch_files}
README, FACTS, TERMS = "README.md", "lion_sweep.json", "terms.tsv"
BITS = 8


def main(words: list[str]) -> int:
    """The exit status. Raises `UserError` where nothing can be exported."""
    parser = command.parser("vectors", __doc__)
    parser.add_argument("cell", type=Path, help="the cell's folder, or its id below ROOT/cells")
    parser.add_argument("folder", type=Path, help="where the files go; must not exist")
    parser.add_argument("--for", dest="engine", choices=FORMATS, required=True)
    parser.add_argument("--set", dest="name", help="of evaluation.sets; else the cell's collection")
    parser.add_argument("--bits", type=int, choices=range(1, 17), help=f"of a level; {BITS}")
    asked = command.parse(parser, words)
    cell = Finished.read(asked.cell, asked.root)
    facts = export(cell, asked.folder, asked.engine, asked.name, asked.bits)
    print(f"{asked.folder}: vectors of {facts['documents']} passages, {facts['queries']} queries")
    print(f"{facts['checked']} {agreement(facts)}")
    return 0


@dataclass(frozen=True)
class Source:
    """A finished cell's vectors of a collection, and the run that exact search finds with them."""

    cell: Finished
    collection: Collection
    split: str
    encoded: Encoded
    run: Run


def find(cell: Finished, name: str | None) -> Source:
    """Read what a cell was scored with on the set `name` (None: on its own collection).

    Raises `UserError` where the cell was not scored on the set, or its vectors or the collection
    are not there as they were.
    """
    config, known = cell.config, cell.result["collections"]
    name = name or config.data.name
    if name not in known:
        scored = ", ".join(known)
        raise UserError(f"{cell.name} was not scored on {name}: --set is one of {scored}.")
    sets = {key: value for key, value in config.evaluation.sets.items() if key == name}
    shop = Workshop(cell.root, Progress(cell.name, None))
    of_set = changed(config, {"evaluation.sets": sets})
    collection, split = evaluation_sets(of_set, shop)[name]
    if collection.checksum != known[name]["checksum"]:
        raise UserError(f"{name} is not what {cell.name} was scored on: its texts have changed.")
    passages, asked, searched = (
        cell.stage(f"{work} {name}") for work in ("encode passages", "encode queries", "search")
    )
    for folder in (passages, asked):
        if not (folder / DONE).is_file():
            raise UserError(
                f"{cell.name} has its result, but its vectors are gone from {folder}: python -m "
                f"lion_sweep.evaluate checkpoint={cell.folder}, with the cell's data= and "
                "data.path=, encodes them again."
            )
    encoded = Encoded(
        collection.documents.ids,
        encoding.load(passages / "vectors"),
        collection.asked(split),
        encoding.load(asked / "vectors"),
    )
    engine = config.engine.of(config.paradigm.made_by.kind, config.paradigm.name)
    searcher: Any = get_class(engine["_target_"])
    exact = searcher.exact and not engine.get("half")
    kept = exact and (searched / DONE).is_file()
    run = Run.load(searched / RUN) if kept else encoded.search(config.evaluation.depth)
    return Source(cell, collection, split, encoded, run)


def export(
    cell: Finished, folder: Path, engine: str, name: str | None, bits: int | None
) -> dict[str, Any]:
    """Write the vectors to `folder`, which appears whole or not at all; returns its facts.

    Raises `UserError` where `find` does, where the folder is there already, or where the files do
    not find what the cell finds.
    """
    with command.new_folder(folder) as partial:
        source, config = find(cell, name), cell.config
        asked = source.encoded.with_terms() if source.encoded.is_sparse else source.encoded
        facts: dict[str, Any] = {
            "cell": cell.name,
            "set": source.collection.name,
            "checksum": source.collection.checksum,
            "for": engine,
            "paradigm": config.paradigm.name,
            "documents": len(asked.document_ids),
        }
        if engine == "lucene" and asked.is_sparse:
            asked, scales = _levels(asked, bits or BITS)
            facts |= scales
        elif bits:
            raise UserError(f"--bits={bits} is for sparse vectors and --for lucene: leave it away.")
        facts["queries"] = len(asked.query_ids)
        facts["queries_without_terms"] = len(source.encoded.query_ids) - len(asked.query_ids)
        guide = FORMATS[engine].write(asked, partial, config.evaluation.depth)
        if asked.is_sparse:
            _write_terms(asked, cell.source, partial / TERMS)
        facts |= check(source, asked, engine, partial)
        write_json(partial / FACTS, facts)
        (partial / README).write_text(readme(source, facts, guide), encoding="utf-8")
    return facts


def _levels(encoded: Encoded, bits: int) -> tuple[Encoded, dict[str, Any]]:
    """The vectors as integer levels, without queries that have none; bits and scales."""
    documents, document_scale = quantise(encoded.documents, bits)
    queries, query_scale = quantise(encoded.queries, bits)
    levels = replace(encoded, documents=documents, queries=queries).with_terms()
    return levels, {"bits": bits, "document_scale": document_scale, "query_scale": query_scale}


def _write_terms(encoded: Encoded, tokenizer: str, path: Path) -> None:
    """A line for every term in use: its id, a tab, its token as JSON."""
    used = np.union1d(encoded.documents.indices, encoded.queries.indices).tolist()
    tokens = tokenizer_of(tokenizer).convert_ids_to_tokens(used)
    with path.open("w", encoding="utf-8") as file:
        for term, token in zip(used, tokens, strict=True):
            file.write(f"{term}\t{json.dumps(token, ensure_ascii=False)}\n")


def check(source: Source, written: Encoded, engine: str, folder: Path) -> dict[str, Any]:
    """What the files find, read back, beside what the cell found.

    Levels have to find in Lucene (where Java is missing: in exact search) what exact search finds
    with them, floats what the cell found. Raises `UserError` where they do not.
    """
    evaluation = source.cell.config.evaluation
    depth = evaluation.depth
    read = FORMATS[engine].read(folder, written.terms)
    problem = f"{source.cell.name} cannot be exported: read back, the files %s. Please report this."
    if not read.equals(written):
        raise UserError(problem % "hold other vectors")
    if engine == "lucene" and read.is_sparse:
        found, checked = _check_levels(read, folder, depth, problem)
    else:
        found, checked = read.search(depth), "Read back, the vectors give the cell's run."
        if found != _of_queries(source.run, read.query_ids):
            raise UserError(problem % "find other passages")
        if read.is_sparse:
            found = opensearch_files.as_stored(read).search(depth)
            checked += " With the 9 bits that Lucene keeps of a document's weight:"
    measure = evaluation.measures_of(source.collection.name)[0]
    qrels = source.collection.qrels[source.split]
    here, there = (mean(evaluate(run, qrels, [measure]))[measure] for run in (found, source.run))
    return {
        "checked": checked,
        "top_10_kept": topk.agreement(found, source.run).get("agreement_10", 1.0),
        "measure": measure,
        "score": here,
        "score_of_cell": there,
    }


def _check_levels(read: Encoded, folder: Path, depth: int, problem: str) -> tuple[Run, str]:
    """(what exact search finds with levels, how it was checked)."""
    try:
        found = read.search(depth)
        if anserini.missing():
            return found, "Read back, the levels are whole; there was no Java to ask Lucene."
        with tempfile.TemporaryDirectory(dir=folder) as index:
            documents, ids = folder / anserini_files.DOCUMENTS, sorted(read.document_ids)
            searcher = ImpactSearcher(documents, Path(index) / "index", ids)
            by_lucene = drop_self_hits(searcher.search(read.query_ids, read.queries, depth))
    except ValueError as error:  # scores beyond what the engine adds up exactly
        raise UserError(f"{error}: export with fewer --bits.") from None
    if found != by_lucene:
        raise UserError(problem % "find other passages in Lucene than in exact search")
    return found, "Lucene finds in these files what exact search finds with their levels."


def _of_queries(run: Run, query_ids: Sequence[str]) -> Run:
    """The run of these queries alone."""
    rows = run.rows(query_ids)
    documents_QK, scores_QK = run.documents_QK[rows], run.scores_QK[rows]
    return replace(run, query_ids=query_ids, documents_QK=documents_QK, scores_QK=scores_QK)


def readme(source: Source, facts: dict[str, Any], guide: str) -> str:
    """What the folder holds, how to index and search it, and what was checked."""
    evaluation = source.cell.config.evaluation
    query_length, passage_length = evaluation.lengths_of(source.collection.name)
    parts = [
        f"# {facts['cell']}: vectors for {facts['for']}",
        f"{facts['paradigm'].capitalize()} vectors of {facts['documents']:,} passages and "
        f"{facts['queries']:,} queries of {facts['set']} (cut at {passage_length} and "
        f"{query_length} tokens), by lion_sweep. Scores are dot products.",
    ]
    if source.cell.result["ladder"] == "proxy":
        parts.append("**PROXY: a shrunken stand-in; says nothing of models of the real sizes.**")
    if facts["queries_without_terms"]:
        parts.append(f"{facts['queries_without_terms']} queries have no term and are left out.")
    if source.encoded.is_sparse:
        parts.append(f"Terms are token ids in decimal digits; {TERMS} has their tokens.")
    if "bits" in facts:
        parts.append(
            f"Weights are integer levels of {facts['bits']} bits: a document's weight is its level "
            f"times {facts['document_scale']:.9g}, a query's its level times "
            f"{facts['query_scale']:.9g}."
        )
    parts.append(f"{guide}\n{facts['checked']} {agreement(facts)}")
    return "\n\n".join(parts) + "\n"


def agreement(facts: dict[str, Any]) -> str:
    """How near the exported vectors' ranking is to the cell's."""
    return (
        f"Of the cell's top 10, {facts['top_10_kept']:.2%} is kept; {facts['measure']} "
        f"{facts['score']:.4f}, the cell's {facts['score_of_cell']:.4f}."
    )


if __name__ == "__main__":
    command.quiet()
    command.run(main)
