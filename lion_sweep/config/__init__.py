"""The configuration: typed sections, composed by Hydra, checked, settled, frozen."""

from lion_sweep.config.composing import config_folder, read_config, register, resolve, write_config
from lion_sweep.config.recipe import Adapt, Lora, Precision
from lion_sweep.config.schema import Alarms, Budget, BudgetKind, Config, LadderName
from lion_sweep.config.section import changed

__all__ = [
    "Adapt",
    "Alarms",
    "Budget",
    "BudgetKind",
    "Config",
    "LadderName",
    "Lora",
    "Precision",
    "changed",
    "config_folder",
    "read_config",
    "register",
    "resolve",
    "write_config",
]
