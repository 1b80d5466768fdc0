"""From two vectors to a score: what losses read of a paradigm.

Shapes: B queries of this device, G passages of a query, C candidates; X is what one text has: D
dimensions, or any other shape that the paradigm's encoder gives it.
"""

from torch import Tensor


class InnerProduct:
    """Scores of texts that have one vector each. A paradigm with others overrides both methods."""

    def group_scores_BG(self, query_BX: Tensor, passage_BGX: Tensor) -> Tensor:
        """Each query against its own passages."""
        return (passage_BGX @ query_BX[:, :, None]).squeeze(-1)

    def all_scores_BC(self, query_BX: Tensor, candidate_CX: Tensor) -> Tensor:
        """Each query against every candidate."""
        return query_BX @ candidate_CX.T
