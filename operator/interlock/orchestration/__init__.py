"""Layer 2: the rollout, stage by stage."""
