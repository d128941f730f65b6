"""Files of jobs, fetched and sent: HTTPS by the standard library.

Where a URL may lead, and with whose certificate, is in :mod:`contract.files`.
"""

from agent.transfer.client import FileClient
from agent.transfer.connection import Broker
from agent.transfer.errors import TransferError
from agent.transfer.urls import Place, UrlError, place_of

__all__ = ["Broker", "FileClient", "Place", "TransferError", "UrlError", "place_of"]
