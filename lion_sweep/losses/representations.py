"""What every loss reads: embeddings, and how a paradigm makes a score of two texts.

Shapes: B queries of this device, Q queries of all devices, G = 1 + negatives passages of a query
(the positive first), C = Q * G candidates; D is what one text has: dimensions, or any other shape
that the paradigm's encoder gives it.
"""

from dataclasses import dataclass, field

from torch import Tensor


class InnerProduct:
    """Scores of texts that have one vector each. A paradigm with others overrides both methods."""

    def group_scores_BG(self, query_BD: Tensor, passage_BGD: Tensor) -> Tensor:
        """Each query against its own passages."""
        return (passage_BGD @ query_BD[:, :, None]).squeeze(-1)

    def all_scores_BC(self, query_BD: Tensor, candidate_CD: Tensor) -> Tensor:
        """Each query against every candidate."""
        return query_BD @ candidate_CD.T


@dataclass
class Representations:
    """Embeddings of one step.

    `all_query_QD` and `candidate_CD` hold every device's; this device's passages start at row
    `offset` of the candidates. `teacher_BG` holds scaled teacher scores, where the cell has a
    teacher; `scores` is the encoder.
    """

    query_BD: Tensor
    passage_BGD: Tensor
    all_query_QD: Tensor
    candidate_CD: Tensor
    offset: int
    temperature: float
    teacher_BG: Tensor | None = None
    scores: InnerProduct = field(default_factory=InnerProduct)

    def group_scores_BG(self) -> Tensor:
        """Scores of each query against its own passages, divided by the temperature."""
        return self.scores.group_scores_BG(self.query_BD, self.passage_BGD) / self.temperature

    def candidate_scores_BC(self) -> Tensor:
        """Scores of each query against every candidate, divided by the temperature."""
        return self.scores.all_scores_BC(self.query_BD, self.candidate_CD) / self.temperature

    def teacher_scores_BG(self) -> Tensor:
        """The teacher's scores; a cell is only built with this loss when it has them."""
        assert self.teacher_BG is not None
        return self.teacher_BG
