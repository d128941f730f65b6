"""What a board tells of itself, read from files as the kernels of real boards have them."""

import os

import pytest

from agent.config import AgentSettings, parse
from agent.errors import ConfigError
from agent.provision.board import mac_address, serial_number
from agent.provision.claim import claim_files
from agent.provision.plan import make_plan

MACHINE = "3d1219c7c4c5404aaa1f6d2a48adfda4"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text(MACHINE + "\n")
    return tmp_path


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text)


def interface(root, name, mac, *, index, physical=True, wireless=False, assign=b"0", kind=b"1"):
    folder = f"sys/class/net/{name}"
    write(root, f"{folder}/address", mac.encode() + b"\n")
    write(root, f"{folder}/ifindex", b"%d\n" % index)
    write(root, f"{folder}/addr_assign_type", assign + b"\n")
    write(root, f"{folder}/type", kind + b"\n")
    if physical:
        (root / folder / "device").mkdir()
    if wireless:
        (root / folder / "phy80211").mkdir()


def test_a_raspberry_pi_and_a_jetson_tell_theirs_in_the_device_tree(root):
    write(root, "proc/device-tree/serial-number", b"10000000a1b2c3d4\0")
    write(root, "sys/class/dmi/id/product_serial", b"other\n")
    told = serial_number(root)
    assert (told.value, told.source) == ("10000000a1b2c3d4", "/proc/device-tree/serial-number")
    assert not told.doubt


def test_a_pc_tells_its_own_in_smbios(root):
    write(root, "sys/class/dmi/id/product_serial", b"FX-2207-0113\n")
    assert serial_number(root).value == "FX-2207-0113"


@pytest.mark.parametrize(
    "nothing",
    [b"To be filled by O.E.M.", b"None", b"Default string", b"0000000", b"System Serial Number"],
)
def test_what_makers_leave_in_place_of_a_serial_number_is_none(root, nothing):
    write(root, "sys/class/dmi/id/product_serial", nothing + b"\n")
    told = serial_number(root)
    assert (told.value, told.source) == (MACHINE, "/etc/machine-id")
    assert "cloned cards" in told.doubt


@pytest.mark.parametrize("text", [b"", b"uninitialized\n"])
def test_a_board_that_tells_nothing_has_none(root, text):
    (root / "etc/machine-id").write_bytes(text)
    assert serial_number(root) is None


def test_the_first_wired_interface_of_hardware_tells_the_mac(root):
    interface(root, "lo", "00:00:00:00:00:00", index=1, physical=False, kind=b"772")
    interface(root, "wlan0", "DC:A6:32:00:00:02", index=2, wireless=True)
    interface(root, "eth1", "dc:a6:32:00:00:09", index=9)
    interface(root, "eth0", "DC:A6:32:00:00:01", index=3)
    interface(root, "docker0", "02:42:00:00:00:01", index=4, physical=False)
    told = mac_address(root)
    assert (told.value, told.source) == ("dc:a6:32:00:00:01", "/sys/class/net/eth0/address")


def test_a_random_address_is_nobodys_and_a_wireless_one_will_do(root):
    interface(root, "usb0", "5a:00:00:00:00:01", index=2, assign=b"1")
    interface(root, "can0", "", index=3, kind=b"280")
    interface(root, "wlan0", "dc:a6:32:00:00:02", index=4, wireless=True)
    assert mac_address(root).value == "dc:a6:32:00:00:02"


def test_without_an_interface_there_is_no_mac(root):
    assert mac_address(root) is None


def settings(tmp_path, **provision) -> AgentSettings:
    broker = {"host": "broker.example", "ca_file": "ca.pem"}
    return parse({"broker": broker, "provision": provision}, tmp_path / "agent.toml")


def test_the_config_lies_over_what_the_board_tells(root, tmp_path):
    write(root, "proc/device-tree/serial-number", b"pi-1\0")
    wanted = settings(
        tmp_path, vin="WVWZZZ1JZ3W386752", parameters={"SerialNumber": "S 5/é", "Depot": "north"}
    )
    plan = make_plan(wanted, root)
    assert plan.values == {
        "SerialNumber": "S 5/é",
        "Vin": "WVWZZZ1JZ3W386752",
        "Depot": "north",
    }
    assert plan.parameters["Depot"].source == "provision.parameters.Depot"
    assert plan.endpoint.client_id == "claim-S-5--"


def test_without_any_serial_number_it_says_where_to_give_one(root, tmp_path):
    (root / "etc/machine-id").unlink()
    with pytest.raises(ConfigError, match="no serial number") as caught:
        make_plan(settings(tmp_path), root)
    assert "provision.parameters" in caught.value.hint


@pytest.mark.parametrize("vin", ["WVWZZZ1JZ3W38675", "WVWZZZ1JZ3W38675O", "wvwzzz1jz3w386752"])
def test_a_vin_that_is_none_is_refused(tmp_path, vin):
    with pytest.raises(ConfigError, match=r"provision\.vin"):
        settings(tmp_path, vin=vin)


def test_the_claim_is_the_configs_else_systemds_else_in_its_folder(tmp_path):
    given = tmp_path / "credentials"
    given.mkdir()
    named = settings(tmp_path, claim_certificate_file="c.pem", claim_key_file="k.pem")
    environment = {"CREDENTIALS_DIRECTORY": os.fspath(given)}
    folder = "/etc/milepost/claim"
    assert [str(path) for path in claim_files(settings(tmp_path), environment)] == [
        f"{folder}/certificate.pem",
        f"{folder}/key.pem",
    ]
    (given / "claim-certificate").write_text("pem")
    assert claim_files(settings(tmp_path), environment) == (
        given / "claim-certificate",
        given / "claim-key",
    )
    assert claim_files(named, environment) == (tmp_path / "c.pem", tmp_path / "k.pem")
