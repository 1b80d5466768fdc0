"""Peak memory of a training step, in closed form.

All results are bytes. What is counted is what the training loop keeps alive on one device at its
worst moment: tensors that automatic differentiation saves, copies and gradients on their way, with
the padding mask and the kernels that CUDA picks for it. What is not: workspaces of kernels,
fragmentation, the CUDA context (about 0.5 GB), and gathering over several devices.

Shapes: N texts of a step's part, B of them in a micro-batch, L its padded length, D hidden
dimensions, V vocabulary entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lion_sweep.config import Lora
from lion_sweep.cost.ledger import DecoderShape

FP32, BF16, INT16, INT64 = 4, 2, 2, 8
CHUNK = 16384  # vocabulary entries that the sparse head has in work at once on CUDA
# Of sharded layers, so many are whole at FSDP2's worst moment: in a forward pass the buffers of two
# gathers, and the weights copied out of one. In a backward pass it is the layer that runs and the
# next, gathered ahead; with several graphs also the first layer, kept until the last one's is done.
GATHERED = 3
# Of token vectors of queries with those of passages, so many are there at once in training.
SIMILARITIES = 2**24


@dataclass(frozen=True)
class Memory:
    """Bytes at the worst moment of a step."""

    weights: int  # base and adapters; of sharded layers a share, and what is gathered of them
    activations: int  # kept for the decoder's backward pass, and what a layer needs while it runs
    head: int  # logits, pooled vectors, their gradients and copies; embeddings' second gradients
    optimiser: int  # gradients, AdamW's two moments, and at its own peak what its update computes

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.activations + self.head + self.optimiser


@dataclass(frozen=True)
class Decoder:
    """What the decoder's activations depend on."""

    shape: DecoderShape
    lora: Lora | None
    bf16: bool

    @property
    def value(self) -> int:
        """Bytes of a number that a matrix product returns."""
        return BF16 if self.bf16 else FP32

    @property
    def stream(self) -> int:
        """Bytes of a number of the residual stream, which has the type of the embeddings."""
        return BF16 if self.bf16 and self.lora else FP32

    @property
    def drops(self) -> bool:
        """Whether adapters have dropout."""
        return bool(self.lora and self.lora.dropout)

    def trains(self, *names: str) -> int:
        """How many of the named projections have something to train."""
        return len(names) if self.lora is None else len(set(names) & set(self.lora.targets))

    def kept(self, rows: int, length: int) -> int:
        """Saved by the forward pass of a micro-batch until its backward pass."""
        shape, tokens = self.shape, rows * length
        size = 2 * shape.head_dim * self.stream * tokens  # cosines and sines of all layers
        size += self._norm() * tokens  # after the last layer
        size += 0 if self.lora else INT64 * tokens  # token ids, for the embeddings' gradient
        first = self.layer(rows, length, below=self.lora is None)
        return size + first + (shape.layers - 1) * self.layer(rows, length)

    def layer(self, rows: int, length: int, below: bool = True) -> int:
        """Saved by one layer; `below`: gradients go on to what lies below it."""
        shape, value, tokens = self.shape, self.value, rows * length
        width, query = shape.projections["q_proj"]
        inner = shape.intermediate_size
        # Which parts have an input that asks for a gradient, hence save something.
        attention = below or self.trains("q_proj", "k_proj", "v_proj") > 0
        stream = attention or self.trains("o_proj") > 0
        gate, up = (stream or self.trains(name) > 0 for name in ("gate_proj", "up_proj"))
        per_token = self._norm() * (below + stream)
        if attention:  # queries, repeated keys and values, result; mask, padded
            per_token += value * (4 * query + _up(length, 8))
        per_token += inner * value * (2 * gate + up)  # gate and up; gate's activation
        # Inputs of what trains; projections share theirs only if it is neither cast nor dropped.
        apart = self.bf16 or self.drops
        for names in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
            per_token += width * value * min(self.trains(*names), 3 if apart else 1)
        own = (apart and self.lora is not None) or not attention  # else attention's result is it
        per_token += query * value * self.trains("o_proj") * own
        per_token += inner * value * self.trains("down_proj")
        size = per_token * tokens
        if attention:
            size += FP32 * rows * shape.heads * _up(length, 32)  # log-sum-exps
        if self.lora is None:  # autocast's copies of the weights
            return size + shape.linear_parameters // shape.layers * BF16 * self.bf16
        asks = dict.fromkeys(("q_proj", "k_proj", "v_proj"), below)
        asks |= {"o_proj": attention, "gate_proj": stream, "up_proj": stream}
        asks["down_proj"] = gate or up
        return size + sum(self._adapter(name, tokens, asks[name]) for name in self.lora.targets)

    def _adapter(self, name: str, tokens: int, asks: bool) -> int:
        """Saved by an adapter besides its input; `asks`: that asks for a gradient."""
        assert self.lora is not None
        rank, (inputs, outputs) = self.lora.rank, self.shape.projections[name]
        size = rank * self.value * tokens  # between its two factors
        size += inputs * tokens * (self.drops and asks)  # dropout's mask, a byte each
        # Autocast's copies of the factors, for the gradients of what they multiply.
        return size + rank * (inputs * asks + outputs) * BF16 * self.bf16

    def working(self, rows: int, length: int) -> int:
        """Alive besides, while the backward pass is in a layer."""
        shape, tokens = self.shape, rows * length
        inner = shape.intermediate_size
        # Backward through gate times up: the product's gradient and two more, its input is gone.
        size = 2 * inner * self.value
        if self.trains("down_proj") and self.lora:
            # Forward before `down_proj`: its input, the adapter's fp32 copy, that dropped.
            copies = FP32 * (1 + self.drops) if self.bf16 else 0
            size = max(size, inner * (self.value * (self.bf16 or self.drops) + copies))
        # The stream's gradient; in bf16 also the stream and what the norm returns, saved as fp32.
        size += shape.hidden_size * self.stream * (1 if self.stream == FP32 else 3)
        return size * tokens

    def _norm(self) -> int:
        """Saved by a norm per token: fp32 input, scale; if its weight trains, what is scaled."""
        return FP32 * (self.shape.hidden_size * (1 if self.lora else 2) + 1)


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def parameters(shape: DecoderShape, *, tied: bool) -> int:
    """Weights of the decoder with its head."""
    norms = (2 * shape.layers + 1) * shape.hidden_size
    return shape.linear_parameters + norms + shape.head_parameters * (1 if tied else 2)


def saved_bytes(decoder: Decoder, *, tied: bool) -> int:
    """What training leaves: adapters where there are any, or all weights, in fp32."""
    lora, shape = decoder.lora, decoder.shape
    own = shape.lora_parameters(lora) if lora else parameters(shape, tied=tied)
    return FP32 * (own + shape.projection_parameters)


def weight_bytes(decoder: Decoder, *, tied: bool, shards: int = 1) -> int:
    """Base and adapters on a device, frozen layers sharded over so many."""
    shape = decoder.shape
    base = parameters(shape, tied=tied)
    adapters = shape.lora_parameters(decoder.lora) if decoder.lora else 0
    if shards > 1:
        layer = shape.linear_parameters // shape.layers + 2 * shape.hidden_size
        base -= layer * shape.layers
        base += -(-layer // shards) * shape.layers + layer * min(GATHERED, shape.layers)
    return base * decoder.stream + FP32 * (adapters + shape.projection_parameters)


def training_memory(
    decoder: Decoder,
    batches: Sequence[tuple[int, int]],
    *,
    tied: bool,
    sparse: bool,
    cached: bool,
    shards: int = 1,
) -> Memory:
    """The worst moment of a step whose micro-batches are (rows, padded length), longest first.

    With `cached` gradients only one micro-batch has its graph at a time; without, all have, and
    the backward pass frees them from the last to the first. With LoRA the base is frozen, in bf16
    if that is computed in, under fp32 adapters; without, every weight trains, in fp32. `shards` is
    over how many devices frozen layers are spread. Vocabulary entries are taken to be all active,
    which an untrained sparse head comes close to, and losses to be contrastive and distilling.
    """
    shape, lora = decoder.shape, decoder.lora
    weights = weight_bytes(decoder, tied=tied, shards=shards)
    trained = shape.lora_parameters(lora) if lora else parameters(shape, tied=tied)
    if not (lora or sparse or tied):
        trained -= shape.head_parameters  # no gradient ever reaches them
    trained += shape.projection_parameters
    # Gradients are there from the first backward pass to the end of the step.
    early, full = 2 * FP32 * trained, 3 * FP32 * trained  # two moments; with gradients
    # AdamW updates all weights at once, which takes a square root for each.
    moments = [Memory(weights, 0, 0, full + FP32 * trained)]
    # The vectors, [N, D], [N, V] or [N, L, P], or their gradient.
    texts, longest = sum(rows for rows, _ in batches), max(length for _, length in batches)
    of_tokens = longest * shape.projection
    vectors = FP32 * texts * (of_tokens or (shape.vocabulary if sparse else shape.hidden_size))
    similar = 3 * FP32 * SIMILARITIES if of_tokens else 0  # at most; without padding; its gradient
    table = 0 if lora else FP32 * shape.head_parameters  # a gradient of the embeddings, or the head
    graphs = [[batch] for batch in batches] if cached else [batches]
    for number, graph in enumerate(graphs):
        activations = head = made = 0
        for place, (rows, length) in enumerate(graph, start=1):
            first = number == 0 and place == len(graph)
            optimiser = early if first else full
            before, pooled = activations, head + 2 * vectors * cached
            activations += decoder.kept(rows, length)
            head += pooling(decoder, rows, length, sparse)
            if sparse:
                making = pooled + made + pooling(decoder, rows, length, sparse)
                making += _pooling_sparse(decoder, rows, length)
                moments.append(Memory(weights, activations, making, optimiser))
                gradients = head + 2 * vectors + _pooling_sparse_backward(decoder, rows, length)
                gradients += 0 if cached or first else table  # the sum with what has come before
                moments.append(Memory(weights, activations, gradients, optimiser))
            made += 0 if cached else vectors * rows // texts
            # In the last layer, with all that the graph kept, and in the first.
            working = decoder.working(rows, length)
            pooled = pooled if cached else pooled + 2 * vectors
            held, met = _embedding_gradients(both=sparse and tied, cached=cached, first=first)
            waiting = pooled + table * (held or (first and sparse and tied))
            moments.append(Memory(weights, activations + working, waiting, optimiser))
            moments.append(Memory(weights, before + working, pooled + table * held, full))
            stream = rows * length * shape.hidden_size * decoder.stream  # its gradient
            moments.append(Memory(weights, before + stream, pooled + table * met, full))
        if number == 0:
            # The losses' backward pass: the vectors, then gradients from the regulariser, from the
            # scores of a query's own passages and of all, and a sum.
            kept = (0, 0) if cached else (activations, head)
            moments.append(Memory(weights, kept[0], kept[1] + 5 * vectors + similar, early))
    return max(moments, key=lambda moment: moment.total)


def _embedding_gradients(*, both: bool, cached: bool, first: bool) -> tuple[int, int]:
    """Besides the one that is kept, while layers run, and when that of the texts' tokens is made.

    Gradients of one backward pass wait for each other, and two make a sum of their own; `both`: the
    head's is one of them. Without `cached` all micro-batches are in one pass, of which the `first`
    finds none.
    """
    if not cached:
        return 0, 2 if both or not first else 0
    kept = 0 if first else 1  # of an earlier pass
    return kept * both, kept + 2 * both


def pooling(decoder: Decoder, rows: int, length: int, sparse: bool) -> int:
    """Saved by the encoder on top of the decoder until its backward pass."""
    shape, tokens = decoder.shape, rows * length
    if sparse:  # hidden states, their rows; activations and their positions; ends of the texts
        states = tokens * (shape.hidden_size * decoder.value + INT64)
        return states + rows * shape.vocabulary * (FP32 + INT16) + (rows + 1) * INT64
    if shape.projection:  # states as multiplied; fp32 vectors; norms, the same clamped, mask
        states = tokens * shape.hidden_size * decoder.value
        copied = shape.projection_parameters * BF16 * decoder.bf16  # autocast's, of the weight
        return states + copied + FP32 * tokens * (shape.projection + 3)
    # fp32 states; norms, the same clamped, mask; numbers of tokens
    return FP32 * (tokens * (shape.hidden_size + 3) + rows)


def _pooling_sparse(decoder: Decoder, rows: int, length: int) -> int:
    """Alive while the sparse head takes maxima, besides what it saves but with its result."""
    shape, tokens = decoder.shape, rows * length
    # The states as the decoder gave them and, where autocast casts, the copy that is packed.
    cast = decoder.value if decoder.value < decoder.stream else 0
    size = tokens * shape.hidden_size * (decoder.stream + cast)
    # Of a chunk: largest logit and position in one number, then apart; weights that are cast.
    chunk = min(CHUNK, shape.vocabulary)
    size += rows * chunk * (INT64 + FP32 + INT16)
    return size + chunk * shape.hidden_size * cast


def _pooling_sparse_backward(decoder: Decoder, rows: int, length: int) -> int:
    """Alive in the sparse head's backward pass, besides what it saved."""
    shape, tokens = decoder.shape, rows * length
    size = rows * shape.vocabulary * FP32  # its part of the vectors' gradient
    # Of a chunk: slopes, indices of those that are not 0, positions.
    size += rows * min(CHUNK, shape.vocabulary) * (FP32 + INT64 + INT16)
    size += tokens * shape.hidden_size * (FP32 + decoder.stream)  # states', packed and not
    return size + (0 if decoder.lora else FP32 * shape.head_parameters)  # of the head's weight


def mntp_memory(
    decoder: Decoder, batch: tuple[int, int], *, predicted: int, tied: bool, shards: int = 1
) -> Memory:
    """The same of MNTP, one micro-batch (chunks, tokens of each) at a time.

    Of `predicted` tokens there are logits, in fp32 too, their log-softmax and its gradient.
    """
    dense = training_memory(decoder, [batch], tied=tied, sparse=False, cached=True, shards=shards)
    logits = predicted * decoder.shape.vocabulary * (2 * decoder.value + 3 * FP32)
    return replace(dense, head=dense.head + logits)
