"""All that only a GPU can show, in one command of nine minutes; the same without one, small.

`python -m benchmarks.gpu_rehearsal` on a machine with CUDA; `--device cpu --tiny` anywhere else.

    __main__.py   the command: options, what is refused, table, exit status
    driver.py     steps one after the other, each in a process with a time limit; the record
    child.py      that process: the cases of one step
    target.py     what a step is given and what it yields
    steps/        one file per step, in the order of their worth
    bars.py       what has to be reached
    packages.py   what has to be installed, and what travels to a bare machine
    table.py      figures beside their bars; the table in docs/performance.md
"""
