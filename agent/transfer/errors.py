"""What may become of a file's way."""

from agent.errors import AgentError


class TransferError(AgentError):
    """A file was not fetched or sent; ``retry``: the same later may succeed."""

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class StoppedError(TransferError):
    """The caller asked to stop; what was fetched stays for the next time."""

    def __init__(self) -> None:
        super().__init__("stopped", retry=True)
