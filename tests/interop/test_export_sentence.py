"""Cells as models of sentence-transformers: what it makes of texts, against our vectors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import by_axes
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from lion_sweep import evaluate
from lion_sweep.config import Lora, TextForm, write_config
from lion_sweep.data.pretrained import tokenizer_of
from lion_sweep.errors import UserError
from lion_sweep.export import __main__ as export
from lion_sweep.export.sample import Sample, Vectors, encode, misplaced, of_collection
from lion_sweep.export.sentence import SentenceTransformers
from lion_sweep.interop import checkpoints, sentence
from lion_sweep.interop.checkpoints import Checkpoint
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.proxy import train_tokenizer
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.stages.finished_cell import Finished

library = pytest.importorskip("sentence_transformers")

TEXTS = ["lions roar", " a lion that roars at night, and another one that does not", "Whales"]
SAMPLE = Sample(queries=TEXTS, passages=TEXTS, query_length=3, passage_length=6)
ENCODERS: dict[str, tuple[str, Callable[[Backbone], Any]]] = {
    "tokens": ("dense", lambda backbone: DenseEncoder(backbone, "tokens")),
    "mean": ("dense", lambda backbone: DenseEncoder(backbone, "mean")),
    "last": ("dense", lambda backbone: DenseEncoder(backbone, "mean", "last")),
    "sparse": ("sparse", lambda backbone: SparseEncoder(backbone, 0.0)),
    "threshold": ("sparse", lambda backbone: SparseEncoder(backbone, 0.25)),
    "centre": ("sparse", lambda backbone: SparseEncoder(centred(backbone), 0.25)),
}


def centred(backbone: Backbone) -> Backbone:
    """With a centre far from 0."""
    entries, width = backbone.head_VD.shape
    backbone.add("level", lambda: torch.linspace(-0.1, 0.2, width))
    backbone.add("centre", lambda: torch.linspace(-2, 2, entries))
    return backbone


def awkward_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """As decoders have them: a first token, no token of padding, padding on the left, chats."""
    tokenizer = train_tokenizer(TEXTS)
    first = ("<mask>", tokenizer.mask_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<mask> $A", special_tokens=[first]
    )
    tokenizer.pad_token, tokenizer.eos_token = None, "<pad>"
    tokenizer.chat_template = "{% for message in messages %}Q: {{ message.content }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))
    found = tokenizer_of(str(folder))
    assert (found.pad_token, found.padding_side, len(found("")["input_ids"])) == (None, "left", 1)
    return found


@pytest.fixture
def finished(make_model, compose_cell, tmp_path: Path) -> Callable[..., SentenceTransformers]:
    """Of a cell of a paradigm and an encoder, with a LoRA that does something."""
    source = tmp_path / "base"
    tokenizer = awkward_tokenizer(source)

    def make(
        paradigm: str, encoder: Callable[[Backbone], Any], **form: Any
    ) -> SentenceTransformers:
        def load(dtype: torch.dtype) -> Any:
            model = make_model(vocab_size=len(tokenizer)).to(dtype)
            adapted = Backbone(model).with_lora(Lora(4, 8, 0.0, ["q_proj", "down_proj"]))
            torch.manual_seed(1)
            for key, weight in adapted.trainable().items():
                if "lora_B" in key:
                    torch.nn.init.normal_(weight, std=0.3)
            return encoder(adapted.merged())

        lengths = SAMPLE.query_length, SAMPLE.passage_length
        words = ["evaluation.query_length", "evaluation.passage_length"]
        cut = [f"{word}={length}" for word, length in zip(words, lengths, strict=True)]
        config = compose_cell("ladder=full", f"paradigm={paradigm}", *cut)
        told = "tiny", "cell", str(source), paradigm, {}, load, lengths, config
        checkpoint = Checkpoint(*told, text=TextForm(**form))
        folder = tmp_path / "root" / "cells" / "tiny"
        folder.mkdir(parents=True)
        write_config(config, folder, {})
        return SentenceTransformers(Finished(folder, {}), checkpoint)

    return make


@pytest.mark.parametrize("name", ENCODERS)
def test_the_library_makes_our_vectors(finished, tmp_path: Path, name: str) -> None:
    form: SentenceTransformers = finished(*ENCODERS[name])
    folder = tmp_path / "model"
    folder.mkdir()
    form.write(folder)
    ours, theirs = encode(form.checkpoint, SAMPLE), form.vectors(folder, SAMPLE)
    assert np.abs(ours.passages_ND).max() > 0.1
    # Texts are longer than queries may be, and are cut there, and only there.
    assert not np.allclose(ours.queries_QD[1], ours.passages_ND[1], atol=1e-3)
    for mine, found in (
        (ours.queries_QD, theirs.queries_QD),
        (ours.passages_ND, theirs.passages_ND),
    ):
        np.testing.assert_allclose(found, mine, rtol=0, atol=1e-6)
    model = sentence.load(str(folder), "cpu")
    kind = library.SparseEncoder if form.checkpoint.paradigm == "sparse" else None
    assert type(model) is (kind or library.SentenceTransformer)
    assert model.similarity_fn_name == "dot" and not any(model.prompts.values())
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    # In one batch, padded: `encode` cuts where passages are cut.
    together = model.encode(TEXTS, batch_size=3, convert_to_tensor=True)
    together = together.to_dense() if together.is_sparse else together
    np.testing.assert_allclose(together, ours.passages_ND, rtol=0, atol=2e-6)
    # No file holds code of its own, and none of what was merged is left.
    assert not list(folder.rglob("*.py")) and not (folder / "decoder").exists()


def test_prompts_are_the_models_own(finished, tmp_path: Path) -> None:
    prompts = {"query_prompt": "lions ", "passage_prompt": "a "}
    form: SentenceTransformers = finished(*ENCODERS["mean"], **prompts)
    folder = tmp_path / "model"
    folder.mkdir()
    form.write(folder)
    ours, theirs = encode(form.checkpoint, SAMPLE), form.vectors(folder, SAMPLE)
    np.testing.assert_allclose(theirs.queries_QD, ours.queries_QD, rtol=0, atol=1e-6)
    np.testing.assert_allclose(theirs.passages_ND, ours.passages_ND, rtol=0, atol=1e-6)
    plain = sentence.load(str(folder), "cpu").encode(TEXTS, batch_size=1)
    assert not np.allclose(plain, ours.passages_ND, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "form", "says"),
    [
        ("mean", {"echo": True}, "paradigm.text.echo: the modules"),
        ("mean", {"append_eos": True, "special_tokens": False}, r"special_tokens, .*append_eos: "),
        ("without BOS", {}, "paradigm.encoder.pool_bos: the modules"),
    ],
)
def test_forms_that_the_library_has_not(
    finished, tmp_path: Path, name: str, form: dict[str, bool], says: str
) -> None:
    without = ("sparse", lambda backbone: SparseEncoder(backbone, 0.0, pool_bos=False))
    made: SentenceTransformers = finished(*(ENCODERS | {"without BOS": without})[name], **form)
    with pytest.raises(UserError, match=says):
        made.write(tmp_path)


def test_the_token_ids_are_ours(finished, tmp_path: Path) -> None:
    form: SentenceTransformers = finished(*ENCODERS["tokens"])
    folder = tmp_path / "model"
    folder.mkdir()
    form.write(folder)
    model = sentence.load(str(folder), "cpu")
    tokenizer = tokenizer_of(form.checkpoint.source)
    for task, length in (("query", 3), ("document", 6)):
        found = model.preprocess(TEXTS, task=task)
        for text, ids, mask in zip(TEXTS, found["input_ids"], found["attention_mask"], strict=True):
            ours = tokenizer(text, truncation=True, max_length=length)["input_ids"]
            assert ids[: len(ours)].tolist() == ours
            assert mask.tolist() == [1] * len(ours) + [0] * (len(ids) - len(ours))


def test_attention_that_looks_back_only_is_noticed(finished, tmp_path: Path) -> None:
    form: SentenceTransformers = finished(*ENCODERS["tokens"])
    folder = tmp_path / "model"
    folder.mkdir()
    form.write(folder)
    path = folder / "config.json"
    told = json.loads(path.read_text())
    assert told["is_causal"] is False
    path.write_text(json.dumps(told | {"is_causal": True}))
    ours, theirs = encode(form.checkpoint, SAMPLE), form.vectors(folder, SAMPLE)
    assert np.abs(ours.passages_ND - theirs.passages_ND).max() > 1e-2
    assert misplaced(ours, theirs) > 0


def test_an_encoder_that_no_module_expresses(finished, tmp_path: Path) -> None:
    class LastToken:
        def __init__(self, backbone: Backbone) -> None:
            self.backbone = backbone

    form: SentenceTransformers = finished("dense", LastToken)
    with pytest.raises(UserError, match=r"LastToken has no counterpart.*leave --as away"):
        form.write(tmp_path / "model")


def test_texts_without_a_token_are_not_compared(tmp_path: Path, compose_cell) -> None:
    (tmp_path / "qrels").mkdir()
    for file, texts in (("corpus", ["lions", "", "whales"]), ("queries", ["", "roar", "night"])):
        rows = [{"_id": str(number), "text": text} for number, text in enumerate(texts)]
        path = tmp_path / f"{file}.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    judged = "".join(f"{number}\t{number}\t1\n" for number in range(3))
    (tmp_path / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    root = f"paths.root={tmp_path / 'root'}"
    config = compose_cell("data=beir", f"data.path={tmp_path}", "data.train_split=test", root)
    sample = of_collection(config, train_tokenizer(TEXTS))
    assert (sample.queries, sample.passages) == (["roar", "night"], ["lions", "whales"])


def test_places_may_change_within_rounding_only() -> None:
    passages = np.eye(3, dtype=np.float32)
    ours = Vectors(np.float32([[1, 0.5, 0.500001]]), passages)
    assert misplaced(ours, Vectors(np.float32([[1, 0.500001, 0.5]]), passages)) == 0
    assert misplaced(ours, Vectors(np.float32([[0.5, 1, 0.4]]), passages)) == pytest.approx(2 / 3)


def test_a_model_without_a_vector_per_text_is_refused(tmp_path: Path) -> None:
    settings = {"model_type": "CrossEncoder"}
    (tmp_path / sentence.SETTINGS).write_text(json.dumps(settings))
    with pytest.raises(UserError, match="is a CrossEncoder, which makes no single vector"):
        sentence.load(str(tmp_path), "cpu")


def test_an_older_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "__version__", "5.7.0")
    with pytest.raises(UserError, match=r"sentence-transformers >= 6: pip install"):
        sentence.library()


@pytest.mark.parametrize("name", ["1b-sparse-cl", "1b-dense-cl"])
def test_an_exported_cell_scores_as_its_weights(
    twin: Path, small_beir: Path, tmp_path: Path, capsys, name: str
) -> None:
    result = by_axes(twin)[name]
    folder, cell = tmp_path / "model", twin / "cells" / result["id"]
    assert export.main([str(cell), str(folder), "--as", "sentence-transformers"]) == 0
    card = (folder / "README.md").read_text(encoding="utf-8")
    kind = {"sparse": "SparseEncoder", "dense": "SentenceTransformer"}[result["axes"]["paradigm"]]
    assert "library_name: sentence-transformers" in card and f'model = {kind}("FOLDER")' in card
    assert f"| twin | nDCG@10 | {result['scores']['twin']['nDCG@10']:.4f} |" in card
    config = Finished.read(cell).config
    found = checkpoints.find(str(folder), None, config, None)
    assert (found.kind, found.paradigm) == ("sentence-transformers", result["axes"]["paradigm"])
    assert found.lengths == (config.evaluation.query_length, config.evaluation.passage_length)
    # In fp32, as what a cell scores in bf16 depends on where its products are rounded.
    words = ["data=beir", "data.name=twin", f"data.path={small_beir}", "recipe.precision=fp32"]
    words += [f"paths.root={tmp_path / 'scored'}", "format=json"]
    weights = twin / "stages" / result["stages"]["train"]["folder"] / "weights"
    base = twin / "stages" / result["stages"]["backbone"]["folder"]
    capsys.readouterr()
    scores = []
    for asked in ([f"checkpoint={folder}"], [f"checkpoint={weights}", f"base={base}"]):
        assert evaluate.main([*asked, *words]) == 0
        scores.append(json.loads(capsys.readouterr().out)["scores"]["twin"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-9)
    assert scores[0] == pytest.approx(result["scores"]["twin"], abs=0.02)
