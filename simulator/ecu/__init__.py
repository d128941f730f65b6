"""ECUs on a desk: one that answers OBD-II and UDS, and a truck's that broadcasts J1939.

``engine`` says what the vehicle does, ``obd``, ``uds`` and ``j1939`` are the bytes (pure),
``node`` and ``truck`` are the threads on a bus, ``command`` is ``milepost-sim ecu``.

Is: an independent implementation of the standards; it shares no table with the agent.
"""
