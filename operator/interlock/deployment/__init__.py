"""Layer 4: what must stand in the cluster for a placement."""
