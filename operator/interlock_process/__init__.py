"""What the long-running programs of the control plane share: their logs and the metrics that all of them have."""
