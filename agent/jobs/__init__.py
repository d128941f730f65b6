"""Jobs: what an operator asks this vehicle to do once, carried out one at a time.

``operation`` is the contract of the operations, ``journal`` keeps the job at hand over
power cuts, ``at_hand`` is its way from one step to the next, ``conversation`` asks the cloud
and tells it, ``worker`` runs the operation, ``link`` puts them on the publisher's control
lane. See docs/jobs.md.
"""
