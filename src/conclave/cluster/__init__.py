"""The cluster process: the only writer of the cluster store."""
