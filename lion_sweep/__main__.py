"""`python -m lion_sweep`: Hydra composes cells; they run here, or `launch` has them run."""

from launch import launcher_for
from lion_sweep import grid

if __name__ == "__main__":
    grid.start(grid.Session(launcher_for).run)
