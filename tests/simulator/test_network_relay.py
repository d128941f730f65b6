import socket
import threading
import time
from contextlib import contextmanager

import pytest

from simulator.errors import SimulatorError
from simulator.network.faults import FAULTS, parse_fault
from simulator.network.relay import Relay


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


def become(relay, fault):
    relay.become(parse_fault(fault).condition)


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
        become(relay, "cut")
        assert is_reset(client)
    assert new_one_is_reset(relay)
    assert relay.counts.refused == 1


def test_after_restore_new_connections_work(relay):
    for fault in FAULTS.values():
        relay.become(fault.make(fault.example).condition)
        relay.become()
        with connect(relay) as client:
            client.sendall(b"again")
            assert receive(client, 5) == b"again"


def exchange(client, payload=b"hello"):
    client.sendall(payload)
    assert receive(client, len(payload)) == payload


def is_silent(client, for_s=0.3):
    client.settimeout(for_s)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(5)
    return False


def test_answers_that_are_lost_were_asked_for(relay):
    with connect(relay) as client:
        exchange(client)
        sent = relay.counts.bytes_to_target
        become(relay, "answers-lost")
        client.sendall(b"arrives")
        assert is_silent(client)
        assert relay.counts.bytes_to_target == sent + len(b"arrives")
        assert relay.counts.bytes_swallowed == len(b"arrives")
        relay.become()
        assert is_reset(client), "a connection with missing bytes must not go on"


def test_a_nat_that_forgot_a_connection_lets_new_ones_through_and_the_old_one_hang(relay):
    with connect(relay) as old:
        exchange(old)
        become(relay, "nat-timeout")
        old.sendall(b"lost")
        assert is_silent(old)
        with connect(relay) as new:
            exchange(new)
            become(relay, "nat-timeout")
            exchange(new)
            relay.become()
            exchange(new)
        assert is_reset(old)


def test_a_stall_loses_nothing_and_goes_on_where_it_stood(relay):
    with connect(relay) as client:
        become(relay, "stall")
        client.sendall(b"waits")
        assert is_silent(client)
        relay.become()
        assert receive(client, 5) == b"waits"
        assert relay.counts.bytes_swallowed == 0


def test_a_stall_holds_up_the_sender_in_the_end(relay):
    with connect(relay) as client:
        become(relay, "stall")
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.sendall(b"x" * 64_000_000)


def test_a_closing_network_ends_connections_in_order(relay):
    with connect(relay) as client:
        exchange(client)
        become(relay, "close")
        assert client.recv(1) == b""
    with connect(relay) as client:
        assert client.recv(1) == b""
    assert relay.counts.refused == 1
    assert relay.counts.arrived == 2


def test_every_connection_is_kicked_at_its_age_also_one_that_was_there_before(relay):
    with connect(relay) as before:
        exchange(before)
        become(relay, "kick=0.3s")
        with connect(relay) as after:
            exchange(after)
            assert is_reset(before)
            assert is_reset(after)
        relay.become()
        with connect(relay) as last:
            exchange(last)
            assert is_silent(last, 0.5)


def test_bytes_arrive_whole_and_in_order_however_late(relay):
    payload = bytes(range(256)) * 200
    for fault in ("delay=50ms", "loss=30%", "rate=200KB/s"):
        become(relay, fault)
        with connect(relay) as client:
            threading.Thread(target=client.sendall, args=(payload,), daemon=True).start()
            client.settimeout(30)
            assert receive(client, len(payload)) == payload


def test_a_delay_and_a_rate_take_their_time(relay):
    with connect(relay) as client:
        exchange(client)
        become(relay, "delay=200ms")
        begun_s = time.monotonic()
        exchange(client)
        assert time.monotonic() - begun_s >= 0.4
        become(relay, "rate=1KB/s")
        begun_s = time.monotonic()
        exchange(client, b"x" * 500)
        assert time.monotonic() - begun_s >= 0.99


def test_what_a_dead_connection_had_sent_does_not_hold_up_the_next(relay):
    become(relay, "rate=1KB/s")
    with connect(relay) as client:
        client.sendall(b"x" * 1_000_000)
    with connect(relay) as client:
        client.settimeout(30)
        exchange(client)


def test_a_swallowing_cut_keeps_connections_open_and_lets_nothing_through(relay):
    with connect(relay) as client:
        client.sendall(b"before")
        assert receive(client, 6) == b"before"
        become(relay, "half-open")
        client.sendall(b"lost")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        with connect(relay) as late:
            late.sendall(b"lost too")
            late.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.recv(1)
            relay.become()
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
            become(relay, "half-open")
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
        relay.become()
