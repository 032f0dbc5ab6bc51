"""What must hold of the log by itself, and between it and the inbox."""

from __future__ import annotations

from collections.abc import Iterator

from allocation.service_layer.books import LogPage, LogRow
from allocation.service_layer.comparing import Difference
from allocation.service_layer.envelope import partition_of


def log_faults(partition: int, partitions: int, after: int, anchor: bool, page: LogPage) -> Iterator[Difference]:
    """What is wrong in a page of a log partition, which has to continue after `after`. `anchor`: the first row is that
    of `after` itself, already checked, except for what depends on the next row."""
    before: LogRow | None = None
    due = after if anchor else after + 1
    for row in page.rows:
        seq, sku, at, _, _ = row
        place = f"{partition}-{seq}"
        if seq != due:
            missing = f"position {due} is" if seq == due + 1 else f"positions {due} to {seq - 1} are"
            yield Difference("event_log", place, f"{missing} missing before it")
        if before is not None:
            yield from _end_of_command(partition, before, row)
            if at < before[2]:
                yield Difference("event_log", place, "its time is before that of the event before it")
        if not (anchor and before is None) and partition_of(sku, partitions) != partition:
            yield Difference("event_log", place, f"{sku} belongs to partition {partition_of(sku, partitions)}")
        before, due = row, seq + 1
    if page.head is None:
        return
    if before is not None:
        yield from _end_of_command(partition, before, None)
        if page.head[1] != before[2]:
            yield Difference("log_head", str(partition), "its time is not that of the last event")
    if page.head[0] != due - 1:
        yield Difference("log_head", str(partition), f"it says {page.head[0]}, but the log ends at {due - 1}")


def _end_of_command(partition: int, row: LogRow, behind: LogRow | None) -> Iterator[Difference]:
    """The last event of a command stands where the inbox says."""
    command, is_kept = row[3], row[4]
    if not is_kept and (behind is None or behind[3] != command):
        place = f"{partition}-{row[0]}"
        yield Difference("inbox", str(command), f"it led to the event at {place}, but the inbox does not say so")
