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

from lion_sweep import command
from lion_sweep.config import changed
from lion_sweep.config.classes import class_named
from lion_sweep.config.ladder import CAVEATS
from lion_sweep.data.collection import Collection
from lion_sweep.data.pretrained import tokenizer_of
from lion_sweep.errors import UserError
from lion_sweep.evaluation.measures import evaluate, mean
from lion_sweep.files import read_json, write_json
from lion_sweep.machine.progress import Progress
from lion_sweep.models.encoders import PASSAGES, QUERIES
from lion_sweep.search import anserini, anserini_files, opensearch_files
from lion_sweep.search.base import Engine, agreement
from lion_sweep.search.encoded import Encoded
from lion_sweep.search.lucene import ImpactSearcher, quantise
from lion_sweep.search.parts import Stored
from lion_sweep.search.pruning import Pruned
from lion_sweep.search.runs import Run, drop_self_hits
from lion_sweep.stages.encode import VECTORS
from lion_sweep.stages.engine import DONE
from lion_sweep.stages.finished_cell import Finished
from lion_sweep.stages.search import RUN
from lion_sweep.stages.texts import evaluation_sets
from lion_sweep.stages.workshop import Workshop

FORMATS: dict[str, Any] = {"lucene": anserini_files, "opensearch": opensearch_files}
README, FACTS, TERMS = "README.md", "lion_sweep.json", "terms.tsv"
SIDES = PASSAGES, QUERIES
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
    print(shown(facts))
    return 0


@dataclass(frozen=True)
class Source:
    """A finished cell's vectors of a collection, and the run that exact search finds with them."""

    cell: Finished
    collection: Collection
    split: str
    encoded: Encoded
    run: Run

    def refused(self, what: str) -> UserError:
        """Files were written that are wrong."""
        return UserError(
            f"{self.cell.name} cannot be exported: read back, the files {what}. Please report this."
        )


def find(cell: Finished, name: str | None) -> Source:
    """Read what a cell was scored with on the set `name` (None: on its own collection).

    Raises `UserError` where the cell was not scored on the set, or its vectors or the collection
    are not there as they were.
    """
    config, known = cell.config, cell.result["collections"]
    name = name or config.data.name
    if config.paradigm.made_by.per_token:
        raise UserError(
            f"{cell.name} has a vector per token, and the files for engines hold one per text: "
            "choose a cell of paradigm=dense or paradigm=sparse."
        )
    if name not in known:
        scored = ", ".join(known)
        raise UserError(f"{cell.name} was not scored on {name}: --set is one of {scored}.")
    sets = {key: value for key, value in config.evaluation.sets.items() if key == name}
    shop = Workshop(cell.root, Progress(cell.name, None))
    source, split = evaluation_sets(changed(config, {"evaluation.sets": sets}), shop)[name]
    collection = source.read(shop)
    if collection.checksum != known[name]["checksum"]:
        raise UserError(f"{name} is not what {cell.name} was scored on: its texts have changed.")
    folders = [cell.intact(f"encode {what} {name}") for what in SIDES]
    for folder in folders:
        if not (folder / DONE).is_file():
            raise UserError(
                f"{cell.name} has its result, but its vectors are gone from {folder}: python -m "
                f"lion_sweep.evaluate checkpoint={cell.folder}, with the cell's data= and "
                "data.path=, encodes them again."
            )
    passages, queries = (
        _searched(cell, folder, f"prune {what} {name}").all()
        for folder, what in zip(folders, SIDES, strict=True)
    )
    encoded = Encoded(collection.documents.ids, passages, collection.judged[split].asked, queries)
    engine = config.engine.of(config.paradigm.made_by.kind, config.paradigm.name)
    searcher: type[Engine] = class_named(engine["_target_"])
    if searcher.exact and not engine.get("half"):
        searched = cell.intact(f"search {name}")
        if (searched / DONE).is_file():
            return Source(cell, collection, split, encoded, Run.load(searched / RUN))
    return Source(cell, collection, split, encoded, encoded.search(config.evaluation.depth))


def _searched(cell: Finished, folder: Path, pruned: str) -> Stored:
    """The vectors in the folder, brought to the L0 that the cell was searched at, if to any."""
    if pruned not in cell.result["stages"]:
        return Stored(folder / VECTORS)
    return Pruned(folder / VECTORS, least=read_json(cell.stage(pruned) / DONE)["facts"]["least"])


def export(
    cell: Finished, folder: Path, engine: str, name: str | None, bits: int | None
) -> dict[str, Any]:
    """Write the vectors to `folder`, which appears whole or not at all; returns its facts.

    Raises `UserError` where `find` does, where the folder is there already, or where the files do
    not find what the cell finds.
    """
    with command.new_folder(folder) as partial:
        source, config, form = find(cell, name), cell.config, FORMATS[engine]
        asked = source.encoded.with_terms()
        facts: dict[str, Any] = {
            "cell": cell.name,
            "set": source.collection.name,
            "checksum": source.collection.checksum,
            "for": engine,
            "paradigm": config.paradigm.name,
            "documents": len(asked.document_ids),
        }
        levels = engine == "lucene" and asked.is_sparse
        if levels:
            facts["bits"] = bits or BITS
            documents, facts["document_scale"] = quantise(asked.documents, facts["bits"])
            queries, facts["query_scale"] = quantise(asked.queries, facts["bits"])
            asked = replace(asked, documents=documents, queries=queries).with_terms()
        elif bits:
            raise UserError(f"--bits={bits} is for sparse vectors and --for lucene: leave it away.")
        facts["queries"] = len(asked.query_ids)
        facts["queries_without_terms"] = len(source.encoded.query_ids) - len(asked.query_ids)
        guide = form.write(asked, partial, config.evaluation.depth)
        if asked.is_sparse:
            used = np.union1d(asked.documents.indices, asked.queries.indices).tolist()
            tokens = tokenizer_of(cell.source).convert_ids_to_tokens(used)
            with (partial / TERMS).open("w", encoding="utf-8") as file:
                for term, token in zip(used, tokens, strict=True):
                    file.write(f"{term}\t{json.dumps(token, ensure_ascii=False)}\n")
        if not asked.matches(*form.read(partial, asked.is_sparse)):
            raise source.refused("hold other vectors")
        facts |= check_levels(source, asked, partial) if levels else check_floats(source, asked)
        write_json(partial / FACTS, facts)
        (partial / README).write_text(readme(source, facts, guide), encoding="utf-8")
    return facts


def check_floats(source: Source, written: Encoded) -> dict[str, Any]:
    """What floats find, beside the cell's run. `UserError` where they find another."""
    found = written.search(source.cell.config.evaluation.depth)
    if found != _of_queries(source.run, written.query_ids):
        raise source.refused("find other passages")
    checked = "Read back, the vectors give the cell's run."
    if written.is_sparse:
        found = opensearch_files.as_stored(written).search(source.cell.config.evaluation.depth)
        checked += " With the 9 bits that Lucene keeps of a document's weight:"
    return compared(source, found, checked)


def check_levels(source: Source, written: Encoded, folder: Path) -> dict[str, Any]:
    """The same of levels. `UserError` where Lucene, if there is Java, finds others in the files."""
    depth, no_java = source.cell.config.evaluation.depth, anserini.missing()
    try:
        found = written.search(depth)
        if not no_java:
            with tempfile.TemporaryDirectory(dir=folder) as index:
                documents, ids = folder / anserini_files.DOCUMENTS, sorted(written.document_ids)
                searcher = ImpactSearcher(documents, Path(index) / "index", ids)
                hits = searcher.search(written.query_ids, written.queries, depth)
    except ValueError as error:  # scores beyond what the engine adds up exactly
        raise UserError(f"{error}: export with fewer --bits.") from None
    checked = "Lucene finds in these files what exact search finds with their levels."
    if no_java:
        checked = "Read back, the levels are whole; there was no Java to ask Lucene."
    elif found != drop_self_hits(hits):
        raise source.refused("find other passages in Lucene than in exact search")
    return compared(source, found, checked)


def compared(source: Source, found: Run, checked: str) -> dict[str, Any]:
    """Facts of a run with the exported vectors, beside the cell's; `checked` says how it was."""
    measure = source.cell.config.evaluation.measures_of(source.collection.name)[0]
    qrels = source.collection.judged[source.split].qrels
    here, there = (mean(evaluate(run, qrels, [measure]))[measure] for run in (found, source.run))
    return {
        "checked": checked,
        "top_10_kept": agreement(found, source.run).get("agreement_10", 1.0),
        "measure": measure,
        "score": here,
        "score_of_cell": there,
    }


def _of_queries(run: Run, query_ids: Sequence[str]) -> Run:
    """The run of these queries alone."""
    rows = run.rows(query_ids)
    documents_QK, scores_QK = run.documents_QK[rows], run.scores_QK[rows]
    return replace(run, query_ids=query_ids, documents_QK=documents_QK, scores_QK=scores_QK)


def readme(source: Source, facts: dict[str, Any], guide: str) -> str:
    """What the folder holds, how to index and search it, and what was checked."""
    evaluation = source.cell.config.evaluation
    query_length, passage_length = evaluation.lengths_of(source.collection.name)
    text = (
        f"# {facts['cell']}: vectors for {facts['for']}\n\n"
        f"{facts['paradigm'].capitalize()} vectors of {facts['documents']:,} passages and "
        f"{facts['queries']:,} queries of {facts['set']} (cut at {passage_length} and "
        f"{query_length} tokens), by lion_sweep. Scores are dot products.\n\n"
    )
    if caveat := CAVEATS.get(source.cell.result["ladder"]):
        text += f"{caveat.card}\n\n"
    if facts["queries_without_terms"]:
        text += f"{facts['queries_without_terms']} queries have no term and are left out.\n\n"
    if source.encoded.is_sparse:
        text += f"Terms are token ids in decimal digits; {TERMS} has their tokens.\n\n"
    if "bits" in facts:
        text += (
            f"Weights are integer levels of {facts['bits']} bits: a document's weight is its level "
            f"times {facts['document_scale']:.9g}, a query's its level times "
            f"{facts['query_scale']:.9g}.\n\n"
        )
    return f"{text}{guide}\n{shown(facts)}\n"


def shown(facts: dict[str, Any]) -> str:
    """How it was checked, and how near the exported vectors' ranking is to the cell's."""
    return (
        f"{facts['checked']} Of the cell's top 10, {facts['top_10_kept']:.2%} is kept; "
        f"{facts['measure']} {facts['score']:.4f}, the cell's {facts['score_of_cell']:.4f}."
    )


if __name__ == "__main__":
    command.quiet()
    command.run(main)
