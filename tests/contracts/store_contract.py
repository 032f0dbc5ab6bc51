"""ONE suite for the ports: every store passes the same tests, the one in plain memory included.

A store's own test module subclasses `StoreContract` and supplies the fixture `make_store`.
"""

from tests.contracts.concurrency import ConcurrencyContract
from tests.contracts.decisions import DecisionContract
from tests.contracts.inboxes import InboxContract
from tests.contracts.logs import LogContract
from tests.contracts.reading import ReadingContract
from tests.contracts.transactions import TransactionContract


class StoreContract(
    TransactionContract, LogContract, InboxContract, ReadingContract, ConcurrencyContract, DecisionContract
):
    """Everything that a caller of the ports may rely on."""
