"""What the commands have in common: quiet libraries, composed words, refusals in plain words."""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from lion_sweep import config as configuration
from lion_sweep.config import Config
from lion_sweep.config.composing import refuse_moved
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


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """The options of `python -m lion_sweep.NAME`, which all look into one folder of outputs."""
    form = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(f"python -m lion_sweep.{name}", None, doc, formatter_class=form)
    said = "folder of all outputs, as paths.root=ROOT (%(default)s)"
    made.add_argument("--root", type=Path, default=Path("outputs"), help=said)
    return made


def parse(made: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The options that the words say, in either way of naming the folder of outputs."""
    return made.parse_args([word.replace("paths.root=", "--root=", 1) for word in words])


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` at the end: that appears whole or not at all.

    Raises `UserError` where it is there already.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: choose another folder, or remove it.")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def composed(overrides: list[str]) -> Config:
    """The configuration of these overrides, outside Hydra's own commands."""
    refuse_moved(overrides)
    configuration.register()
    folder = str(configuration.config_folder())
    with hydra.initialize_config_dir(folder, version_base="1.3"):
        return configuration.resolve(hydra.compose("config", overrides=overrides))
