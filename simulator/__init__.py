"""The simulator: a whole vehicle on a desk, and a bad network."""
