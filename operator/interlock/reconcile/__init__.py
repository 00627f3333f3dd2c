"""The pure reconcile: from a snapshot of the cluster to the writes and the status of one object."""
