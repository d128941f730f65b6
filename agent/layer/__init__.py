"""Settings that a job has laid over the config file, which itself is never written.

``merge`` says which keys may be laid over and how, ``record`` keeps them in the state
directory, ``config_layer`` tries them and rolls them back. See docs/jobs.md.
"""

from agent.layer.config_layer import ConfigLayer

__all__ = ["ConfigLayer"]
