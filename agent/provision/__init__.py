"""Provisioning by claim: how a bare board becomes a vehicle of the fleet."""
