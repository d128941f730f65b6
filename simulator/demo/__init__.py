"""The whole system on one desk: real processes, a recorded drive, an account at the end.

::

    workspace   the folder that everything lives in
    plan        which vehicles, from which logs
    children    processes that end with the demo, whatever happens
    cloud       the one-machine cloud, as a command
    vehicle     one vehicle: its replay, its agent, as a command
    screen      what the person sees
    report      what came of it, in figures counted at both ends
    run         all of it in its order
"""
