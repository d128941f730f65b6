import socket
import threading
from contextlib import contextmanager

import pytest

from simulator.errors import SimulatorError
from simulator.relay import Cut, Relay


@contextmanager
def echo_server():
    """A server that sends back what it gets; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections = []

    def serve(connection):
        try:
            while data := connection.recv(4096):
                connection.sendall(data)
        except OSError:
            pass
        connection.close()

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            connection.close()


@pytest.fixture
def relay():
    with echo_server() as port:
        relay = Relay("127.0.0.1", port)
        relay.start()
        yield relay
        relay.stop()


def connect(relay):
    return socket.create_connection(("127.0.0.1", relay.port), timeout=5)


def receive(connection, count):
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        assert part, "the connection ended early"
        data += part
    return data


def is_reset(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def new_one_is_reset(relay):
    try:
        with connect(relay) as client:
            return is_reset(client)
    except ConnectionResetError:
        return True


def test_bytes_pass_both_ways_and_are_counted(relay):
    payload = bytes(range(256)) * 4000
    with connect(relay) as client:
        threading.Thread(target=client.sendall, args=(payload,), daemon=True).start()
        assert receive(client, len(payload)) == payload
        assert relay.counts.connections == 1
    assert relay.counts.bytes_to_target == len(payload)
    assert relay.counts.bytes_to_client == len(payload)


def test_a_refusing_cut_resets_the_open_connection_and_every_new_one(relay):
    with connect(relay) as client:
        client.sendall(b"before")
        assert receive(client, 6) == b"before"
        relay.cut(Cut.REFUSE)
        assert relay.is_cut
        assert is_reset(client)
    assert new_one_is_reset(relay)
    assert relay.counts.refused == 1


def test_after_restore_new_connections_work(relay):
    for how in Cut:
        relay.cut(how)
        relay.restore()
        assert not relay.is_cut
        with connect(relay) as client:
            client.sendall(b"again")
            assert receive(client, 5) == b"again"


def test_a_swallowing_cut_keeps_connections_open_and_lets_nothing_through(relay):
    with connect(relay) as client:
        client.sendall(b"before")
        assert receive(client, 6) == b"before"
        relay.cut(Cut.SWALLOW)
        client.sendall(b"lost")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        with connect(relay) as late:
            late.sendall(b"lost too")
            late.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.recv(1)
            relay.restore()
            late.settimeout(5)
            assert is_reset(late)
        client.settimeout(5)
        assert is_reset(client), "a connection with missing bytes must not go on"
    assert relay.counts.bytes_swallowed == len(b"lost") + len(b"lost too")


def test_the_end_of_a_swallowed_connection_does_not_get_through():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)
    relay = Relay("127.0.0.1", listener.getsockname()[1])
    relay.start()
    try:
        with connect(relay) as client:
            far, _ = listener.accept()
            relay.cut(Cut.SWALLOW)
            far.close()
            client.settimeout(0.3)
            with pytest.raises(TimeoutError):
                client.recv(1)
    finally:
        relay.stop()
        listener.close()


def test_what_the_far_side_said_before_it_closed_arrives():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)
    relay = Relay("127.0.0.1", listener.getsockname()[1])
    relay.start()
    try:
        with connect(relay) as client:
            far, _ = listener.accept()
            far.sendall(b"x" * 100_000)
            far.close()
            assert receive(client, 100_000) == b"x" * 100_000
            assert client.recv(1) == b""
    finally:
        relay.stop()
        listener.close()


def test_an_unreachable_target_is_a_reset_for_the_client(free_port):
    relay = Relay("127.0.0.1", free_port())
    relay.start()
    try:
        assert new_one_is_reset(relay)
        assert relay.counts.refused == 1
    finally:
        relay.stop()


def test_a_taken_port_is_a_clear_error(relay):
    second = Relay("127.0.0.1", 1, port=relay.port)
    with pytest.raises(SimulatorError, match=str(relay.port)) as caught:
        second.start()
    assert "port" in caught.value.hint
    second.stop()


def test_stop_is_safe_before_start_and_twice(relay):
    never = Relay("127.0.0.1", 1)
    never.stop()
    with connect(relay) as client:
        relay.stop()
        relay.stop()
        assert is_reset(client)
    with pytest.raises(RuntimeError):
        relay.cut()
