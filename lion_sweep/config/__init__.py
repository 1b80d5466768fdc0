"""The configuration: typed sections, composed by Hydra, checked, settled, frozen."""

from lion_sweep.config.recipe import Adapt, Lora, Normalize, Precision
from lion_sweep.config.resolving import config_folder, read_config, register, resolve, write_config
from lion_sweep.config.schema import Budget, BudgetKind, Config, LadderName, Teacher
from lion_sweep.config.section import changed

__all__ = [
    "Adapt",
    "Budget",
    "BudgetKind",
    "Config",
    "LadderName",
    "Lora",
    "Normalize",
    "Precision",
    "Teacher",
    "changed",
    "config_folder",
    "read_config",
    "register",
    "resolve",
    "write_config",
]
