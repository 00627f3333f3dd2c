"""What the guard obeys: the bundle, and the grammar of what stands in it. No I/O."""
