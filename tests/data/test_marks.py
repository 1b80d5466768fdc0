"""Marks on tokens: markers, fill, and whose vectors are left out.

Shapes: N texts, L tokens of a text.
"""

import string
from dataclasses import replace

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from lion_sweep.config.paradigm import TokensOf
from lion_sweep.data.marks import ID, SILENT, UNSEEN, MarkedTokens, Marking, marks_of
from lion_sweep.data.tokens import Tokens
from lion_sweep.errors import UserError
from lion_sweep.models.proxy import train_tokenizer

COLBERT = TokensOf("[unused0]", "[unused1]", fill_queries=True, skip_punctuation=True)
WRITTEN = ["what is a tree?", "a tree (of words), nothing...", "- -- ..."]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    made = train_tokenizer(WRITTEN * 3 + list(string.punctuation))
    made.add_tokens(["[unused0]", "[unused1]"])
    return made


def tokens(tokenizer: PreTrainedTokenizerFast, ends: int = 0) -> Tokens:
    ids = [np.array(one, np.int32) for one in tokenizer(WRITTEN)["input_ids"]]
    start_N = np.concatenate([[0], np.cumsum([len(one) for one in ids])])
    return Tokens(np.concatenate(ids), start_N, ends)


@pytest.mark.parametrize("length", [4, 9, 40])
@pytest.mark.parametrize("ends", [0, 1])
def test_queries_are_filled_up_and_passages_silenced(
    tokenizer: PreTrainedTokenizerFast, length: int, ends: int
) -> None:
    plain, marking = tokens(tokenizer, ends), Marking.of(COLBERT)
    queries, passages = (
        MarkedTokens.of(plain, marks_of(marking[what], tokenizer)) for what in marking
    )
    first, second = tokenizer.convert_tokens_to_ids(["[unused0]", "[unused1]"])
    for row in range(len(WRITTEN)):
        own_L = plain.text(row, length - 1)
        asked_L = queries.text(row, length)
        fill = [tokenizer.mask_token_id | UNSEEN] * (length - 1 - len(own_L))
        assert asked_L.tolist() == [first, *own_L.tolist(), *fill]
        found_L = passages.text(row, length)
        assert (found_L & ID).tolist() == [second, *own_L.tolist()]
        signs = [tokenizer.decode([token]).strip() for token in own_L.tolist()]
        wanted = [bool(text) and set(text) <= set(string.punctuation) for text in signs]
        assert (found_L & SILENT != 0).tolist() == [False, *wanted]
        assert found_L.dtype == np.int32
    for marked in (queries, passages):
        lengths = [len(marked.text(row, length)) for row in range(len(WRITTEN))]
        assert marked.lengths(length).tolist() == lengths
        few = marked.subset(np.array([2, 0]))
        assert few.text(1, length).tolist() == marked.text(0, length).tolist()


def test_a_marker_stands_after_what_begins_every_text(tokenizer: PreTrainedTokenizerFast) -> None:
    from tokenizers.processors import TemplateProcessing

    begins = train_tokenizer(WRITTEN)
    begins.add_tokens(["[Q]"])
    begins.backend_tokenizer.post_processor = TemplateProcessing(
        single="<mask> $A", special_tokens=[("<mask>", 1)]
    )
    plain = replace(tokens(begins), begins=1)  # as the cache tells
    marked = MarkedTokens.of(plain, marks_of(Marking("[Q]"), begins))
    ids = begins(WRITTEN[0])["input_ids"]
    assert marked.text(0, 99).tolist() == [1, len(begins) - 1, *ids[1:]]


def test_what_the_tokenizer_or_the_embeddings_lack_is_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(UserError, match=r"marker '\[gone\]' is no token of .*query_marker"):
        marks_of(Marking("[gone]"), tokenizer)
    marked = MarkedTokens.of(tokens(tokenizer), marks_of(Marking("[unused1]"), tokenizer))
    with pytest.raises(UserError, match="have only 5 rows"):
        marked.check_within(5, "some/where")
    with pytest.raises(UserError, match=f"makes token {len(tokenizer) - 1}"):
        marked.check_within(len(tokenizer) - 1, "some/where")
    marked.check_within(len(tokenizer), "some/where")
