"""How a board becomes a vehicle, and gets its next certificate.

What is decided is pure: ``hook`` (may this board register), ``settlement`` (which
certificates of a vehicle have served their time), ``requests`` (what a client may send).
It is the same on AWS, whose service calls it as a pre-provisioning hook and by a rule, and
on one machine, whose broker plays that service. ``ports`` is what both provide.
"""
