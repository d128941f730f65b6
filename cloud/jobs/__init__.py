"""Jobs and their executions, as AWS IoT Jobs has them; pure.

``execution`` is the state machine, ``requests`` reads what vehicles ask, ``answers`` says
what they are told. Where it is stored: :mod:`cloud.stores.jobs_tables`.
"""

from cloud.jobs.execution import By, Execution, next_of, pending

__all__ = ["By", "Execution", "next_of", "pending"]
