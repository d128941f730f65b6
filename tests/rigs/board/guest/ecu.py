"""ECUs of Linux's own ISO-TP and J1939, in the guest. Python's standard library only.

``ecu.py uds CHANNEL REQUEST_ID RESPONSE_ID ANSWER``: answers ReadDTCInformation (19 02).
``ecu.py dm1 CHANNEL ADDRESS MESSAGE``: broadcasts its faults once a second; the kernel puts
more than eight bytes into packets (BAM). Everything but the channel in hexadecimal.
"""

import socket
import sys
import time

DM1 = 0xFECA


def uds(channel, request_id, response_id, answer):
    with socket.socket(socket.AF_CAN, socket.SOCK_DGRAM, socket.CAN_ISOTP) as ecu:
        ecu.bind((channel, int(request_id, 16), int(response_id, 16)))
        while True:
            if ecu.recv(4095)[:2] == b"\x19\x02":
                ecu.send(bytes.fromhex(answer))


def dm1(channel, address, message):
    with socket.socket(socket.AF_CAN, socket.SOCK_DGRAM, socket.CAN_J1939) as ecu:
        ecu.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        ecu.bind((channel, socket.J1939_NO_NAME, socket.J1939_NO_PGN, int(address, 16)))
        to_all = (channel, socket.J1939_NO_NAME, DM1, socket.J1939_NO_ADDR)
        while True:
            ecu.sendto(bytes.fromhex(message), to_all)
            time.sleep(1)


if __name__ == "__main__":
    {"uds": uds, "dm1": dm1}[sys.argv[1]](*sys.argv[2:])
