"""What became of every message: the cloud's side of the account, pure, without any store.

``ranges`` says what of a run is there, ``ledger`` keeps that and what the vehicle told of
the run, ``reconcile`` compares the two. What each figure means: docs/accounting.md.
"""
