import os
import signal
import threading

from simulator.stopping import Stopping


def test_a_wait_ends_unsaid_when_its_time_is_over():
    stopping = Stopping()
    assert not stopping.wait(0.01)
    assert not stopping.is_set()


def test_once_said_every_wait_ends_at_once():
    stopping = Stopping()
    stopping.set()
    stopping.set()
    assert stopping.is_set()
    assert all(stopping.wait(60) for _ in range(5))


def test_a_signal_handler_ends_the_wait_of_the_thread_that_it_interrupts():
    stopping = Stopping()
    waits = threading.Event()

    def send():
        waits.wait(20)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: stopping.set())
    sender = threading.Thread(target=send, name="sender")
    sender.start()
    try:
        waits.set()
        while not stopping.wait(0.1):
            pass
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_interrupts_itself_does_no_harm():
    stopping = Stopping()
    depth = []

    def handle(number, _frame):
        depth.append(number)
        if len(depth) < 5:
            signal.raise_signal(number)
        stopping.set()

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert stopping.wait(60)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(depth) == 5
