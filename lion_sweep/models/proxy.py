"""Shrunken Llama decoders that start close to something useful.

A randomly initialised decoder of this size learns next to nothing in the seconds a laptop grid
has. So the stand-ins start near the identity (the layers' outputs are scaled down) with token
embeddings averaged from wordllama, a small table of pretrained embeddings that a Python package
ships, over a vocabulary trained on the collection. The architecture is Llama's, unchanged.

Shapes: V vocabulary entries, D hidden dimensions, W dimensions of the wordllama table.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lion_sweep.config.schema import ProxyShape
from lion_sweep.data import arrays
from lion_sweep.data.texts import Texts
from lion_sweep.data.tokens import AT_ONCE, encoded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 4096
MAX_POSITIONS = 512
SPECIAL_TOKENS = ["<pad>", "<mask>"]
# Scale of the layers' output projections: small enough that a layer starts as a correction.
OUTPUT_SCALE = 0.01
# Length of an embedding row by the importance of its token; the rest of the unit length goes to
# one direction that all rows share, so that the norms inside the model do not undo it.
LEAST_IMPORTANCE, MOST_IMPORTANCE = 0.7, 1.0
# Scaled logit (s * z) of the most important token with itself.
OWN_LOGIT = 10.0
# Passages, and queries, that the tokenizer is trained on at most.
SAMPLE = 100_000
RUN = 100  # that are drawn together
FREQUENCIES = "document_frequency.npy"
# Raised when what `build` makes of the same input changes.
RULES = 3
START = "near-identity Llama layers; token embeddings from wordllama l2_supercat_256 (PCA)"


def train_tokenizer(texts: Iterable[str]) -> "PreTrainedTokenizerFast":
    """Lower-cased byte-level BPE over `texts`."""
    from transformers import PreTrainedTokenizerFast  # takes a second to import

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # No text has <pad>, so that it can end one, where that is asked for.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<pad>", mask_token="<mask>"
    )


def train(
    passages: Texts,
    queries: Texts,
    rows_Q: NDArray[np.int64],
    folder: Path,
    on_text: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write what stand-ins of all sizes share to `folder`: a tokenizer, trained on the passages and
    some of the queries, and how many passages each of its tokens occurs in.

    Of more than `SAMPLE` passages or queries, as many are drawn.
    """
    rows_N, rows_Q = _drawn(np.arange(len(passages))), _drawn(rows_Q)
    done, total = 0, 2 * len(rows_N) + len(rows_Q)

    def read(texts: Texts, rows_R: NDArray[np.int64]) -> Iterator[list[str]]:
        nonlocal done
        for first in range(0, len(rows_R), AT_ONCE):
            yield (batch := texts.take(rows_R[first : first + AT_ONCE]))
            done += len(batch)
            on_text(done, total)

    batches = chain(read(passages, rows_N), read(queries, rows_Q))
    tokenizer = train_tokenizer(chain.from_iterable(batches))
    tokenizer.save_pretrained(folder)
    frequency_V = np.zeros(len(tokenizer), dtype=np.int64)
    for counts, ids in encoded(read(passages, rows_N), tokenizer):
        text_T = np.repeat(np.arange(len(counts)), counts)
        once = np.unique(text_T * len(tokenizer) + ids)  # every token of a text
        frequency_V += np.bincount(once % len(tokenizer), minlength=len(tokenizer))
    arrays.save(folder / FREQUENCIES, frequency_V)


def _drawn(rows_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """All, or the same sample of them every time, in their order.

    It is one of runs: texts that lie apart would each bring pages of their file into memory.
    """
    if len(rows_R) <= SAMPLE:
        return rows_R
    runs = np.random.default_rng(0).choice(len(rows_R) // RUN, SAMPLE // RUN, replace=False)
    return rows_R[(np.sort(runs)[:, None] * RUN + np.arange(RUN)).ravel()]


def pretrained_rows(tokenizer: Tokenizer) -> NDArray[np.float32]:
    """The mean wordllama row of every token's text, [V, W]; zeros where there is none."""
    import wordllama  # half a second, which who only asks for RULES need not wait

    package = Path(wordllama.__file__).parent
    (table,) = load_file(package / "weights" / "l2_supercat_256.safetensors").values()
    vocabulary = package / "tokenizers" / "l2_supercat_tokenizer_config.json"
    reference = Tokenizer.from_file(str(vocabulary))
    vocabulary_size = tokenizer.get_vocab_size()
    rows_VW = np.zeros((vocabulary_size, table.shape[1]), dtype=np.float32)
    for token in range(len(SPECIAL_TOKENS), vocabulary_size):
        text = tokenizer.decode([token]).strip()
        ids = reference.encode(text, add_special_tokens=False).ids if text else []
        if ids:
            rows_VW[token] = table[ids].astype(np.float32).mean(axis=0)
    return rows_VW


def importance(
    rows_VW: NDArray[np.float32], document_frequency_V: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Start importance of every token, in [LEAST_IMPORTANCE, MOST_IMPORTANCE], [V].

    Inverse document frequency times the norm of the pretrained row, which carries importance too.
    """
    rarity_V = np.log(1 + document_frequency_V.max() / np.maximum(document_frequency_V, 1))
    weight_V = rarity_V * np.linalg.norm(rows_VW, axis=1)
    weight_V = np.clip(weight_V / np.quantile(weight_V, 0.9), 0, 1)
    span = MOST_IMPORTANCE - LEAST_IMPORTANCE
    return (LEAST_IMPORTANCE + span * weight_V).astype(np.float32)


def embedding_rows(
    rows_VW: NDArray[np.float32], importance_V: NDArray[np.float32], dimensions: int, seed: int
) -> NDArray[np.float32]:
    """Unit rows, [V, D]: dimension 0 is shared, the others hold `importance` times a unit row."""
    noise = np.random.default_rng(seed).normal(size=rows_VW.shape).astype(np.float32)
    known_V = np.linalg.norm(rows_VW, axis=1) > 0
    scale = rows_VW[known_V].std()
    filled_VW = np.where(known_V[:, None], rows_VW, scale * noise)
    centred_VW = filled_VW - filled_VW.mean(axis=0)
    _, _, axes = np.linalg.svd(centred_VW, full_matrices=False)
    reduced = centred_VW @ axes[: dimensions - 1].T
    reduced /= np.linalg.norm(reduced, axis=1, keepdims=True)
    shared_V = np.sqrt(1 - importance_V**2)
    return np.concatenate([shared_V[:, None], importance_V[:, None] * reduced], axis=1)


def sizes(shape: ProxyShape, vocabulary: int) -> dict[str, Any]:
    """What transformers' configuration says of it."""
    return {
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "tie_word_embeddings": shape.tied,
    }


def build(shape: ProxyShape, trained: Path, folder: Path, seed: int) -> None:
    """Write weights of a proxy, and the tokenizer that `train` wrote to `trained`, to `folder`, in
    Hugging Face's format."""
    from transformers import LlamaConfig, LlamaForCausalLM  # seconds, see above

    for path in trained.glob("token*.json"):
        shutil.copy(path, folder)
    tokenizer = Tokenizer.from_file(str(trained / "tokenizer.json"))
    rows_VW = pretrained_rows(tokenizer)
    importance_V = importance(rows_VW, np.load(trained / FREQUENCIES))
    rows_VD = embedding_rows(rows_VW, importance_V, shape.hidden_size, seed).astype(np.float32)
    torch.manual_seed(seed)
    config = LlamaConfig(
        **sizes(shape, len(rows_VW)),
        max_position_embeddings=MAX_POSITIONS,
        pad_token_id=tokenizer.token_to_id("<pad>"),
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight *= OUTPUT_SCALE
            layer.mlp.down_proj.weight *= OUTPUT_SCALE
        for embedding in (model.model.embed_tokens, model.lm_head):
            embedding.weight.copy_(torch.from_numpy(rows_VD))
        # The final norm drops the shared direction and sets the scale of the logits: a normed unit
        # row has length sqrt(D), and the sparse encoder multiplies its logits by D^(-1/4).
        model.model.norm.weight.fill_(OWN_LOGIT * shape.hidden_size ** (0.25 - 0.5))
        model.model.norm.weight[0] = 0.0
    model.save_pretrained(folder)
