"""`python -m lion_sweep`: Hydra composes cells, each runs through its stages."""

import hydra
import transformers
from omegaconf import DictConfig, OmegaConf

from lion_sweep import config as configuration

configuration.register()
transformers.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()


@hydra.main(
    version_base="1.3", config_path=str(configuration.config_folder()), config_name="config"
)
def main(composed: DictConfig) -> None:
    """One cell, as composed."""
    from lion_sweep.grid import SESSION

    SESSION.run(configuration.resolve(OmegaConf.masked_copy(composed, configuration.GROUPS)))


if __name__ == "__main__":
    main()
