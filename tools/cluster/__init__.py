"""The clusters that Interlock is shown and tested in: kind for real pods, kwokctl for a real API server.

Both programs are the field's own and unmodified. What is ours is only where their parts come from
(released programs, or built from source and distribution packages) and that nothing is left behind.
Nothing of the product imports this package, and it imports nothing of the product.
"""
