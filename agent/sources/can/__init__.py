"""CAN: buses, frames kept by id, signals to contract fields, faults of a bus."""
