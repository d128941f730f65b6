"""``python -m agent`` is ``milepost-agent``."""

from agent.cli import main

if __name__ == "__main__":
    main()
