"""What every loss reads.

Shapes: B queries of this device, Q queries of all devices, G = 1 + negatives passages of a query
(the positive first), C = Q * G candidates, D dimensions, or what else a text has.
"""

from dataclasses import dataclass, field

from torch import Tensor

from lion_sweep.losses.scores import InnerProduct


@dataclass
class Representations:
    """Embeddings of one step.

    `all_query_QD` and `candidate_CD` hold every device's; this device's passages start at row
    `offset` of the candidates.
    `teacher_BG` holds teacher scores, already scaled, where the cell has a teacher. `scores` is how
    the paradigm makes a score of two texts: the encoder.
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
