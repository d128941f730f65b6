"""``milepost-agent doctor``: what is wrong on this board, and the command that mends it.

Each area (``agent.doctor.areas`` has the one table of them) is a module with

- its ``Kind``s: every finding that it can make, with its severity, text and remedy;
- ``gather(subject)``: asks the board, may fail in any way and takes what time it needs;
- ``check(facts)``: pure, facts in, findings out.

The areas are gathered at once, each in a thread of its own with a time limit. Nothing is
changed on the board, and the running agent is not disturbed (decision 0039).
"""
