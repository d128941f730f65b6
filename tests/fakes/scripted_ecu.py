"""An ECU that sends frames written by hand: what no library would send, and what does not."""

import threading
import time

import can


class ScriptedEcu:
    """Answers from ``script``: request bytes (without ISO-TP's length) to frames.

    A frame is hex text, a number is a pause in seconds, ``"FC"`` waits for flow control, and
    a pair is another id with its hex text. What is not in the script is not answered.
    ``frames`` are all that came in.
    """

    def __init__(self, bus, script, response_id=0x7E8):
        self.bus = bus
        self.script = {bytes.fromhex(asked): answer for asked, answer in script.items()}
        self.response_id = response_id
        self.frames = []
        self.asked = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self):
        self._stopping.set()
        self._thread.join(5)
        self.bus.shutdown()

    def _run(self):
        while not self._stopping.is_set():
            message = self._receive()
            if message is None or message.data[0] >> 4:
                continue
            request = bytes(message.data[1 : 1 + message.data[0]])
            self.asked.append(request)
            answer = self.script.get(request, ())
            for step in answer() if callable(answer) else answer:
                self._do(step)

    def _receive(self):
        message = self.bus.recv(0.02)
        if message is None or self.response_id - 8 != message.arbitration_id != 0x7DF:
            return None
        self.frames.append((message.arbitration_id, bytes(message.data)))
        return message

    def _do(self, step):
        if isinstance(step, int | float):
            time.sleep(step)
        elif step == "FC":
            while not self._stopping.is_set():
                message = self._receive()
                if message is not None and message.data[0] >> 4 == 3:
                    return
        else:
            frame_id, text = step if isinstance(step, tuple) else (self.response_id, step)
            self.bus.send(
                can.Message(arbitration_id=frame_id, data=bytes.fromhex(text), is_extended_id=False)
            )
