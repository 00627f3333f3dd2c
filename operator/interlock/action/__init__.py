"""Layer 3: bindings and permissions."""
