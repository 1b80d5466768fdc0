"""`python -m lion_sweep.logs CELL`, see launch/commands.py."""

if __name__ == "__main__":
    from launch.commands import run

    run("logs")
