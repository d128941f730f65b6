"""Synthesise a drive: what the receiver and the CAN bus of a made-up vehicle would say.

The stages, each a function of the one before it, all deterministic by the seed::

    route (where)  ->  schedule (when)  ->  vehicle (battery, motor)  ->  CAN log
                                        ->  receiver (noise, tunnel)  ->  NMEA log
"""

from simulator.synth.drive import Drive, DriveOptions, synthesise

__all__ = ["Drive", "DriveOptions", "synthesise"]
