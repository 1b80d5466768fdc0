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
from lion_sweep.stages.tokens import Cut
from lion_sweep.stages.workshop import Workshop
from lion_sweep.training.fit import ChunkFit
from lion_sweep.training.run import Run
from lion_sweep.training.settings import Optimisation


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
        """What its memory depends on."""
        return Decoder(self.blueprint.shape, self.lora, self.precision is Precision.bf16)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Planned and spent, first and last loss."""
        from lion_sweep.stages import weights  # which imports the models: seconds
        from lion_sweep.training.adapt import Chunks, adapt

        execution, tokens = shop.execution, self.passages.read(shop)
        fit = ChunkFit.settled(self.decoder, self.blueprint.tied, self.settings, execution)
        backbone = weights.load(
            self.blueprint, self.lora, execution, None, seed=self.seed, sharded=fit.sharded
        )
        tokens.check_within(len(backbone.head_VD), self.blueprint.source)
        chunks = Chunks(
            tokens.joined(self.passages.length),
            self.blueprint.tokenizer.load_tokenizer(),
            fit.rows,
        )
        run = Run(
            execution.accelerator,
            folder,
            execution.checkpoint_every,
            shop.progress.step,
            shop.progress.kept,
        )

        def remedy() -> str | None:
            fewer = fit.rows // 2 * self.settings.chunk
            return f"recipe.micro_batch_tokens={fewer}" if fewer else None

        with (
            enough_memory("adapt", remedy),
            weights.compiling(shop, "adapt", backbone) as compiling,
        ):
            facts = adapt(
                backbone, chunks, self.settings, self.optimisation, self.lora, self.seed, run
            )
        weights.save(backbone, folder, execution)
        return facts | compiling

    def planned(self) -> Spending:
        """What it should cost."""
        if self.settings.steps == 0:
            return Spending()
        return planned_mntp(self.blueprint.shape, self.settings, self.lora)
