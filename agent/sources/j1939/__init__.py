"""J1939: faults (DM1) and messages of several packets, from trucks and buses.

``frames``, ``transport``, ``dm1`` and ``claim`` know the bytes (pure), ``source`` is the
thread. Is: what a DBC cannot say, since lists and multi-packet messages have no fixed place.
Is not: a decoder of single signals; those come through ``[[can]]`` and a DBC, by PGN.
"""
