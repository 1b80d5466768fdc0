"""Where sparse vectors of a decoder start from: the centre of its logits.

Much of a decoder's logits is the same whatever it reads. All of a token's may be high or low (their
level), and those of a frequent entry are high for every text. The head of a BERT has a bias that
takes the latter; a decoder's has none, so that before training the weights of any two texts are
nearly equal, or, with a threshold above them, of most texts none is left. What is the same is
therefore taken away: of a token's logits their mean, and of an entry's largest logit in a text its
mean over texts.

Shapes: N chunks, B of them at once, L tokens, D hidden dimensions, V vocabulary entries.
"""

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from lion_sweep.models import sparse_head
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.sparse import CENTRE, LEVEL


@torch.no_grad()
def find_centre(
    backbone: Backbone,
    chunks_NL: NDArray[np.int32],
    texts: int,
    at_once: int,
    accelerator: Accelerator,
) -> None:
    """Add both to `backbone`, from so many chunks, spread over the collection."""
    rows = np.linspace(0, len(chunks_NL) - 1, texts).round().astype(np.int64)
    level_D = backbone.head_VD.float().mean(dim=0)
    total_V = torch.zeros(len(backbone.head_VD), device=level_D.device)
    backbone.eval()
    for first in range(0, texts, at_once):
        ids_BL = torch.from_numpy(chunks_NL[rows[first : first + at_once]].astype(np.int64))
        ids_BL = ids_BL.to(accelerator.device)
        mask_BL = torch.ones_like(ids_BL)
        with accelerator.autocast():
            state_BLD = backbone.hidden_states(ids_BL, mask_BL)
            found = state_BLD, backbone.head_VD, mask_BL, level_D
            total_V += sparse_head.mean_of_largest(*found) * (len(ids_BL) / texts)
    backbone.add(LEVEL, lambda: level_D)
    backbone.add(CENTRE, lambda: total_V)
