"""The vehicle's identity: what provisioning and rotation leave in the state directory."""

from agent.identity.records import Identity, Pending, PendingCertificate
from agent.identity.resolve import identified, identified_parts
from agent.identity.store import IdentityStore

__all__ = [
    "Identity",
    "IdentityStore",
    "Pending",
    "PendingCertificate",
    "identified",
    "identified_parts",
]
