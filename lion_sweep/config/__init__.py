"""The configuration: typed sections, composed by Hydra, checked, settled, frozen."""

from lion_sweep.config.composing import config_folder, read_config, register, resolve, write_config
from lion_sweep.config.recipe import Adapt, Attention, Lora, Precision, TextForm
from lion_sweep.config.schema import Alarms, Budget, BudgetKind, Config, LadderName, Sampling
from lion_sweep.config.section import changed
from lion_sweep.config.teacher import Audit, OnFailure, ScoreKind

__all__ = [
    "Adapt",
    "Alarms",
    "Attention",
    "Audit",
    "Budget",
    "BudgetKind",
    "Config",
    "LadderName",
    "Lora",
    "OnFailure",
    "Precision",
    "Sampling",
    "ScoreKind",
    "TextForm",
    "changed",
    "config_folder",
    "read_config",
    "register",
    "resolve",
    "write_config",
]
