"""Tools that bring the cloud to AWS."""
