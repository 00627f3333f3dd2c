"""From a snapshot of the cluster to what has to be done about one agent."""
