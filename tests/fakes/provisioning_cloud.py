"""The one-machine cloud's broker with its provisioning service and an operator."""

from datetime import timedelta

from cloud.clock import SystemClock
from cloud.provisioning.ports import AllowedVehicle
from cloud.serve.provisioning_service import ProvisioningService
from cloud.stores.sqlite_fleet import SqliteFleet
from tests.fakes.one_machine import RunningBroker, Vehicle
from tests.fakes.provisioning import Asker, new_key, write_identity


class ShiftedClock(SystemClock):
    """The machine's time and a bit, so that an hour need not be waited for."""

    ahead = timedelta()

    def utc(self):
        return super().utc() + self.ahead


class Cloud(RunningBroker):
    """A broker with the provisioning service, and its operator."""

    def __init__(self, folder):
        self.shifted = ShiftedClock()
        super().__init__(folder, clock=self.shifted, private_services=[])
        self._options["private_services"] = [
            ProvisioningService(self.authority, self.registry, self.shifted)
        ]
        self.fleet = SqliteFleet(self.database, self.registry, self.authority, self.shifted)

    def allow(self, serial_number, vehicle_id, vehicle_type="van"):
        self.fleet.allow([AllowedVehicle(serial_number, vehicle_id, vehicle_type)])

    def claim_folder(self, name="claim"):
        folder = self.folder / f"claim-{name}"
        if not folder.exists():
            self.fleet.create_claim(name, 30).credentials.write_to(folder)
        return folder

    def board(self, client_id="board-1", claim="claim"):
        return Vehicle(self.port, self.claim_folder(claim), f"claim-{client_id}")

    def identity_of(self, answer, key, name):
        ca_pem = self.authority.certificate_file.read_bytes()
        return write_identity(self.folder / name, ca_pem, answer["certificatePem"], key)

    def status(self, answer):
        found = self.registry.certificate(answer["certificateId"])
        return found.status if found else None

    def provisioned(self, serial_number="S1", vehicle_id="van-1"):
        """A vehicle that went through all of it: its folder and its certificate's answer."""
        self.allow(serial_number, vehicle_id)
        key = new_key()
        with self.board(f"board-{serial_number}") as board:
            assert board.connect()
            asker = Asker(board)
            answer = asker.certificate(key)
            fine, registered = asker.register(answer["certificateOwnershipToken"], serial_number)
            assert fine, registered
        return self.identity_of(answer, key, vehicle_id), answer
