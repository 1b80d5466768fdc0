"""What the commands have in common: quiet libraries, composed words, refusals in plain words."""

import sys
from collections.abc import Callable
from typing import NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from lion_sweep import config as configuration
from lion_sweep.config import Config
from lion_sweep.errors import UserError, refuse

REFUSED = (UserError, HydraException, OmegaConfBaseException, OSError)


def quiet() -> None:
    """No progress bars and no advice of transformers."""
    import transformers  # here, as some commands need not wait for it

    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """Leave with the exit status that `main` returns of the command line's words."""
    try:
        status = main(sys.argv[1:])
    except REFUSED as error:
        refuse(error)
    raise SystemExit(status)


def composed(overrides: list[str]) -> Config:
    """The configuration of these overrides, outside Hydra's own commands."""
    configuration.register()
    folder = str(configuration.config_folder())
    with hydra.initialize_config_dir(folder, version_base="1.3"):
        return configuration.resolve(hydra.compose("config", overrides=overrides))
