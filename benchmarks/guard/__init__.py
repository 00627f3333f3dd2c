"""What the guard adds to a call, beside the bare minimum and a peer."""
