"""Layer 1: ownership, purpose, policy and data access."""
