"""What goes wrong with a cluster, said in plain words."""


class ClusterError(Exception):
    """The cluster cannot be started, or a command on it failed; the message says why."""
