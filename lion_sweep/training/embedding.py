"""The vectors of a step's texts, and the way back from their gradients to what trains.

Texts are encoded in micro-batches of about the same length. Either the graphs of all of them are
kept for the backward pass, or gradients are cached (Gao et al., 2021): a first pass keeps vectors
alone, the losses' gradients stop at them, and a second pass encodes each micro-batch again, with
the dropout it had, to carry on. That gives the same gradients for one more forward pass, and no
more memory than one micro-batch takes, whatever the losses compare.

Every rank takes as many micro-batches as the one with most, because sharded layers are gathered by
all ranks together; also where none are, so that sharding does not even change dropout. What is cut
for that keeps its padding, which the plan has counted.

Shapes: N texts, L tokens (padded), D dimensions, or the encoder's shape of one text.
"""

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.batches import as_many, micro_batches, pad
from lion_sweep.models.encoders import Encoder
from lion_sweep.training.parallel import most


class Embedding:
    """Vectors of texts in their order, `vectors_ND`, for losses to be computed from.

    Call `backward` after the losses' own backward pass. `tokens` bounds the padded tokens of a
    micro-batch, `cached` says how gradients come.
    """

    def __init__(
        self,
        encoder: Encoder,
        texts: list[NDArray[np.int32]],
        tokens: int,
        accelerator: Accelerator,
        *,
        cached: bool,
    ) -> None:
        self.encoder, self.texts, self.accelerator = encoder, texts, accelerator
        self.lengths_N = np.array([len(text) for text in texts])
        batches = list(micro_batches(self.lengths_N, tokens))
        self.padded_N = np.empty_like(self.lengths_N)
        for batch in batches:
            self.padded_N[batch] = self.lengths_N[batch].max()
        self.batches = as_many(batches, most(len(batches), accelerator))
        # Of all ranks, which gather each other's vectors.
        self.longest = most(int(self.lengths_N.max()), accelerator) if encoder.per_token else 0
        self.generators: list[Tensor] = []  # as they were before each micro-batch
        self.vectors_ND = self._first_pass() if cached else self._with_graphs()

    def _encode(self, batch: NDArray[np.int64]) -> Tensor:
        texts, padded = [self.texts[row] for row in batch], int(self.padded_N[batch[0]])
        ids, mask = pad(texts, self.accelerator.device, padded)
        with self.accelerator.autocast():
            vectors = self.encoder(ids, mask)
        return F.pad(vectors, (0, 0, 0, self.longest - padded)) if self.longest else vectors

    def _rows(self, batch: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(batch).to(self.accelerator.device)

    def _with_graphs(self) -> Tensor:
        parts = [self._encode(batch) for batch in self.batches]
        order = np.argsort(np.concatenate(self.batches), kind="stable")
        return torch.cat(parts)[self._rows(order)]

    @torch.no_grad()
    def _first_pass(self) -> Tensor:
        of_text = (self.longest, *self.encoder.shape) if self.longest else self.encoder.shape
        vectors_ND = torch.empty(len(self.texts), *of_text, device=self.accelerator.device)
        for batch in self.batches:
            self.generators.append(_generator(self.accelerator.device))
            vectors_ND[self._rows(batch)] = self._encode(batch)
        return vectors_ND.requires_grad_()

    def backward(self) -> None:
        """Add the gradients to what trains, if they are not there yet."""
        for batch, generator in zip(self.batches, self.generators, strict=False):
            # The last one leaves the generator as the first pass did.
            _set_generator(self.accelerator.device, generator)
            assert self.vectors_ND.grad is not None
            self._encode(batch).backward(self.vectors_ND.grad[self._rows(batch)])

    def spending(self, meter: Meter) -> Spending:
        lengths_N, padded_N = self.lengths_N, self.padded_N
        parts = (meter.micro_batch(lengths_N[b], int(padded_N[b[0]])) for b in self.batches)
        return sum(parts, Spending())


def _generator(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_generator(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
