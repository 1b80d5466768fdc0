"""A private SLURM of several nodes on one machine, for tests and for trying things out.

`python -m launch.devcluster up FOLDER` starts it, `... down FOLDER` stops it; everything it writes
lies in FOLDER. In Python:

    with Cluster(folder) as cluster:
        cluster.run("sbatch", "--gpus-per-node=2", "job.sh")
"""

from launch.devcluster.cluster import Cluster
from launch.devcluster.errors import ClusterError

__all__ = ["Cluster", "ClusterError"]
