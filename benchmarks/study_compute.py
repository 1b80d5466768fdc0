"""What the study's own schedule spends under our ledger, and what an equal budget would buy.

Prints the two tables of docs/compute.md. Mean lengths stand for the lengths of every text, so the
figures are good to a per cent or so; `budget=flops` counts the tokens of each text instead.
"""

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config import Lora
from lion_sweep.cost.ledger import DecoderShape, sequence_flops

SHAPES = {
    "1b": DecoderShape(2048, 8192, 16, 32, 8, 64, 128256),
    "3b": DecoderShape(3072, 8192, 28, 24, 8, 128, 128256),
    "8b": DecoderShape(4096, 14336, 32, 32, 8, 128, 128256),
}
PARAMETERS = {"1b": 1_235_814_400, "3b": 3_212_749_824, "8b": 8_030_261_248}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = Lora(rank=16, alpha=32, dropout=0.05, targets=TARGETS)
# Optimiser steps and queries per step of the study's scripts; CL+KD is scheduled as CL.
SCHEDULE = {
    ("1b", "cl"): (33250, 112),
    ("3b", "cl"): (12600, 128),
    ("8b", "cl"): (4200, 128),
    ("1b", "kd"): (29400, 1024),
    ("3b", "kd"): (25200, 512),
    ("8b", "kd"): (8400, 512),
}
PASSAGES = {"cl": 17, "kd": 2}  # per query
REAL, PADDED = (10, 75), (64, 128)  # mean tokens of a query and a passage; lengths of the scripts
TRAINING_QUERIES = 532_751
BUDGET, BATCH = 1.94e19, {"cl": 112, "kd": 512}


def query_flops(model: str, loss: str, lengths: tuple[int, int], *, sparse: bool) -> int:
    """Useful FLOPs of a query with its passages."""
    query, passage = sequence_flops(SHAPES[model], np.array(lengths), sparse=sparse, lora=LORA)
    return int(query) + PASSAGES[loss] * int(passage)


def checkpointed_flops(
    shape: DecoderShape, padded_N: NDArray[np.int64], *, sparse: bool, lora: Lora | None
) -> NDArray[np.int64]:
    """Hardware FLOPs of a training step on every text, [N], with checkpointed layers.

    They run forward twice, but for the product that ends them. The embeddings ask for a gradient,
    so the first layer is differentiated in whole.
    """
    weights = sum(inputs * outputs for inputs, outputs in shape.projections.values())
    inputs, outputs = shape.projections["down_proj"]
    if lora:
        weights += shape.lora_parameters(lora) // shape.layers
    last = lora.rank * outputs if lora and "down_proj" in lora.targets else inputs * outputs
    attention_N = 4 * shape.heads * shape.head_dim * padded_N**2
    again_N = 2 * (weights - last) * padded_N + attention_N
    return sequence_flops(shape, padded_N, sparse=sparse, lora=lora) + shape.layers * again_N


def executed(model: str, loss: str, *, sparse: bool) -> int:
    """FLOPs that run for it when padded to the scripts' lengths, layers checkpointed."""
    query, passage = checkpointed_flops(SHAPES[model], np.array(PADDED), sparse=sparse, lora=LORA)
    return int(query) + PASSAGES[loss] * int(passage)


def main() -> None:
    """Print both tables."""
    print("| cell | useful | executed | 6ND |\n| --- | ---: | ---: | ---: |")
    columns: list[list[float]] = [[], [], []]
    for (model, loss), (steps, batch) in SCHEDULE.items():
        queries = steps * batch
        tokens = queries * (REAL[0] + PASSAGES[loss] * REAL[1])
        for sparse in (True, False):
            row = [
                queries * query_flops(model, loss, REAL, sparse=sparse),
                queries * executed(model, loss, sparse=sparse),
                6 * PARAMETERS[model] * tokens,
            ]
            name = f"{model} {'sparse' if sparse else 'dense'} {loss.upper()}"
            print(f"| {name} | {' | '.join(f'{value:.3g}' for value in row)} |")
            for column, value in zip(columns, row, strict=True):
                column.append(value)
    spreads = [f"{max(column) / min(column):.2f}x" for column in columns]
    print(f"| largest over smallest | {' | '.join(spreads)} |")
    print(f"\nSteps that {BUDGET:.3g} useful FLOPs buy:\n")
    print("| cell | FLOPs per step | steps | epochs |\n| --- | ---: | ---: | ---: |")
    for model in SHAPES:
        for loss, batch in BATCH.items():
            for sparse in (True, False):
                step = batch * query_flops(model, loss, REAL, sparse=sparse)
                name = f"{model} {'sparse' if sparse else 'dense'} {loss.upper()}"
                epochs = BUDGET / step * batch / TRAINING_QUERIES
                print(f"| {name} | {step:.4g} | {BUDGET / step:,.0f} | {epochs:.2f} |")


if __name__ == "__main__":
    main()
