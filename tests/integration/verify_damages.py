"""What may be wrong in the shop of `test_verify.py`: the statements that do it, and what is to be told of each."""

from __future__ import annotations

from dataclasses import dataclass

CHAIR, TABLE, LAMP = "RED-CHAIR", "SMALL-TABLE", "TALL-LAMP"


@dataclass(frozen=True)
class Damage:
    """`statements` do it; each of `named` is told; `mended`: a rebuild makes the tables right again."""

    name: str
    statements: tuple[str, ...]
    named: tuple[str, ...]
    mended: bool = True


LINE = "INSERT INTO order_lines (orderid, sku, qty, batchref, since) VALUES "
BATCH = "INSERT INTO batches (reference, sku, purchased_quantity, allocated_quantity, created_quantity) VALUES "
EVENT = (
    "INSERT INTO event_log (log_partition, position, sku, version, id, type, schema_version, at, correlation_id, "
    "causation_id, data) SELECT 0, 15, {sku}, {version}, 'planted', {kind}, 1, at, correlation_id, causation_id, "
    "'{data}' FROM event_log WHERE position = 14"
)
MOVED = "UPDATE event_log SET position = {to} WHERE position = {at}"

DAMAGES = [
    Damage(
        "a product that missed an event",
        (f"UPDATE products SET version_number = 4 WHERE sku = '{CHAIR}'",),
        (f"products {CHAIR}: the log says 5, the table has 4",),
    ),
    Damage(
        "a product without a row",
        (f"DELETE FROM products WHERE sku = '{CHAIR}'",),
        (f"products {CHAIR}: the log says 5, the table has no such row",),
    ),
    Damage(
        "a product that the log does not know",
        ("INSERT INTO products (sku, version_number) VALUES ('GHOST', 3)",),
        ("products GHOST: the log has no such product, the table has 3",),
    ),
    Damage(
        "a lost batch",
        ("DELETE FROM batches WHERE reference = 'b3'",),
        (f"batches b3: the log says 7 of {LAMP}, the table has no such row",),
    ),
    Damage(
        "a lost batch with lines on it",
        ("DELETE FROM batches WHERE reference = 'b1'",),
        ("batches b1: the log says 10", f"order_lines o1 {CHAIR}: it is on b1, but there is no such batch"),
    ),
    Damage(
        "a batch that the log does not know",
        (BATCH + f"('b9', '{TABLE}', 5, 0, 5)",),
        (f"batches b9: the log has no such batch of {TABLE}",),
    ),
    Damage(
        "a batch of a sku that nobody knows",
        (BATCH + "('b9', 'GHOST', 5, 0, 5)",),
        ("batches b9: the log has no such batch of GHOST",),
    ),
    Damage(
        "a batch that changed its sku",
        (f"UPDATE batches SET sku = '{TABLE}' WHERE reference = 'b3'",),
        (f"batches b3: the log has no such batch of {TABLE}", f"batches b3: the log says 7 of {LAMP}"),
    ),
    Damage(
        "a counter that is no sum",
        ("UPDATE batches SET allocated_quantity = 9 WHERE reference = 'b1'",),
        (
            "batches b1: allocated_quantity: the log says 10, the table has 9",
            "batches b1: it says that 9 are allocated, but its lines have 10",
        ),
    ),
    Damage(
        "stock out of nowhere",
        ("UPDATE batches SET purchased_quantity = 99 WHERE reference = 'b1'",),
        (
            "batches b1: purchased_quantity: the log says 10, the table has 99",
            f"order_lines o3 {CHAIR}: it waits for 3, but b1 has 89 free",
        ),
    ),
    Damage(
        "a batch on another day",
        ("UPDATE batches SET eta = NULL WHERE reference = 'b1'",),
        ("batches b1: eta: the log says 2031-05-01, the table has None",),
    ),
    Damage(
        "a batch that forgot how it was created",
        ("UPDATE batches SET created_quantity = 4, created_eta = '2031-01-01' WHERE reference = 'b2'",),
        (
            "batches b2: created_quantity: the log says 5, the table has 4; "
            "created_eta: the log says None, the table has 2031-01-01",
        ),
    ),
    Damage(
        "a lost line",
        ("DELETE FROM order_lines WHERE orderid = 'o2'",),
        (
            f"order_lines o2 {CHAIR}: the log says that it has 4 on b1",
            "batches b1: it says that 10 are allocated, but its lines have 6",
        ),
    ),
    Damage(
        "a lost waiting line",
        ("DELETE FROM order_lines WHERE orderid = 'o3'",),
        (f"order_lines o3 {CHAIR}: the log says that it waits for 3",),
    ),
    Damage(
        "a cancelled line that is back",
        (LINE + f"('o4', '{TABLE}', 2, 'b2', 2)",),
        (f"order_lines o4 {TABLE}: the log has no such line; it has 2 on b2",),
    ),
    Damage(
        "a line that waits and that nobody ordered",
        (LINE + "('o9', 'GHOST', 2, NULL, 2)",),
        ("order_lines o9 GHOST: the log has no such line; it waits for 2",),
    ),
    Damage(
        "a line on another batch of the sku's",
        (
            BATCH + f"('b9', '{CHAIR}', 5, 4, 5)",
            "UPDATE order_lines SET batchref = 'b9' WHERE orderid = 'o2'",
        ),
        (f"order_lines o2 {CHAIR}: batchref: the log says b1, the table has b9", "batches b9: the log has no such"),
    ),
    Damage(
        "a line on a batch of another sku",
        ("UPDATE order_lines SET batchref = 'b2' WHERE orderid = 'o2'",),
        (
            f"order_lines o2 {CHAIR}: it is for {CHAIR}, but on b2, a batch of {TABLE}",
            "batches b2: it says that 0 are allocated, but its lines have 4",
        ),
    ),
    Damage(
        "a line that nobody ordered, on a batch of another sku",
        (LINE + "('o9', 'GHOST', 1, 'b2', 2)",),
        (f"order_lines o9 GHOST: it is for GHOST, but on b2, a batch of {TABLE}",),
    ),
    Damage(
        "a line on a batch that is not there",
        ("UPDATE order_lines SET batchref = 'b9' WHERE orderid = 'o2'",),
        (f"order_lines o2 {CHAIR}: it is on b9, but there is no such batch",),
    ),
    Damage(
        "a line that nobody ordered, on a batch that is not there",
        (LINE + "('o9', 'GHOST', 1, 'b9', 2)",),
        ("order_lines o9 GHOST: it is on b9, but there is no such batch",),
    ),
    Damage(
        "a line that nobody ordered, on a batch without a name",
        (LINE + f"('o9', '{CHAIR}', 1, '', 2)",),
        (f"order_lines o9 {CHAIR}: it is on , but there is no such batch",),
    ),
    Damage(
        "a line of another quantity",
        ("UPDATE order_lines SET qty = 5 WHERE orderid = 'o3'",),
        (f"order_lines o3 {CHAIR}: qty: the log says 3, the table has 5",),
    ),
    Damage(
        "a line that forgot its age",
        ("UPDATE order_lines SET since = 99 WHERE orderid = 'o3'",),
        (f"order_lines o3 {CHAIR}: since: the log says 4, the table has 99",),
    ),
    Damage(
        "a stock level that is lost",
        (f"DELETE FROM stock_levels WHERE sku = '{LAMP}'",),
        (f"stock_levels {LAMP}: its projection has passed it, but the table has no such row",),
    ),
    Damage(
        "a stock level out of nowhere",
        (f"UPDATE stock_levels SET available = '[]' WHERE sku = '{LAMP}'",),
        (f"stock_levels {LAMP}: at version 2 the log says Available(eta=",),
    ),
    Damage(
        "a stock level that stayed behind",
        (
            f'UPDATE stock_levels SET version = 1, available = \'[{{"eta":null,"qty":5,"largest":5}}]\' '
            f"WHERE sku = '{TABLE}'",
        ),
        (f"stock_levels {TABLE}: it is at version 1, but its projection has passed 7",),
    ),
    Damage(
        "a stock level of a version that never was",
        (f"UPDATE stock_levels SET version = 9 WHERE sku = '{LAMP}'",),
        (f"stock_levels {LAMP}: it is at version 9, but the log ends at 2",),
    ),
    Damage(
        "a stock level of a sku that nobody knows",
        ("INSERT INTO stock_levels SELECT 'GHOST', 1, 0, 3, '[]' FROM log_head",),
        ("stock_levels GHOST: it is at version 1, but the log ends at 0",),
    ),
    Damage(
        "a stock level told before it was",
        (f"UPDATE stock_levels SET position = 3 WHERE sku = '{TABLE}'",),
        (f"stock_levels {TABLE}: its position is 0-3, where the log has no event that led to it",),
    ),
    Damage(
        "a stock level told too early",
        (f"UPDATE stock_levels SET position = 2 WHERE sku = '{TABLE}'",),
        (f"stock_levels {TABLE}: its position is 0-2, but its projection has passed 0-14",),
    ),
    Damage(
        "a stock level in a partition that is not its own",
        (f"UPDATE stock_levels SET log_partition = 3 WHERE sku = '{TABLE}'",),
        (f"stock_levels {TABLE}: its position is 3-14, but its events are in partition 0",),
    ),
    Damage(
        "a stock level that nobody can read",
        (f"UPDATE stock_levels SET available = '[[' WHERE sku = '{TABLE}'",),
        (f"stock_levels {TABLE}: it cannot be read",),
    ),
    Damage(
        "an unreadable stock level of a sku that nobody knows",
        ("INSERT INTO stock_levels SELECT 'GHOST', 1, 0, 3, '[[' FROM log_head",),
        ("stock_levels GHOST: it cannot be read",),
    ),
    Damage(
        "movements that were counted twice",
        (f"UPDATE movements SET allocated = 2 * allocated WHERE sku = '{CHAIR}'",),
        (f"movements {CHAIR} 20", "allocated=10", "allocated=20"),
    ),
    Damage(
        "movements that were forgotten",
        (f"DELETE FROM movements WHERE sku = '{TABLE}'",),
        (f"movements {TABLE} 20", "the table has None"),
    ),
    Damage(
        "movements of a day when nothing moved",
        (f"INSERT INTO movements SELECT sku, '1999-12-31', 1, 1, 1, 1, 1 FROM products WHERE sku = '{LAMP}'",),
        (f"movements {LAMP} 1999-12-31: the log says None",),
    ),
    Damage(
        "movements of a sku that nobody knows",
        ("INSERT INTO movements SELECT 'GHOST', day, 1, 1, 1, 1, 1 FROM movements WHERE sku = 'TALL-LAMP'",),
        ("movements GHOST 20",),
    ),
    Damage(
        "a snapshot of another past",
        ("UPDATE snapshots SET state = replace(state, '3,\"since\":4', '2,\"since\":4')",),
        (
            f"snapshots {CHAIR} 0-6: the log says WaitingThen(orderid='o3', qty=3, since=4); "
            "the table has WaitingThen(orderid='o3', qty=2, since=4)",
        ),
    ),
    Damage(
        "a snapshot whose batch was fuller than it is told",
        ("UPDATE snapshots SET state = replace(state, '\"allocated\":10', '\"allocated\":1')",),
        (f"snapshots {CHAIR} 0-5: the log says BatchThen(ref='b1'", f"snapshots {CHAIR} 0-6: the log says BatchThen"),
    ),
    Damage(
        "a snapshot from before the log",
        ("INSERT INTO snapshots SELECT sku, 0, version, state FROM snapshots WHERE position = 5",),
        (f"snapshots {CHAIR} 0-0: the log has no event of this sku there",),
    ),
    Damage(
        "a snapshot that says everything twice",
        (
            'UPDATE snapshots SET state = replace(state, \'[{"orderid":"o3","qty":3,"since":4}]\', '
            '\'[{"orderid":"o3","qty":3,"since":4},{"orderid":"o3","qty":3,"since":4}]\')',
        ),
        (f"snapshots {CHAIR} 0-6: it contains something twice",),
    ),
    Damage(
        "a snapshot under another version",
        ("UPDATE snapshots SET version = 2 WHERE position = 6",),
        (f"snapshots {CHAIR} 0-6: it is at version 2, but the event there led to 4",),
    ),
    Damage(
        "a snapshot where nothing happened to the product",
        ("INSERT INTO snapshots SELECT sku, 2, 2, state FROM snapshots WHERE position = 6",),
        (f"snapshots {CHAIR} 0-2: the log has no event of this sku there",),
    ),
    Damage(
        "a snapshot of a future",
        ("INSERT INTO snapshots SELECT sku, 99, 9, state FROM snapshots WHERE position = 6",),
        (f"snapshots {CHAIR} 0-99: the log has no event of this sku there",),
    ),
    Damage(
        "a snapshot that nobody can read",
        ("UPDATE snapshots SET state = '[[' WHERE position = 6",),
        (f"snapshots {CHAIR} 0-6: it cannot be read",),
    ),
    Damage(
        "a snapshot of a sku that nobody knows",
        ("INSERT INTO snapshots (sku, position, version, state) VALUES ('GHOST', 3, 1, '[[],[]]')",),
        ("snapshots GHOST 0-3: the log has no event of this sku there",),
    ),
    Damage(
        "more lines on a batch than it holds",
        (LINE + f"('o9', '{CHAIR}', 1, 'b1', 9)",),
        (
            "batches b1: it is oversold: 11 of 10",
            "batches b1: it says that 10 are allocated, but its lines have 11",
            f"order_lines o9 {CHAIR}: the log has no such line",
        ),
    ),
    Damage(
        "a lost event",
        ("DELETE FROM event_log WHERE position = 4",),
        (
            "event_log 0-5: position 4 is missing before it",
            f"event_log {CHAIR}, version 3: version 2 is missing before it",
        ),
        mended=False,
    ),
    Damage(
        "a lost tail",
        ("DELETE FROM event_log WHERE position >= 13",),
        ("log_head 0: it says 14, but the log ends at 12", f"products {TABLE}: the log says 5, the table has 7"),
        mended=False,
    ),
    Damage(
        "a lost log",
        ("DELETE FROM event_log",),
        ("log_head 0: it says 14, but the log ends at 0", f"products {TABLE}: the log has no such product"),
        mended=False,
    ),
    Damage(
        "positions left out",
        (MOVED.format(at=14, to=20), "UPDATE log_head SET seq = 20"),
        ("event_log 0-20: positions 14 to 19 are missing before it",),
        mended=False,
    ),
    Damage(
        "a counter behind the log",
        ("UPDATE log_head SET seq = 13",),
        ("log_head 0: it says 13, but the log ends at 14",),
        mended=False,
    ),
    Damage(
        "a counter of another time",
        ("UPDATE log_head SET last_at = (SELECT at FROM event_log WHERE position = 1)",),
        ("log_head 0: its time is not that of the last event",),
        mended=False,
    ),
    Damage(
        "time that goes back",
        ("UPDATE event_log SET at = (SELECT max(at) FROM event_log) WHERE position = 2",),
        ("event_log 0-3: its time is before that of the event before it",),
        mended=False,
    ),
    Damage(
        "an id given twice",
        ("UPDATE event_log SET id = (SELECT id FROM event_log WHERE position = 1) WHERE position = 12",),
        ("more than one event has this id",),
        mended=False,
    ),
    Damage(
        "two events of a sku in the wrong order",
        tuple(
            f"UPDATE event_log SET version = {to} WHERE sku = '{CHAIR}' AND version = {at}"
            for at, to in ((1, 9), (2, 1), (9, 2))
        ),
        (f"event_log {CHAIR}, version 1: Allocated(orderid='o1'",),
        mended=False,
    ),
    Damage(
        "two events of a command in the wrong places",
        tuple(MOVED.format(at=at, to=to) for at, to in ((13, 99), (14, 13), (99, 14))),
        (f"event_log {TABLE}, version 7: it stands at 13, the event before it at 14",),
        mended=False,
    ),
    Damage(
        "a line allocated twice in the log",
        (
            EVENT.format(
                sku=f"'{CHAIR}'",
                version=6,
                kind="'Allocated'",
                data=f'{{"orderid":"o1","sku":"{CHAIR}","qty":6,"batchref":"b1"}}',
            ),
            "UPDATE log_head SET seq = 15",
        ),
        (f"event_log {CHAIR}, version 6: Allocated(orderid='o1'",),
        mended=False,
    ),
    Damage(
        "an event that nobody can read",
        (f"UPDATE event_log SET data = '{{\"ref\":' WHERE sku = '{LAMP}' AND version = 1",),
        (f"event_log {LAMP}, version 1: BatchCreated cannot be read",),
        mended=False,
    ),
    Damage(
        "an event of a kind that nobody knows",
        (f"UPDATE event_log SET type = 'Vanished' WHERE sku = '{LAMP}' AND version = 2",),
        (f"event_log {LAMP}, version 2: unknown message type 'Vanished'",),
        mended=False,
    ),
    Damage(
        "a lost command",
        ("DELETE FROM inbox WHERE position = 7",),
        ("it led to the event at 0-7, but the inbox does not say so",),
        mended=False,
    ),
    Damage(
        "a command that points at another's event",
        ("UPDATE inbox SET position = 2 WHERE position = 4",),
        ("it points at 0-2, which it did not lead to", "it led to the event at 0-4, but the inbox does not say so"),
        mended=False,
    ),
    Damage(
        "a command that points at no event",
        ("UPDATE inbox SET position = 99 WHERE position = 4",),
        ("it points at 0-99, which it did not lead to",),
        mended=False,
    ),
    Damage(
        "a command of another correlation than its event",
        ("UPDATE inbox SET correlation_id = 'another' WHERE position = 4",),
        ("it points at 0-4, which it did not lead to",),
        mended=False,
    ),
    Damage(
        "an event of another correlation than its command",
        ("UPDATE event_log SET correlation_id = 'another' WHERE position = 7",),
        ("it points at 0-7, which it did not lead to",),
        mended=False,
    ),
    Damage(
        "a command that nobody can read",
        ("UPDATE inbox SET body = '{\"ref\":' WHERE position = 4",),
        ("it cannot be answered again: Allocate cannot be read",),
        mended=False,
    ),
    Damage(
        "a command of a kind that nobody knows",
        ("UPDATE inbox SET type = 'Vanish' WHERE position = 4",),
        ("it cannot be answered again: unknown message type 'Vanish'",),
        mended=False,
    ),
    Damage(
        "a command whose answer nobody can read",
        ("UPDATE inbox SET outcome = '{\"result\":' WHERE position = 4",),
        ("it cannot be answered again: a stored answer cannot be read",),
        mended=False,
    ),
    Damage(
        "a command with an answer of a kind that nobody knows",
        ('UPDATE inbox SET outcome = \'{"refused":"Moody","fields":{}}\' WHERE position = 4',),
        ("it cannot be answered again: a stored answer cannot be read",),
        mended=False,
    ),
    Damage(
        "a command whose answer lacks something",
        ('UPDATE inbox SET outcome = \'{"refused":"OutOfStock","fields":{}}\' WHERE position = 4',),
        ("it cannot be answered again: a stored answer cannot be read",),
        mended=False,
    ),
]
