"""The Lambda handlers; ``build(stores)`` in each makes the same for one machine."""
