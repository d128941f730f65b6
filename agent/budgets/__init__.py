"""Daily budgets: mobile data and flash writes, measured, capped, and what a cap does.

=============  ================================================================
module         concept
=============  ================================================================
``table``      stages, and what each of them imposes; pure
``day``        when a budget's day ends; pure
``record``     the counters' file
``budgets``    measures, decides, tells
=============  ================================================================
"""

from agent.budgets.budgets import Budgets, Change, caps_bytes, describe
from agent.budgets.table import Budget, Stage, mode_in_force

__all__ = [
    "Budget",
    "Budgets",
    "Change",
    "Stage",
    "caps_bytes",
    "describe",
    "mode_in_force",
]
