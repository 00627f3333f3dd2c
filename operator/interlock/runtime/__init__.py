"""The running operator: the reconcile loops, the router of events, the second watch and the liveness checks."""
