"""What has been decided, done and refused: lines of a chain, stored before anything is forwarded."""
