"""``python -m cloud`` is ``milepost-cloud``."""

from cloud.cli import main

main()
