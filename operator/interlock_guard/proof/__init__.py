"""What the guard proves on itself before it obeys a bundle, and how it tells so."""
