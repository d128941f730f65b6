"""``milepost-cloud``: the command line of the cloud.

Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration. Everything slow is imported
by the command that needs it, so that ``--help`` is quick.
"""

from cloud.cli.program import cli, main

__all__ = ["cli", "main"]
