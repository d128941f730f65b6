"""A CAN interface that fails as real ones do: absent at first, then breaking on receive."""

import threading
import time

import can
from can import interfaces, util


class FlakyBus(can.BusABC):
    """``missing`` opens fail; then each opened bus gives ``frames`` and breaks, or is silent."""

    missing = 0
    breaks = True
    frames = ()
    opened = 0
    lock = threading.Lock()

    def __init__(self, channel, can_filters=None, **options):
        cls = type(self)
        with cls.lock:
            cls.opened += 1
            if cls.opened <= cls.missing:
                raise can.CanInitializationError(f"no such device {channel}")
        self._left = list(cls.frames)
        super().__init__(channel=channel, can_filters=can_filters, **options)

    def _recv_internal(self, timeout):
        if not self._left and not self.breaks:
            time.sleep(min(timeout or 0, 0.05))
            return None, False
        if not self._left:
            raise can.CanOperationError("network is down")
        return self._left.pop(0), True

    def send(self, msg, timeout=None):
        raise NotImplementedError

    @classmethod
    def install(cls, *, missing, frames, breaks=True):
        """A fresh interface of this kind; returns its name for the config."""
        name = f"flaky{len(interfaces.BACKENDS)}"
        kind = type(
            name,
            (cls,),
            {"missing": missing, "frames": tuple(frames), "opened": 0, "breaks": breaks},
        )
        globals()[name] = kind
        interfaces.BACKENDS[name] = (__name__, name)
        util.VALID_INTERFACES = frozenset(interfaces.BACKENDS)
        return name, kind
