"""The agent: runs on the vehicle, samples GPS and CAN, keeps and delivers every sample."""
