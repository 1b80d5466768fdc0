"""What a plan goes by where nobody has read the texts yet: lengths of a seeded sample of them.

A cell's own job counts its exact steps, when the tokens are there.

Shapes: S texts of a sample, N texts, P training pairs, M negatives of a pair.
"""

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data import sampling, tokens
from lion_sweep.data.batches import Sampler
from lion_sweep.data.forms import Text
from lion_sweep.data.groups import Groups
from lion_sweep.data.lengths import LengthCounts
from lion_sweep.data.places import Folder
from lion_sweep.data.tokens import Tokens
from lion_sweep.machine.execution import Execution
from lion_sweep.models import proxy
from lion_sweep.stages.backbone import TrainTokenizer
from lion_sweep.stages.course import Course
from lion_sweep.stages.encode import Encode
from lion_sweep.stages.of_cell import CellStages
from lion_sweep.stages.texts import Cut, File, ImportTexts, tokenizer_of
from lion_sweep.stages.workshop import Workshop
from lion_sweep.training.fit import Fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPOTS, EACH = 1000, 20  # places of a file that are looked at, texts at each of them


@dataclass(frozen=True)
class Sample:
    """Some of N texts, and about how many there are."""

    texts: list[str]
    total: int


@dataclass(frozen=True)
class Lengths:
    """Tokens of the texts of a sample, [S], and about how many texts there are in all."""

    sample_S: NDArray[np.int64]
    total: int

    @property
    def error(self) -> float:
        """Half the width of the 95 % interval of the mean, as a share of it."""
        means = np.array(
            [part.mean() for part in np.array_split(self.sample_S, SPOTS) if len(part)]
        )
        return float(1.96 * means.std(ddof=1) / np.sqrt(len(means)) / means.mean())


class Estimate:
    """Of the cells of one command: each collection is looked at once."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self._samples: dict[str, Sample] = {}
        self._tokens: dict[str, Tokens] = {}  # of the samples

    def sample(self, texts: ImportTexts) -> Sample:
        """The same texts whenever it is asked for. Raises `UserError` for what cannot be read."""
        if texts.name not in self._samples:
            parts = [_looked_at(file) for file in texts.files]
            found = [text for listed, _ in parts for _, text in listed]
            self._samples[texts.name] = Sample(found, sum(total for _, total in parts))
        return self._samples[texts.name]

    def lengths(self, cut: Cut) -> Lengths:
        """As a cell would cut them."""
        cache, sample = cut.cache, self.sample(cut.cache.texts)
        if cache.name not in self._tokens:
            made_by = cache.tokenizer
            if isinstance(made_by, TrainTokenizer) and not self.shop.find(made_by):
                documents, queries = made_by.judged.documents, made_by.judged.queries
                read = [*self.sample(documents).texts, *self.sample(queries).texts]
                tokenizer: PreTrainedTokenizerBase = proxy.train_tokenizer(read)
            else:
                tokenizer = tokenizer_of(made_by, self.shop)
            made = tokens.of(sample.texts, tokenizer, cache.length, cache.frame)
            self._tokens[cache.name] = made
        found = replace(self._tokens[cache.name], echo=cut.echo)
        return Lengths(cut.marking.lengths(found, cut.length), sample.total)

    def fit(self, course: Course, execution: Execution) -> Fit:
        """As `Course.fit`, by pairs of texts that were drawn from the samples."""
        cuts, draws = (course.queries, course.passages), course.draws
        query_S, passage_S = (self.lengths(cut).sample_S for cut in cuts)
        rng = np.random.default_rng(draws.seed)
        pairs = max(draws.batch_size, _about(draws.groups.listed_in))
        scores_PM = np.zeros((pairs, draws.negatives + 1), dtype=np.float32)
        query_P, positive_P = (
            rng.integers(len(of), size=pairs, dtype=np.int32) for of in (query_S, passage_S)
        )
        negative_PM = rng.integers(len(passage_S), size=scores_PM.shape, dtype=np.int32)
        groups = Groups(query_P, positive_P, negative_PM, scores_PM[:, 0], scores_PM)
        sampler = Sampler(groups, draws.batch_size, draws.negatives, draws.seed)

        def counts(tokens: int) -> LengthCounts:
            parts = execution.devices
            return LengthCounts(sampler, query_S, passage_S, micro_batch_tokens=tokens, parts=parts)

        return course.fit(counts, execution)

    def encoded(self, encode: Encode) -> NDArray[np.int64]:
        """Tokens of every text that is to be encoded, [N]."""
        found, asked = self.lengths(encode.texts), encode.asked
        count = min(found.total, _about(asked.judged.file)) if asked else found.total
        return np.resize(found.sample_S, count)

    def words(self, stages: CellStages) -> str:
        """What it goes by."""
        found = self.lengths(stages.train.course.passages)
        return (
            f"lengths are estimated from {len(found.sample_S):,} of about {found.total:,} "
            f"passages (their mean +- {found.error:.1%}), negatives taken for passages like any: "
            "a cell counts its own steps when its tokens are there"
        )


def _looked_at(file: File) -> tuple[list[Text], int]:
    """Some texts of a file, or all where it is packed, and about how many it has."""
    if (path := file.plain) and isinstance(file.place, Folder):
        return sampling.sample(path, file.place.form(file.name), SPOTS, EACH)
    texts = list(chain.from_iterable(file.place.blocks(file.name)))
    return texts, len(texts)


def _about(file: File) -> int:
    if path := file.plain:
        return sampling.about(path)
    return sum(1 for _ in file.place.lines(file.name))
