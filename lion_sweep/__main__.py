"""`python -m lion_sweep`: Hydra composes cells, each runs through its stages."""

import hydra
import transformers
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lion_sweep import config as configuration

configuration.register()
transformers.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()


@hydra.main(
    version_base="1.3", config_path=str(configuration.config_folder()), config_name="config"
)
def main(_: DictConfig) -> None:
    """One cell of those that the grid's callback has composed and checked."""
    from lion_sweep.grid import SESSION

    job = HydraConfig.get().job
    SESSION.run(0 if OmegaConf.is_missing(job, "num") else job.num)


if __name__ == "__main__":
    main()
