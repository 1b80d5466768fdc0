"""Start, stop and disturb a private SLURM: python -m devcluster --help"""

import argparse
import logging
import sys
from pathlib import Path

from devcluster import Cluster, ClusterError


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="devcluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    up = commands.add_parser(
        "up", help="start a cluster, and print the line that lets a shell use it"
    )
    up.add_argument("folder", type=Path, help="where everything is written")
    up.add_argument("--nodes", type=int, default=4, help="each with 64 CPUs and 8 GPUs (4)")
    up.add_argument("--port", type=int, default=26800, help="first of nodes + 2 ports (26800)")
    up.add_argument(
        "--accounting",
        choices=["slurmdbd", "none"],
        default="slurmdbd",
        help="none: no sacct, and no database to install",
    )
    up.add_argument(
        "--slurmd-timeout",
        type=int,
        default=20,
        help="seconds without an answer after which a node is down (20)",
    )
    up.add_argument(
        "--signal-on-preempt",
        action="store_true",
        help="send a job's own signal when it is preempted, as few clusters do",
    )

    down = commands.add_parser("down", help="stop a cluster")
    down.add_argument("folder", type=Path)

    node = commands.add_parser("node", help="let a node crash, or bring it back")
    node.add_argument("folder", type=Path)
    node.add_argument("name", help="n1, n2, ...")
    node.add_argument("action", choices=["kill", "start"])
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Do what was asked."""
    if arguments.command == "up":
        cluster = Cluster(
            arguments.folder,
            nodes=arguments.nodes,
            port=arguments.port,
            accounting=arguments.accounting == "slurmdbd",
            slurmd_timeout=arguments.slurmd_timeout,
            signal_on_preempt=arguments.signal_on_preempt,
        )
        cluster.up()
        for name, value in cluster.environment.items():
            print(f"export {name}={value}")
        return
    cluster = Cluster.load(arguments.folder)
    if arguments.command == "down":
        cluster.down()
    elif arguments.action == "kill":
        cluster.kill_node(arguments.name)
    else:
        cluster.start_node(arguments.name)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)6d ms  %(message)s")
    try:
        run(parse())
    except ClusterError as error:
        sys.exit(str(error))
