"""What people call a cell."""

from lion_sweep.config.schema import AXES, Config


def axes(config: Config) -> dict[str, str]:
    """The three choices that name a cell in every table."""
    return {axis: getattr(config, axis).name for axis in AXES}


def label(config: Config) -> str:
    """Axes joined, as in 1b-sparse-cl."""
    return "-".join(axes(config).values())
