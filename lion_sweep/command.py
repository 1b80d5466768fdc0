"""What the commands have in common: quiet libraries, composed words, refusals in plain words."""

import argparse
import difflib
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import hydra

from lion_sweep import config as configuration
from lion_sweep.config import Config
from lion_sweep.config.composing import refuse_moved
from lion_sweep.errors import UserError, refuse
from lion_sweep.machine import environment

NOBODY_READS = 141  # exit status, as shells have it: 128 and the signal's number


def quiet() -> None:
    """No progress bars and no advice of transformers."""
    import transformers  # here, as some commands need not wait for it

    warnings.filterwarnings("ignore", "`is_grad", FutureWarning)  # PEFT's to mend
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()


@contextmanager
def plainly() -> Iterator[None]:
    """However a command ends: in a sentence at most, and with the exit status that says how."""
    environment.answer(signal.default_int_handler, instead=environment.leave)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(NOBODY_READS) from None
    except KeyboardInterrupt:
        environment.say_interrupted()
        raise SystemExit(environment.INTERRUPTED) from None
    except Exception as error:
        refuse(error)


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """Leave with the exit status that `main` returns of the command line's words."""
    with plainly():
        raise SystemExit(main(sys.argv[1:]))


def refuse_words(words: Sequence[str], made: argparse.ArgumentParser) -> None:
    """Refuse the first of the words that the parser does not know, naming the nearest option."""
    for word in words:
        if not word.startswith("-"):
            raise UserError(f"{word} is one word too many: --help shows what is asked for.")
        name = word.partition("=")[0]
        near = difflib.get_close_matches(name, made._option_string_actions, 1)
        raise UserError(f"{name} is no option: say {near[0] if near else '--help for those'}.")


class Parser(argparse.ArgumentParser):
    """One that says in a sentence what is wrong; options may stand between other words."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the library has it. Raises `UserError` of what it does not know."""
        found, unknown = self.parse_known_intermixed_args(args, namespace)
        refuse_words(unknown, self)
        return found

    def error(self, message: str) -> NoReturn:
        """In place of the usage and an exit."""
        raise UserError(f"{message} (--help shows what is asked for)")


def parser(name: str, doc: str | None) -> Parser:
    """The options of `python -m lion_sweep.NAME`, which all look into one folder of outputs."""
    form = argparse.RawDescriptionHelpFormatter
    made = Parser(f"python -m lion_sweep.{name}", None, doc, formatter_class=form)
    said = "folder of all outputs, as paths.root=ROOT (%(default)s)"
    made.add_argument("--root", type=_folder, default=Path("outputs"), help=said)
    return made


def _folder(word: str) -> Path:
    """As Hydra reads it: in quotes or not, and with a ~, which no shell sees behind a `=`."""
    return Path(word.strip("'\"")).expanduser()


def parse(made: Parser, words: Sequence[str]) -> argparse.Namespace:
    """The options that the words say, in either way of naming the folder of outputs."""
    found = made.parse_args([word.replace("paths.root=", "--root=", 1) for word in words])
    assert isinstance(found, argparse.Namespace)
    return found


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
