"""The running operator: the reconcile loops, the router of events, the kill path's thread and the liveness checks."""
