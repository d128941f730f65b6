"""The network between vehicle and broker, as bad as wanted.

``conditions`` is what a network can be at one moment, ``faults`` how one writes it and
when it holds, ``path`` one direction of it, ``relay`` the TCP relay in the middle.
"""
