"""All searches of an encoder's vectors of a collection: one, and of sparse ones more with less."""

from collections.abc import Sequence
from dataclasses import dataclass

from lion_sweep.config import Config
from lion_sweep.models.encoders import PASSAGES, QUERIES
from lion_sweep.stages.encode import Encode
from lion_sweep.stages.entropy import Entropy, Scoring
from lion_sweep.stages.index import engine_of
from lion_sweep.stages.prune import Prune
from lion_sweep.stages.search import Score, Scored, Search, Tried
from lion_sweep.stages.texts import Chosen

Encoded = tuple[Encode, Encode]  # passages, queries
Vectors = tuple[Encode | Prune, Encode | Prune]
SIDES = PASSAGES, QUERIES


def searches(config: Config, chosen: Chosen, encoded: Encoded, title: str) -> Scored:
    """What is made of a collection's vectors; `title` leads the titles, and none does a trained's.

    Vectors are brought to the paradigm's L0 first, if it asks for one. What was trained is searched
    at every point of `evaluation.topk` too.
    """
    paradigm, searching = config.paradigm, _Searching(config, chosen, title)
    targets = [paradigm.target_of(what) for what in SIDES]
    vectors: Vectors = encoded
    if None not in targets:
        vectors = searching.pruned(encoded, targets=targets)
    points = {} if title or not encoded[0].sparse else config.evaluation.points
    topk = {}
    for word, (queries, passages) in points.items():
        kept = searching.pruned(encoded, word, terms=(passages, queries))
        topk[word] = Tried(queries, passages, *searching.by(kept, word))
    (source, split), scoring = chosen, Scoring.of(paradigm)
    told = f"entropy {title}{source.name}"
    entropy = Entropy(source.judged[split], *vectors, scoring, title=told)
    return Scored(*encoded, *searching.by(vectors), entropy, topk)


@dataclass(frozen=True)
class _Searching:
    """How vectors of a collection are searched; a `point` is what tells a search from the main."""

    config: Config
    chosen: Chosen
    title: str

    def pruned(
        self,
        encoded: Encoded,
        point: str = "",
        terms: Sequence[int | None] = (None, None),
        targets: Sequence[float | None] = (None, None),
    ) -> Vectors:
        """The vectors without what is too much, of passages and of queries."""
        made = [
            Prune(vectors, most, target, title=self._title(f"prune {self.title}{what}", point))
            for what, vectors, most, target in zip(SIDES, encoded, terms, targets, strict=True)
        ]
        return made[0], made[1]

    def by(self, vectors: Vectors, point: str = "") -> tuple[Search, Score]:
        """A search and its score; of a point nobody else reads the run."""
        (source, split), evaluation = self.chosen, self.config.evaluation
        judged, (passages, queries) = source.judged[split], vectors
        engine = engine_of(self.config, self.config.paradigm.made_by.kind)
        works = "search", "score"
        titles = (self._title(f"{work} {self.title}".strip(), point) for work in works)
        searched = Search(
            judged,
            engine,
            evaluation.depth,
            passages=passages,
            queries=queries,
            handed_on=not point,
            title=next(titles),
        )
        measures = evaluation.measures_of(source.name)
        return searched, Score(searched, judged, measures, title=next(titles))

    def _title(self, leading: str, point: str) -> str:
        return " ".join(filter(None, [leading, self.chosen[0].name, point]))
