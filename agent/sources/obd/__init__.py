"""OBD-II and UDS: asking the ECUs of a vehicle, politely, over ISO-TP.

``pids``, ``codes`` and ``services`` know the bytes, ``policy`` and ``plan`` decide when to
ask (pure, tested as tables), ``link`` speaks ISO-TP, ``source`` is the thread.

Is: the one part of the agent that transmits on a bus, and only where ``[[obd]]`` is set.
Is not: a decoder of what others ask; that is the passive CAN source with a DBC.
"""
