"""A cell as a model of sentence-transformers, of its stock modules alone.

dense, normalize=mean     Transformer, Pooling(mean), Normalize
dense, normalize=tokens   Transformer, Normalize(token_embeddings), Pooling(mean)
dense, pooling=last       Transformer, Pooling(lasttoken), Normalize
sparse                    Transformer, Dense(token_embeddings), SpladePooling(max, relu)

Prompts are the model's own. The sparse head is the Dense layer: its weight is the decoder's head
times the logit scale, its bias the threshold and the centre times the scale, negated. Adapters are
merged, in fp32, and all weights are written in it, as merging in less would round what was trained.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lion_sweep.config import TextForm, recipe
from lion_sweep.config.recipe import Normalize
from lion_sweep.data.pretrained import tokenizer_of
from lion_sweep.data.tokens import PLAIN, PROBE, Frame, appended, special_around
from lion_sweep.errors import UserError
from lion_sweep.export.form import Form
from lion_sweep.export.sample import Sample, Vectors
from lion_sweep.files import read_json, write_json
from lion_sweep.interop import sentence
from lion_sweep.interop.checkpoints import Checkpoint
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.encoders import Encoder
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.stages.finished_cell import Finished

LAST = recipe.Pooling.last
TOKENS = "token_embeddings"  # as sentence-transformers calls the states of the tokens
# Texts are plain: without this, a tokenizer with a chat template would have them wrapped in it.
PLAIN_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
REQUIREMENTS = {
    "sentence-transformers": {"specifier": ">=6", "reason": "Older ones do not know its modules."},
    "transformers": {"specifier": ">=5.2", "reason": "Older ones ignore is_causal=false."},
}
USAGE = """\
With sentence-transformers >= 6 and transformers >= 5.2:

    from sentence_transformers import {kind}

    model = {kind}("FOLDER")
    queries = model.encode_query(["..."])
    passages = model.encode_document(["..."])
    scores = model.similarity(queries, passages)

`encode` cuts texts where `encode_document` does. With lion_sweep:

"""


class SentenceTransformers(Form):
    """A SentenceTransformer of a dense cell, a SparseEncoder of a sparse one."""

    library = "sentence-transformers"

    def __init__(self, cell: Finished, checkpoint: Checkpoint) -> None:
        super().__init__(cell, checkpoint)
        sparse = cell.config.paradigm.made_by.over_vocabulary
        self._kind = "SparseEncoder" if sparse else "SentenceTransformer"
        self.usage = USAGE.format(kind=self._kind)

    def write(self, folder: Path) -> None:
        """Save the modules; raises `UserError` where stock modules cannot express the encoder."""
        library = sentence.library()
        from sentence_transformers.base.modules import Transformer

        decoder = folder / "decoder"  # its weights cannot be read from where they are written to
        encoder: Any = self.checkpoint.make(torch.float32)
        text, tokenizer = self.checkpoint.text, tokenizer_of(self.checkpoint.source)
        _check(text, encoder, tokenizer)
        after = _after(encoder)
        encoder.backbone.language_model.base_model.save_pretrained(str(decoder))
        tokenizer.padding_side = "right"  # so that a token's position is its place in the text
        if tokenizer.pad_token is None:  # Llama's have none; the mask hides whatever it is
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.save_pretrained(str(decoder))
        evaluation = self.cell.config.evaluation
        transformer = Transformer(
            str(decoder),
            max_seq_length=evaluation.passage_length,
            query_length=evaluation.query_length,
            document_length=evaluation.passage_length,
            modality_config=PLAIN_TEXT,
            module_output_name=TOKENS,
        )
        model = getattr(library, self._kind)(
            modules=[transformer, *after],
            similarity_fn_name="dot",
            prompts={"query": text.query_prompt, "document": text.passage_prompt},
            device="cpu",
        )
        model.save_pretrained(str(folder), create_model_card=False)
        shutil.rmtree(decoder)
        settings = folder / sentence.SETTINGS
        write_json(settings, read_json(settings) | {"requirements": REQUIREMENTS})

    def vectors(self, folder: Path, texts: Sample) -> Vectors:
        """What the library makes of the raw texts, one at a time."""
        model = sentence.load(str(folder), "cpu")
        asked: dict[str, Any] = {"batch_size": 1, "convert_to_tensor": True}
        encoded = (
            model.encode_query(texts.queries, **asked),
            model.encode_document(texts.passages, **asked),
        )
        return Vectors(*((v.to_dense() if v.is_sparse else v).numpy() for v in encoded))


def _check(text: TextForm, encoder: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse what the library does not do with a text before it is read, or with its first token.

    Raises `UserError`.
    """
    begins, _ = special_around(PROBE, tokenizer, PLAIN) or (0, 0)
    strange = {
        "paradigm.text.echo": text.echo,
        "paradigm.text.special_tokens": not text.special_tokens,
        "paradigm.text.append_eos": appended(tokenizer, Frame(eos=text.append_eos)),
        "paradigm.encoder.pool_bos": begins and not getattr(encoder, "pool_bos", True),
    }
    if found := [key for key, is_so in strange.items() if is_so]:
        raise UserError(
            f"{', '.join(found)}: the modules of sentence-transformers have no such thing, and an "
            "export brings no code of its own: leave --as away, which exports the weights."
        )


def _after(encoder: Any) -> list[Any]:
    """The modules that make a vector of the decoder's states. `UserError` where there are none."""
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.base.modules import Normalize as UnitLength
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    if isinstance(encoder, DenseEncoder):
        if encoder.pooling == LAST:
            return [Pooling(*encoder.shape, "lasttoken"), UnitLength()]
        mean = Pooling(*encoder.shape, "mean")
        if encoder.normalize is Normalize.tokens:
            return [UnitLength(TOKENS), mean]
        return [mean, UnitLength()]
    if isinstance(encoder, SparseEncoder) and type(encoder).finished is Encoder.finished:
        head_VD, level_D = encoder.head_VD.detach(), encoder.centre[0]
        head_VD = head_VD if level_D is None else head_VD - level_D.detach()
        vocabulary, dimensions = head_VD.shape
        head = Dense(
            dimensions,
            vocabulary,
            activation_function=None,
            init_weight=encoder.scale * head_VD,
            init_bias=_bias_V(encoder),
            module_input_name=TOKENS,
        )
        return [head, SpladePooling("max", "relu", vocabulary)]
    raise UserError(
        f"{type(encoder).__name__} has no counterpart among the modules of sentence-transformers, "
        "and an export brings no code of its own: leave --as away, which exports the weights."
    )


def _bias_V(encoder: SparseEncoder) -> Tensor:
    """What the head adds to a logit times its scale."""
    bias_V = torch.full(encoder.shape, -encoder.threshold)
    _, centre_V = encoder.centre
    if centre_V is not None:
        bias_V -= encoder.scale * centre_V.detach().cpu()
    return bias_V
