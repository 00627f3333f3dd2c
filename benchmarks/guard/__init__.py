"""What the guard adds to a call, compared with the bare minimum and a peer."""
