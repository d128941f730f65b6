"""SocketCAN, read straight from the kernel: many frames a call, into one buffer.

``recvmmsg`` fills a row of buffers that lie one behind the other, so a burst is split by a
single ``struct`` and costs a fraction of one call a frame (decision 0034). The kernel
filters by id, tells how many frames it dropped because the socket's buffer was full
(SO_RXQ_OVFL), and reports the controller's state as error frames.

The layout is ``struct can_frame`` and ``struct canfd_frame`` of linux/can.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
import struct
from collections.abc import Sequence
from typing import Final

from agent.errors import SourceError
from agent.sources.can.errors import REPORTS
from agent.sources.can.ids import IdFilter, grouped
from agent.sources.can.slots import RawFrame

_CLASSIC: Final = struct.Struct("=IB3x8s")
_FD: Final = struct.Struct("=IB3x64s")
_FILTER: Final = struct.Struct("=II")
_CONTROL: Final = struct.Struct("@Nii")
_DROPS: Final = struct.Struct("=I")

_CAN_RAW_ERR_FILTER: Final = 2
"""linux/can/raw.h; type checkers do not know ``socket.CAN_RAW_ERR_FILTER``."""

_SO_RXQ_OVFL: Final = 40
"""asm-generic/socket.h; the socket module does not name it."""

_RECEIVE_BUFFER_BYTES: Final = 1 << 19
"""Asked for; the kernel gives twice as much, but net.core.rmem_max twice at most."""

_FRAME_COST_BYTES: Final = 768
"""What a frame takes of the buffer, a classic one or one of FD (sk_buff's truesize)."""

_ROOM: Final = 3
"""A burst fills this part of the buffer at most; the rest is for a thread that comes late."""

_BURST: Final = 128
_CONTROL_BYTES: Final = 64
_MOST_BURSTS: Final = 16
"""Bursts taken before a stop is looked for."""


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vectors_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


def open_socket(channel: str, filters: Sequence[IdFilter], *, fd: bool) -> socket.socket:
    """A socket on the interface that gets the frames of ``filters`` and error reports.

    Raises:
        SourceError: the kernel has no CAN, or there is no such interface.
    """
    try:
        opened = socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    except OSError as error:
        raise SourceError(
            f"cannot open: {error.strerror}: the kernel has no CAN; `modprobe can_raw`"
        ) from None
    try:
        packed = b"".join(_FILTER.pack(*one) for one in grouped(filters))
        opened.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, packed)
        opened.setsockopt(socket.SOL_CAN_RAW, _CAN_RAW_ERR_FILTER, REPORTS)
        if fd:
            opened.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
        opened.bind((channel,))
    except OSError as error:
        opened.close()
        raise SourceError(f"cannot open: {said(error, channel)}") from None
    return opened


class SocketCanReader:
    """``take`` gives what is there; owned by one thread, which waits with ``wait``."""

    def __init__(self, opened: socket.socket, channel: str, *, fd: bool) -> None:
        self.drops = 0
        """Frames that the kernel dropped since the socket was opened."""
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        opened.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        buffer_bytes = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self.burst_frames = buffer_bytes // (_FRAME_COST_BYTES * _ROOM)
        """Frames that may gather without a drop."""
        self._socket = opened
        self._channel = channel
        self._layout = _FD if fd else _CLASSIC
        size = self._layout.size
        self._data = bytearray(_BURST * size)
        self._control = bytearray(_CONTROL_BYTES)
        data = (ctypes.c_char * len(self._data)).from_buffer(self._data)
        control = (ctypes.c_char * _CONTROL_BYTES).from_buffer(self._control)
        address = ctypes.addressof(data)
        self._vectors = (_Vector * _BURST)(
            *(_Vector(address + index * size, size) for index in range(_BURST))
        )
        self._messages = (_Message * _BURST)()
        for index, message in enumerate(self._messages):
            message.header.vectors = ctypes.pointer(self._vectors[index])
            message.header.vectors_length = 1
        # the counter is cumulative: the first frame of each burst is enough to follow it
        self._first = self._messages[0].header
        self._first.control = ctypes.addressof(control)
        self._recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
        self._counted = 0

    def wait(self, wake: socket.socket, timeout_s: float | None) -> None:
        """Until frames, an error or ``wake`` are there, or the time is up."""
        select.select([self._socket, wake], [], [], timeout_s)

    def take(self) -> list[RawFrame]:
        """All frames that are there, oldest first.

        Raises:
            SourceError: the interface is down or gone; frames before it were given.
        """
        frames: list[RawFrame] = []
        size = self._layout.size
        for _ in range(_MOST_BURSTS):
            self._first.control_length = _CONTROL_BYTES
            count = self._recvmmsg(
                self._socket.fileno(), self._messages, _BURST, socket.MSG_DONTWAIT, None
            )
            if count < 0:
                number = ctypes.get_errno()
                if number in {errno.EAGAIN, errno.EINTR} or frames:
                    break  # an error of the interface that came after frames comes again
                raise SourceError(
                    f"cannot receive: {said(OSError(number, os.strerror(number)), self._channel)}"
                )
            if self._first.control_length:
                self._count_drops()
            frames += self._layout.iter_unpack(memoryview(self._data)[: count * size])
            if count < _BURST:
                break
        return frames

    def close(self) -> None:
        """Close the socket."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _count_drops(self) -> None:
        counted = drops_in(bytes(self._control[: self._first.control_length]))
        if counted is not None:
            self.drops += (counted - self._counted) % (1 << 32)
            self._counted = counted


def drops_in(control: bytes) -> int | None:
    """The kernel's 32-bit counter of drops in a control message, if it is one (cmsg(3))."""
    if len(control) < _CONTROL.size + _DROPS.size:
        return None
    _, level, kind = _CONTROL.unpack_from(control)
    if (level, kind) != (socket.SOL_SOCKET, _SO_RXQ_OVFL):
        return None
    counted: int = _DROPS.unpack_from(control, _CONTROL.size)[0]
    return counted


def said(error: OSError, channel: str) -> str:
    """What the kernel's error means for whoever looks after the vehicle."""
    if error.errno == errno.ENETDOWN:
        return f"the interface is down; `ip link set {channel} up`"
    if error.errno in {errno.ENODEV, errno.ENXIO}:
        return f"there is no interface {channel}; `ip link` lists them"
    return error.strerror or str(error)
