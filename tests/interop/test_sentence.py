"""Models of sentence-transformers as people bring them: the library's own scores, or a sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import run
from safetensors.torch import load_file, save_file
from support import teacher_encoder

from lion_sweep.config import Config
from lion_sweep.data.pretrained import tokenizer_of
from lion_sweep.data.teacher import settings_of
from lion_sweep.errors import UserError
from lion_sweep.interop import checkpoints

library = pytest.importorskip("sentence_transformers")

Compose = Callable[..., Config]
WORDS = ["lion", "zebra", "river", "stone", "cloud", "grass", "query", "passage", ":"]
DOCUMENTS = {"d1": "lion zebra", "d2": "river stone cloud", "d3": "grass lion lion river"}
QUERIES = {"q1": "lion", "q2": "stone river"}
PROMPTS = {"query": "query : ", "document": "passage : "}


def saved(folder: Path, *after: object, **settings: object) -> Path:
    """A small BERT with its pooling, and what comes after it."""
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    teacher_encoder(folder / "bert", WORDS)
    first = Transformer(str(folder / "bert"))
    modules = [first, *(after or [Pooling(16, "mean")])]
    model = library.SentenceTransformer(modules=modules, device="cpu", **settings)
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def files(folder: Path) -> Path:
    """The collection in BEIR's layout."""
    (folder / "qrels").mkdir(parents=True)
    for name, held in (("corpus", DOCUMENTS), ("queries", QUERIES)):
        rows = [json.dumps({"_id": key, "text": text}) for key, text in held.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\nq2\td2\t1\n")
    return folder


@pytest.mark.parametrize(
    ("prompts", "score"), [(PROMPTS, "dot"), (PROMPTS, "cosine"), ({}, "cosine"), ({}, "dot")]
)
def test_scores_are_the_librarys(tmp_path: Path, prompts: dict[str, str], score: str) -> None:
    """Of every pair, in the run that is written, with prompts and cosines where it has them."""
    name = saved(tmp_path, prompts=prompts, similarity_fn_name=score)
    words = ["data=beir", f"data.path={files(tmp_path / 'beir')}", f"paths.root={tmp_path / 'out'}"]
    words.append("recipe.precision=fp32")
    done = run("lion_sweep.evaluate", f"checkpoint={name}", *words, "format=json")
    assert done.returncode == 0, done.stderr
    model = library.SentenceTransformer(str(name), device="cpu")
    vectors = (
        model.encode_query(list(QUERIES.values())),
        model.encode_document(list(DOCUMENTS.values())),
    )
    expected_QN = model.similarity(*vectors).numpy()
    if prompts:
        plain_QD = model.encode(list(QUERIES.values()), prompt="")
        assert not np.allclose(plain_QD, vectors[0], atol=1e-3)
    (path,) = Path(json.loads(done.stdout)["folder"]).rglob("*.trec")
    lines = [line.split() for line in path.read_text().splitlines()]
    found = {(query, document): float(value) for query, _, document, _, value, _ in lines}
    pairs = [(query, document) for query in QUERIES for document in DOCUMENTS]
    assert found.keys() == set(pairs)
    np.testing.assert_allclose([found[pair] for pair in pairs], expected_QN.ravel(), rtol=1e-5)


def refused(name: Path, compose_cell: Compose, says: str) -> None:
    with pytest.raises(UserError, match=says):
        checkpoints.find(str(name), None, compose_cell(), None)


def test_what_cannot_be_scored_is_refused(tmp_path: Path, compose_cell: Compose) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding

    far = saved(tmp_path / "far", similarity_fn_name="euclidean")
    refused(far, compose_cell, r"scores by euclidean \(similarity_fn_name\)")
    pooling = Pooling(16, "mean", include_prompt=False)
    refused(
        saved(tmp_path / "pooled", pooling, prompts=PROMPTS),
        compose_cell,
        r"leaves its prompts out of its pooling \(include_prompt\)",
    )
    table = StaticEmbedding(tokenizer_of(str(tmp_path / "far" / "bert")), embedding_dim=8)
    static = library.SentenceTransformer(modules=[table], device="cpu")
    static.save_pretrained(str(tmp_path / "static"), create_model_card=False)
    refused(tmp_path / "static", compose_cell, "begins with StaticEmbedding, which does not read")


def test_modules_of_somebodys_own_and_weights_that_are_missing(
    tmp_path: Path, compose_cell: Compose
) -> None:
    name = saved(tmp_path)
    path = name / "model.safetensors"
    state = load_file(path)
    save_file({k: w for k, w in state.items() if "layer.0." not in k}, path, {"format": "pt"})
    refused(name, compose_cell, r"no whole BertModel: 16 weights \(encoder.layer.0.attention")
    save_file({f"module.{k}": w for k, w in state.items()}, path, {"format": "pt"})
    refused(name, compose_cell, "Names in the file begin with 'module.'")
    path = name / "modules.json"
    listed = json.loads(path.read_text())
    listed[1]["type"] = "mine.Pooling"
    path.write_text(json.dumps(listed))
    refused(name, compose_cell, "cannot be read by sentence-transformers: .*mine")


def test_a_teacher_is_whole_mean_pooled_and_prompted(tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling

    told = settings_of(str(saved(tmp_path / "one", prompts=PROMPTS)))
    assert told == {"queries": "query : ", "passages": "passage : "}
    plain = settings_of(str(tmp_path / "one" / "bert"))  # no model of that library
    assert plain == {"queries": "", "passages": ""}
    for mode in ("cls", "max"):
        name = saved(tmp_path / mode, Pooling(16, mode))
        with pytest.raises(UserError, match=r"makes its vectors with Pooling\(.*takes the mean"):
            settings_of(str(name))
