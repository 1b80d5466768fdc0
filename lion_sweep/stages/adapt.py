"""Masked next-token prediction: what the cells of a size start from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lion_sweep.config import Adapt, Lora, Precision
from lion_sweep.cost.memory import Decoder
from lion_sweep.cost.meter import Spending, planned_mntp
from lion_sweep.machine.devices import enough_memory
from lion_sweep.stages.backbone import Blueprint
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.texts import Cut
from lion_sweep.stages.workshop import Workshop
from lion_sweep.training.fit import fit_chunks
from lion_sweep.training.optimisation import Optimisation, Run


@dataclass(frozen=True, eq=False)
class AdaptDecoder(Stage):
    """MNTP on the passages of the collection; the cells of a size share it."""

    kind = "adapt"
    together = True

    blueprint: Blueprint
    passages: Cut
    settings: Adapt
    lora: Lora | None
    optimisation: Optimisation
    precision: Precision
    seed: int
    title: str = beside("adapt")

    @property
    def decoder(self) -> Decoder:
        return Decoder(self.blueprint.shape, self.lora, self.precision is Precision.bf16)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Planned and spent, first and last loss."""
        from lion_sweep.stages import weights  # which imports the models: seconds
        from lion_sweep.training.adapt import Chunks, adapt

        how, blueprint, settings, lora = shop.execution, self.blueprint, self.settings, self.lora
        rows, sharded = fit_chunks(self.decoder, blueprint.tied, settings, how)
        backbone = weights.load(blueprint, lora, how, None, seed=self.seed, sharded=sharded)
        tokens, progress = self.passages.read(shop), shop.progress
        tokens.check_within(len(backbone.head_VD), blueprint.source)
        ids_T = tokens.joined(self.passages.length)
        chunks = Chunks(ids_T, blueprint.tokenizer.load_tokenizer(), rows)
        run = Run(how.accelerator, folder, how.checkpoint_every, progress.step, progress.kept)
        fewer = rows // 2 * settings.chunk
        remedy = f"recipe.micro_batch_tokens={fewer}" if fewer else None
        memory = enough_memory("adapt", lambda: remedy)
        with memory, weights.compiling(shop, "adapt", backbone) as more:
            facts = adapt(backbone, chunks, settings, self.optimisation, lora, self.seed, run)
        weights.save(backbone, folder, how)
        return facts | more

    def planned(self) -> Spending:
        return planned_mntp(self.blueprint.shape, self.settings, self.lora)
