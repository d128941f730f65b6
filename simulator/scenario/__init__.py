"""Scenarios: a vehicle, a drive, faults on a time line, and what must come of it.

::

    model         the scenario file, key by key
    faults        the table of faults
    expectations  what is checked, on evidence; pure
    evidence      what is known of a run: the cloud's history, its account, the truth
    drive         what the vehicle replays, synthetic or recorded
    vehicle       the vehicle of one scenario: replay, network, agent as a process
    receiver      the vehicle's receiver: behind gpsd, or on a serial line
    ecus          the vehicle's ECUs
    agent_config  the preset's config, made fit for this desk
    wrong_clock   an agent's process with another wall clock
    run           several scenarios side by side, against one cloud
    report        pass or fail, in words and as JSON
    library       the scenarios that come with the simulator
    reference     the file's reference in docs/simulator.md
"""
