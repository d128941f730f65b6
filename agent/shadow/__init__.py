"""The vehicle's shadow: settings that the operator changes from afar.

``desired`` judges what is asked for, ``record`` remembers it, ``remote`` holds what is in
force, ``conversation`` asks and reports, ``link`` runs it on the publisher's control lane.
See docs/shadow.md.
"""

from agent.shadow.link import ShadowLink
from agent.shadow.remote import RemoteSettings

__all__ = ["RemoteSettings", "ShadowLink"]
