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
        self.plug()

    def plug(self):
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.link.symlink_to(os.ttyname(self._slave))

    def unplug(self):
        if self._master is not None:
            self.link.unlink()
            os.close(self._slave)
            os.close(self._master)
            self._master = None

    def say(self, data):
        deadline = time.monotonic() + 20
        while data and self._master is not None:
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self._master, data) :]
            assert time.monotonic() < deadline, "nobody reads"
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
