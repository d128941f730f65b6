"""A serial line on a pseudo terminal that a test speaks into, and can unplug."""

import contextlib
import os
import threading
import time
import tty


class SerialLine:
    """``link`` is the port; it exists while something is plugged in."""

    def __init__(self, link):
        self.link = link
        self._master = self._slave = None
        self._lock = threading.Lock()
        self.plug()

    def plug(self):
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.link.symlink_to(os.ttyname(self._slave))

    def unplug(self):
        with self._lock:
            if self._master is not None:
                self.link.unlink()
                os.close(self._slave)
                os.close(self._master)
                self._master = None

    def say(self, data):
        """Like a receiver: what nobody reads in time is lost."""
        give_up_s = time.monotonic() + 2
        while data and time.monotonic() < give_up_s:
            with self._lock, contextlib.suppress(BlockingIOError):
                if self._master is None:
                    return
                data = data[os.write(self._master, data) :]
            if data:
                time.sleep(0.01)

    def heard(self):
        """What the agent wrote, so far not taken."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self._master, 4096)
        return b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.unplug()


@contextlib.contextmanager
def speaking(line, bursts, every_s):
    """Say the bursts again and again, one every so many seconds, in a thread."""
    stopping = threading.Event()

    def speak():
        while not stopping.is_set():
            for burst in bursts:
                if stopping.wait(every_s):
                    return
                line.say(burst)

    thread = threading.Thread(target=speak, name="receiver")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(10)
