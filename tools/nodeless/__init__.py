"""What only a machine without a Docker engine or an image registry needs.

A private engine, programs built from the Go module proxy, and kind's node image made of those and Debian packages.
"""
