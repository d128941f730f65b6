"""A plain client of the gpsd protocol, for tests of servers of it."""

import json
import socket


class GpsdClient:
    """Line by line; ``watch`` starts the stream, ``until`` reads on to a class of report."""

    def __init__(self, port, *, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", port))
        self._file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self.socket.close()

    def say(self, text):
        self.socket.sendall(text.encode())

    def read(self):
        line = self._file.readline()
        assert line, "the server closed the connection"
        return json.loads(line)

    def until(self, name):
        while True:
            report = self.read()
            if report["class"] == name:
                return report

    def watch(self):
        self.say('?WATCH={"enable":true,"json":true};\n')
        return self.until("WATCH")

    def tpvs(self, count):
        return [self.until("TPV") for _ in range(count)]
