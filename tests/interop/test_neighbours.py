"""Checkpoints of the study's neighbours, in their own layouts, against a float64 forward pass.

Shapes: Q queries, N passages, L tokens, D hidden dimensions, V vocabulary entries.
"""

import json
from collections.abc import Callable
from pathlib import Path

import plain_reference as plain
import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file
from tokenizers import processors
from torch import Tensor
from transformers import LlamaModel, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from lion_sweep import evaluate
from lion_sweep.config import Attention, Config
from lion_sweep.interop import checkpoints
from lion_sweep.interop.meant import Meant
from lion_sweep.models.proxy import train_tokenizer

Compose = Callable[..., Config]
DOCUMENTS = {"d1": "lions roar at night", "d2": "whales sing", "d3": "a lion that sings"}
QUERIES = {"q1": "lions", "q2": "who sings at night"}
RANK, ALPHA = 4, 8
REPLLAMA = ["q_proj", "v_proj", "o_proj", "down_proj", "up_proj", "gate_proj"]  # no k_proj


def collection(folder: Path) -> Path:
    """In BEIR's layout."""
    (folder / "qrels").mkdir(parents=True)
    for name, held in (("corpus", DOCUMENTS), ("queries", QUERIES)):
        rows = [json.dumps({"_id": key, "text": text}) for key, text in held.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\nq2\td2\t1\n")
    return folder


def llamas(folder: Path) -> PreTrainedTokenizerFast:
    """A tokenizer that puts <mask> before a text as Llama 2's does <s>, and nothing after it."""
    tokenizer = train_tokenizer([*DOCUMENTS.values(), *QUERIES.values(), "query: passage:"])
    first = ("<mask>", tokenizer.mask_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<mask> $A", special_tokens=[first]
    )
    tokenizer.bos_token = "<mask>"
    tokenizer.save_pretrained(folder)
    return tokenizer


def adapted(model: PeftModel, folder: Path, prefix: str) -> plain.Weights:
    """Save an adapter that does something; its weights and its base's, in float64."""
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    saved = load_file(folder / "adapter_model.safetensors")
    assert all(key.startswith(f"{prefix}layers.") for key in saved)
    # What the adapter is put around, by the names that it had before.
    named = {
        name.removeprefix(prefix).replace(".base_layer", ""): weight.detach()
        for name, weight in model.named_parameters()
        if "lora_" not in name
    }
    named |= {key.removeprefix(prefix): weight for key, weight in saved.items()}
    return {key.removeprefix("base_model.model."): w.double() for key, w in named.items()}


def repllama(make_model, folder: Path) -> tuple[Path, plain.Weights, PreTrainedTokenizerFast]:
    """As castorini/repllama-v1-7b-lora-passage was made: around a Llama without its head."""
    tokenizer = llamas(folder / "base")
    sizes = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id}
    make_model(**sizes, is_causal=True).save_pretrained(folder / "base")
    settings = LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0.1,
        target_modules=REPLLAMA,
        task_type=TaskType.FEATURE_EXTRACTION,
    )
    torch.manual_seed(2)
    model = get_peft_model(LlamaModel.from_pretrained(folder / "base"), settings)
    return folder / "adapter", adapted(model, folder / "adapter", "base_model.model."), tokenizer


def mistral(folder: Path) -> tuple[Path, plain.Weights, PreTrainedTokenizerFast]:
    """An adapter of a Mistral with its head, which is another matrix than the embeddings."""
    tokenizer = llamas(folder / "base")
    torch.manual_seed(1)
    shape = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=plain.LAYERS,
        num_attention_heads=plain.HEADS,
        num_key_value_heads=plain.KEY_VALUE_HEADS,
        max_position_embeddings=64,
        initializer_range=0.2,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=None,
        eos_token_id=None,
    )
    base = MistralForCausalLM(shape)
    base.save_pretrained(folder / "base")
    base.name_or_path = str(folder / "base")
    settings = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(base, settings)
    weights = adapted(model, folder / "adapter", "base_model.model.model.")
    return folder / "adapter", weights, tokenizer


def states(tokens: list[list[int]], weights: plain.Weights) -> list[Tensor]:
    return plain.hidden_states(tokens, weights, ALPHA / RANK, causal=True)


def scores(found: Path) -> dict[tuple[str, str], float]:
    """Of every query and passage, from the run that was written."""
    (path,) = found.rglob("*.trec")
    lines = (line.split() for line in path.read_text().splitlines())
    return {(query, document): float(value) for query, _, document, _, value, _ in lines}


def evaluated(
    checkpoint: Path, paradigm: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> dict[tuple[str, str], float]:
    """What the command finds."""
    words = [f"checkpoint={checkpoint}", f"paradigm={paradigm}", "format=json", "data=beir"]
    words += [f"data.path={collection(folder / 'beir')}", f"paths.root={folder / 'out'}"]
    assert evaluate.main([*words, "recipe.precision=fp32"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["paradigm"]) == ("adapter", paradigm)
    return scores(Path(told["folder"]))


def test_repllama(make_model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """BOS, prompt and text, EOS by hand, the last state, of unit length."""
    folder, weights, tokenizer = repllama(make_model, tmp_path)
    found = evaluated(folder, "repllama", tmp_path, capsys)

    def vectors(texts: dict[str, str], prompt: str) -> dict[str, Tensor]:
        read = [
            tokenizer(prompt + text)["input_ids"] + [tokenizer.eos_token_id]
            for text in texts.values()
        ]
        assert all(ids[0] == tokenizer.bos_token_id for ids in read)
        last = (state_LD[-1] for state_LD in states(read, weights))
        return dict(zip(texts, (one_D / one_D.norm() for one_D in last), strict=True))

    queries, passages = vectors(QUERIES, "query: "), vectors(DOCUMENTS, "passage: ")
    expected = {(q, d): float(queries[q] @ passages[d]) for q in QUERIES for d in DOCUMENTS}
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(expected.values()) - min(expected.values()) > 0.01


def test_mistral_splade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """BOS and the text twice, logits of the second copy by the embeddings, not scaled."""
    folder, weights, tokenizer = mistral(tmp_path)
    found = evaluated(folder, "mistral-splade", tmp_path, capsys)
    assert not torch.equal(weights["lm_head.weight"], weights["embed_tokens.weight"])

    def vectors(texts: dict[str, str]) -> dict[str, Tensor]:
        bodies = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts.values()]
        read = [[tokenizer.bos_token_id, *body, *body] for body in bodies]
        rows = []
        for body, state_LD in zip(bodies, states(read, weights), strict=True):
            logits_LV = state_LD[-len(body) :] @ weights["embed_tokens.weight"].T
            rows.append(torch.log1p(torch.relu(logits_LV.max(dim=0).values)))
        return dict(zip(texts, rows, strict=True))

    queries, passages = vectors(QUERIES), vectors(DOCUMENTS)
    expected = {(q, d): float(queries[q] @ passages[d]) for q in QUERIES for d in DOCUMENTS}
    assert found == pytest.approx(expected, rel=1e-5)


def test_an_adapter_that_many_have_needs_no_paradigm(compose_cell: Compose) -> None:
    config = compose_cell("ladder=full", "paradigm=repllama")
    meant = Meant.of("castorini/repllama-v1-7b-lora-passage", config, None)
    assert (meant.paradigm, meant.attention) == ("repllama", Attention.causal)
    assert meant.lengths == (31, 195) and meant.text.append_eos


def test_weights_are_known_by_what_they_see(
    make_model, tmp_path: Path, compose_cell: Compose
) -> None:
    """The same files read causally and not are two checkpoints."""
    folder, _, _ = repllama(make_model, tmp_path)
    found = [
        checkpoints.find(str(folder), None, compose_cell("ladder=full", *words), "repllama")
        for words in (
            ["paradigm=repllama"],
            ["paradigm=repllama", "paradigm.attention=bidirectional"],
        )
    ]
    assert found[0].identity != found[1].identity
    ids = torch.tensor([[3, 9, 12]])
    vectors = [one.make(torch.float32)(ids, torch.ones_like(ids)) for one in found]
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3
