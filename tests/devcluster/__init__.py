"""A private SLURM of several nodes on one machine, for tests and for trying things out.

`python -m devcluster up FOLDER` starts it, `... down FOLDER` stops it; everything it writes
lies in FOLDER. In Python:

    with Cluster(folder) as cluster:
        cluster.run("sbatch", "--gpus-per-node=2", "job.sh")

Partitions: `gpu`, where jobs stay; `preempt`, whose jobs the others push out and SLURM requeues;
`urgent`, before all others; `short`, one node for ten minutes. The nodes are made up, as are their
64 CPUs and 8 GPUs: jobs share the processors of this machine, but are killed if they outgrow the
memory they asked for.
"""

from devcluster.cluster import Cluster
from devcluster.errors import ClusterError

__all__ = ["Cluster", "ClusterError"]
