"""What an engine is: it builds an index of a collection's vectors, or words, and searches it.

An engine is a class of its own and a line in a YAML: `engine.kinds` says which one searches the
vectors of which kind (models/encoders.py), and its settings.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from lion_sweep.search.runs import Run

WORDS = "words"  # the kind that texts themselves are


@dataclass(frozen=True)
class Where:
    """What an index may use: a folder of its own, the device that is at hand, the cell's log."""

    folder: Path
    device: torch.device
    say: Callable[[str], None]


class Engine(ABC):
    """Base of every engine. Its constructor takes ids and documents as `over` does, and settings.

    Both raise `ValueError` where there are no documents, an id occurs twice, the numbers of ids and
    documents differ, or vectors or texts cannot be indexed.
    """

    RULES: ClassVar[int] = 1  # raised when other hits come out of the same vectors
    exact: ClassVar[bool] = False  # whether it finds what exhaustive scoring of the vectors finds

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run on this machine, and what to do; nothing where it can."""
        return ""

    @classmethod  # noqa: B027 - most have nothing to check
    def check(cls, key: str, settings: Mapping[str, Any]) -> None:
        """Refuse settings that are impossible, as `UserError`; `key` leads to them."""

    @classmethod
    def over(
        cls, document_ids: Sequence[str], documents: Any, where: Where, **settings: Any
    ) -> Self:
        """The index of N documents: [N, ...] vectors in the order of the ids, or N texts."""
        return cls(document_ids, documents, **settings)  # type: ignore[call-arg]

    @abstractmethod
    def search(self, query_ids: Sequence[str], queries: Any, k: int) -> Run:
        """The k best documents of each query, equal scores by id; fewer where fewer are found.

        `queries` are [Q, ...] vectors, or Q texts, in the order of the ids. Raises `ValueError`
        where k is below 1, an id occurs twice, the numbers of ids and queries differ, or vectors
        do not fit those of the documents.
        """

    def stats(self) -> dict[str, float]:
        """What a report tells: `index_bytes`, `agreement` with exact search where hits may miss."""
        return {}
