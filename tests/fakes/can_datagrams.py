"""A CAN interface where the kernel has none: its frames as datagrams, ``struct can_frame``.

The CAN source reads it with the very code that reads a SocketCAN socket. What only a
controller or a cable can do, going down, bus-off, is done by hand.
"""

import contextlib
import socket
import struct

from agent.errors import SourceError
from agent.sources.can.ids import ERROR
from agent.sources.can.socketcan import SocketCanReader
from agent.sources.can.source import CanSource

CLASSIC = struct.Struct("=IB3x8s")
BUS_OFF = 0x040
RESTARTED = 0x100
CONTROLLER = 0x004


class DatagramBus:
    """An interface that is ``up`` or not; ``opened`` counts how often it was."""

    def __init__(self, *, up=True):
        self.opened = 0
        self._up = up
        self._sender = None
        self._receiver = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()

    def open(self):
        """What opening the interface gives; raises as a missing one does."""
        if not self._up:
            raise SourceError("cannot open: there is no interface can0")
        self._sender, self._receiver = (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)
        )
        for end in (self._sender, self._receiver):
            end.bind(("127.0.0.1", 0))
        self._receiver.connect(self._sender.getsockname())
        self._sender.connect(self._receiver.getsockname())
        reader = SocketCanReader(self._receiver, "can0", fd=False)
        self.opened += 1
        return reader

    def up(self):
        self._up = True

    def down(self):
        """The reader's socket gets an error, as on ``ip link set can0 down``."""
        self._up = False
        if self._sender is not None:
            self._sender.close()
            with contextlib.suppress(OSError):  # the answer: that port is unreachable
                self._receiver.send(b"")

    def send(self, identifier, data=b""):
        data = bytes(data)
        self._sender.send(CLASSIC.pack(identifier, len(data), data))

    def report(self, error_class, controller=0):
        """An error frame of the controller."""
        self.send(ERROR | error_class, [0, controller, 0, 0, 0, 0, 0, 0])


class DatagramSource(CanSource):
    """The CAN source on a ``DatagramBus``."""

    def __init__(self, bus, *args):
        super().__init__(*args)
        self._bus = bus

    def _open(self):
        return self._bus.open()
