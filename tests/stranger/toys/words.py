"""A teacher's scorer: how many words a query and a passage share."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lion_sweep.data.drawn import Drawn
from lion_sweep.stages.scorers import Scorer
from lion_sweep.stages.texts import ImportTexts, Source
from lion_sweep.stages.workshop import Workshop


@dataclass(frozen=True)
class SharedWords(Scorer):
    """Words of at least so many letters."""

    queries: ImportTexts
    documents: ImportTexts
    least: int

    @classmethod
    def of(cls, name: str, pairs: Source, shop: Workshop, **settings: Any) -> Self:
        """On the texts of the pairs."""
        return cls(pairs.queries, pairs.documents, **settings)

    def scores(self, drawn: Drawn, shop: Workshop) -> NDArray[np.float32]:
        """Of every pair that is drawn."""
        queries, documents = (
            [
                {word for word in text.lower().split() if len(word) >= self.least}
                for text in texts.read(shop).all()
            ]
            for texts in (self.queries, self.documents)
        )

        def shared(query: int, document: int) -> int:
            return len(queries[query] & documents[document])

        score = np.vectorize(shared, otypes=[np.float32])
        found_RG: NDArray[np.float32] = score(drawn.step.query_B[:, None], drawn.step.passage_BG)
        return found_RG
