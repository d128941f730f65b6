"""What every GPS source shares: accuracy, the choice of a receiver, faults, the antenna."""
