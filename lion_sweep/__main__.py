"""`python -m lion_sweep`: Hydra composes cells; they run here, or `launch` has them run."""

import hydra
import transformers
from omegaconf import DictConfig

from launch import launcher_for
from lion_sweep import config as configuration
from lion_sweep import grid
from lion_sweep.errors import IMPOSSIBLE

configuration.register()
transformers.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()


@hydra.main(
    version_base="1.3", config_path=str(configuration.config_folder()), config_name="config"
)
def main(_: DictConfig) -> None:
    """Not reached, as the grid's callback leaves, unless it failed: Hydra only warns of that."""
    raise SystemExit(IMPOSSIBLE)


if __name__ == "__main__":
    grid.SESSION = grid.Session(launcher_for)
    grid.start(main)
