"""Layer 1: ownership, purpose, policy, data access and the kill switch."""
