"""The shadow document: what a request does to it, and what is said about it. Pure.

The rules are those of the AWS IoT developer guide ("Device Shadow service documents",
"Device Shadow error messages"):

- An update changes only what it names; ``null`` removes a key, arrays are replaced whole.
- Each update raises the version by one. A request that names a version is carried out
  only on that version.
- The delta is what ``desired`` has and ``reported`` has not, or has otherwise.
- Every value has the time of its last update, in whole seconds, beside it in ``metadata``.
- 8 KB for ``desired`` and ``reported`` together, metadata not counted; six levels.
- A shadow that is made again within 48 hours of its deletion goes on counting.

The guide does not say what becomes of objects without a key; here they are dropped.
"""

from cloud.shadow.document import Shadow, deleted, delta, existing, updated
from cloud.shadow.requests import Request, parse_request, parse_update

__all__ = [
    "Request",
    "Shadow",
    "deleted",
    "delta",
    "existing",
    "parse_request",
    "parse_update",
    "updated",
]
