"""`python -m lion_sweep`: Hydra composes cells; they run here, or `launch` has them run."""

if __name__ == "__main__":  # and not in its workers, which would import all of it again
    from launch import launcher_for
    from lion_sweep import grid

    grid.start(grid.Session(launcher_for).run)
