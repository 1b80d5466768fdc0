"""Steps of a model of two layers, for tests of how they are kept."""

from pathlib import Path

import torch
from accelerate import Accelerator

from lion_sweep.training.optimisation import Optimisation, Run, Steps

RATES = Optimisation(0.1, 0.1, 0.1, 0.0, 1.0, (0.9, 0.999), 1e-8)


class Tiny(torch.nn.Module):
    """What `Steps` asks of a backbone."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.table = torch.nn.Linear(width, width), torch.nn.Embedding(5, width)

    @property
    def language_model(self) -> "Tiny":
        return self

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.table

    get_output_embeddings = get_input_embeddings

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        return dict(self.named_parameters())


def few_steps(folder: Path, accelerator: Accelerator, width: int = 4) -> Steps:
    """Ten of them, whose checkpoint is in `folder`."""
    run = Run(accelerator, folder, 1, lambda *told: None)
    return Steps(Tiny(width), RATES, 10, 0, run)  # type: ignore[arg-type]
