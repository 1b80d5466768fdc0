"""Train, evaluate and compare sparse and dense LLM retrievers at equal compute."""

import signal
import sys

from lion_sweep.machine import environment

if environment.is_command(sys.orig_argv):  # whoever imports a loss keeps an environment as it is
    environment.settle()
    environment.answer(environment.leave, instead=signal.default_int_handler)
