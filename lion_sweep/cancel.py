"""`python -m lion_sweep.cancel CELL`, see launch/commands.py."""

if __name__ == "__main__":
    from launch.commands import run

    run("cancel")
