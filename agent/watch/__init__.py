"""``milepost-agent watch``: a live picture of the running agent, from its control socket."""
