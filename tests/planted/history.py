"""Bugs of the time machine: as of, history, trace, explain, what if, the memory image."""

from tests.planted import Plant, plant

AS_OF, PORTS = "service_layer/history/as_of.py", "service_layer/history/ports.py"
SNAPSHOTS, AUDIT = "service_layer/history/snapshots.py", "service_layer/history/audit.py"
TRACE, EXPLAIN = "service_layer/history/trace.py", "service_layer/history/explain.py"
WHAT_IF, HANDLERS = "service_layer/history/what_if.py", "service_layer/handlers.py"
SQL, MEMORY, IMAGE = "adapters/sql/history.py", "adapters/memory_history.py", "adapters/memory_image.py"
LEDGER = "integration/test_as_of.py::test_a_thousand_places_of_the_log_are_as_a_ledger_has_them"
CONTRACT, IMAGES = "contracts/test_histories.py::", "integration/test_memory_image.py::"
PLANS, HTTP = "integration/test_history_plans.py::", "e2e/test_http_past.py::"
AGES = "unit/test_snapshots.py::"
SILENT = "integration/test_replays_are_silent.py::test_replays_repeat_no_outside_effect_and_move_no_cursor"
TRACES, EXPLANATIONS, IMAGINED = "unit/test_trace.py::", "unit/test_explain.py::", "unit/test_what_if.py::"

PLANTS: list[Plant] = [
    plant(
        "the end of the log is sorted for each page",
        PLANS + "test_the_end_of_a_log_is_not_sorted_for_each_page",
        SQL,
        '    connection.exec_driver_sql("SET enable_sort = off")\n',
        '    connection.exec_driver_sql("SELECT 1")\n',
    ),
    plant(
        "a lost event at the end of a page is where the past ends",
        "integration/test_as_of.py::test_a_past_that_lacks_an_event_is_told_as_corrupt_and_not_as_shorter",
        SQL,
        "                after_version += _PAGE\n",
        "                if len(page) < _PAGE:\n                    return\n                after_version += _PAGE\n",
    ),
    plant(
        "the past has one event too many",
        LEDGER,
        SQL,
        '"WHERE sku = ? AND version > ? AND version <= ? AND position <= ? ORDER BY version"',
        '"WHERE sku = ? AND version > ? AND version <= ? AND position <= ? + 1 ORDER BY version"',
    ),
    plant(
        "a snapshot of later is taken for one of now",
        LEDGER,
        SQL,
        "            .where(snapshots.c.sku == sku, snapshots.c.position <= until)\n",
        "            .where(snapshots.c.sku == sku, snapshots.c.position <= until + 1)\n",
    ),
    plant(
        "behind a snapshot the events begin one too late",
        LEDGER,
        AS_OF,
        "history.facts_of(sku, snapshot.version, until)",
        "history.facts_of(sku, snapshot.version + 1, until)",
    ),
    plant(
        "a line of unknown age is taken for the oldest",
        AGES + "test_lines_that_come_off_a_batch_wait_in_the_order_of_their_age",
        AS_OF,
        "    if unknown := replay.of_unknown_age():\n",
        "    if unknown := []:\n",
    ),
    plant(
        "a line that came again has the age of the one before",
        AGES + "test_a_line_that_came_again_is_not_taken_for_the_one_before",
        SNAPSHOTS,
        "        return since is not None and self._snapshot is not None and since <= self._snapshot.version\n",
        "        return since is not None\n",
    ),
    plant(
        "a snapshot forgets who waits",
        LEDGER,
        SNAPSHOTS,
        "for x in waiting),\n",
        "for x in waiting if x.qty < 5),\n",
    ),
    plant(
        "a moment leaves out what happened just then",
        CONTRACT + "test_a_moment_is_a_cut_through_every_partition",
        SQL,
        "e.position = (lo + hi + 1) / 2) <= ?",
        "e.position = (lo + hi + 1) / 2) < ?",
    ),
    plant(
        "a place in one partition is the present of the others",
        CONTRACT + "test_a_place_in_one_partition_is_a_moment_in_the_others",
        PORTS,
        "        heads = [self.until(partition, head, moment) for partition, head in enumerate(now.heads)]\n",
        "        heads = list(now.heads) if moment else []\n",
    ),
    plant(
        "a page of facts begins where the last one began",
        CONTRACT + "test_facts_of_thousands_of_events_miss_none",
        SQL,
        "                after_version += _PAGE\n",
        "                after_version += _PAGE - 1\n",
    ),
    plant(
        "an order's cancelled line is not found",
        CONTRACT + "test_the_skus_of_batches_and_of_orders_are_found_also_when_a_line_is_gone",
        SQL,
        "for query in (there, cancelled) for row in self._rows(query)",
        "for query in (there,) for row in self._rows(query)",
    ),
    plant(
        "an order's cancelled line is found by going through all of them",
        PLANS + "test_the_past_is_asked_by_an_index",
        SQL,
        "            orderid_of_event == orderid, ",
        "            orderid_of_event.concat('') == orderid, ",
    ),
    plant(
        "a correlation is found by going through the inbox",
        PLANS + "test_the_past_is_asked_by_an_index",
        SQL,
        "(inbox.c.correlation_id == correlation_id) & (inbox.c.correlation_id != inbox.c.id)",
        "(inbox.c.correlation_id.concat('') == correlation_id) & (inbox.c.correlation_id != inbox.c.id)",
    ),
    plant(
        "of two commands under one id, the wrong one is told as the cause",
        HTTP + "test_commands_of_one_group_are_told_apart",
        AUDIT,
        "        and done.position.seq >= logged.position.seq\n",
        "",
    ),
    plant(
        "a command has the events of its neighbours",
        TRACES + "test_a_command_of_many_events_has_all_of_them_and_none_of_its_neighbours",
        TRACE,
        "    return (logged.causation_id, logged.correlation_id) == (origin.id, origin.correlation_id)\n",
        "    return origin.id is not None\n",
    ),
    plant(
        "what waits behind a parked event is told as delivered",
        TRACES + "test_every_subscription_tells_how_far_it_has_come",
        TRACE,
        "        if lane is not None and lane.next_seq <= place.seq:\n",
        "        if lane is not None and lane.next_seq == place.seq:\n",
    ),
    plant(
        "a discarded event is told as delivered",
        TRACES + "test_every_subscription_tells_how_far_it_has_come",
        TRACE,
        "        if said := self._discarded.get((name, place.partition, place.seq)):\n",
        "        if said := self._discarded.get((name, place.partition, 0)):\n",
    ),
    plant(
        "a decision is made again on the product as it was afterwards",
        EXPLANATIONS + "test_batches_are_told_in_order_of_preference_as_they_stood_then",
        EXPLAIN,
        "            found[version] = _replayed(replay.product, event)\n",
        "            replay.take([(event, version, seq)])\n"
        "            found[version] = _replayed(replay.product, event)\n"
        "            continue\n",
    ),
    plant(
        "an explanation begins at the start on each page",
        EXPLANATIONS + "test_decisions_are_told_page_by_page",
        EXPLAIN,
        " and version > after:\n",
        ":\n",
    ),
    plant(
        "any number of keys goes into one statement",
        CONTRACT + "test_there_is_no_end_to_what_may_be_named_at_once",
        SQL,
        "_NAMED = 1_000  #",
        "_NAMED = 1_000_000  #",
    ),
    plant(
        "a page of an order's history passes what happened to another product",
        CONTRACT + "test_the_history_of_an_order_is_told_page_by_page_and_by_time",
        AUDIT,
        "    told = sorted(found, key=_by_time)[:limit]\n",
        "    told = sorted(found[:limit], key=_by_time)\n",
    ),
    plant(
        "all the events of a large command are told",
        TRACES + "test_of_too_many_events_the_first_are_told_and_the_others_counted",
        TRACE,
        "    told = min(count, most)\n",
        "    told = count\n",
    ),
    plant(
        "what a puller has in hand is told as tried again",
        TRACES + "test_what_a_puller_has_in_hand_is_told_as_that",
        TRACE,
        "        if in_hand:\n",
        "        if in_hand is None:\n",
    ),
    plant(
        "what was never tried is told as tried again",
        TRACES + "test_what_a_puller_has_in_hand_is_told_as_that",
        TRACE,
        "        tried = Outcome.RETRYING if lane.attempts else Outcome.WAITS\n",
        "        tried = Outcome.RETRYING\n",
    ),
    plant(
        "of the past it is told what is so today",
        HTTP + "test_a_product_is_read_as_it_was_at_a_place_and_at_a_moment",
        "entrypoints/http/products.py",
        "    if product is None and query.at is not None:\n",
        "    if product is None and query.at is ...:\n",
    ),
    plant(
        "an order that waits is told as one that is not there",
        "e2e/test_http_book.py::test_allocate_waits_if_short_and_the_view_shows_the_line_once_it_is_on_a_batch",
        "entrypoints/http/book.py",
        "    if not found and call.application.views.order(orderid):\n",
        "    if found and call.application.views.order(orderid):\n",
    ),
    plant(
        "a question that was stopped is told as a change that others were faster with",
        "e2e/test_http_trouble.py::test_a_question_that_the_store_stopped_is_no_change_that_others_were_faster_with",
        "entrypoints/http/routes.py",
        "problem_reply if self.changes_something else problem_of_question",
        "problem_reply if self.method else problem_of_question",
    ),
    plant(
        "a command that causes itself is lost",
        TRACES + "test_commands_that_cause_themselves_or_each_other_are_told",
        TRACE,
        "            if cause is not None and above is None:\n",
        "            if cause is not None and above in (None, cause):\n",
    ),
    plant(
        "of commands that cause each other the last is told as the first",
        TRACES + "test_commands_that_cause_themselves_or_each_other_are_told",
        TRACE,
        "        for place in reversed(range(len(self._told))):\n",
        "        for place in range(len(self._told)):\n",
    ),
    plant(
        "what is deep in a trace is not shown",
        "e2e/test_cli_past.py::test_a_long_chain_is_shown_to_its_end",
        "entrypoints/past_told.py",
        "DEEPEST = 8  #",
        "DEEPEST = 800  #",
    ),
    plant(
        "nobody is told that a trace has more commands",
        TRACES + "test_a_trace_tells_that_there_are_more_commands",
        TRACE,
        "    more = len(commands) > limit\n",
        "    more = False\n",
    ),
    plant(
        "what earlier rules decided is told as today's",
        EXPLANATIONS + "test_a_batch_that_earlier_rules_chose_is_told_as_such",
        EXPLAIN,
        "        return self.ahead is None and self.batchref == self.batchref_today\n",
        "        return self.ahead is None\n",
    ),
    plant(
        "nobody notices that the turn was another's",
        EXPLANATIONS + "test_a_turn_that_earlier_rules_gave_is_told_as_such",
        EXPLAIN,
        "        ahead.orderid if ahead is not None and ahead is not line else None,\n",
        "        None,\n",
    ),
    plant(
        "a what-if forgets the day of a batch",
        IMAGINED + "test_what_would_be_different_is_what_is_different_then",
        WHAT_IF,
        "        x.orderid: (x.qty, x.batchref, etas[x.batchref] if x.batchref is not None else None)\n",
        "        x.orderid: (x.qty, x.batchref, None)\n",
    ),
    plant(
        "a what-if does not see products that are named by a batch",
        IMAGINED + "test_what_would_be_different_is_what_is_different_then",
        WHAT_IF,
        "needs.skus | set(history.skus_of_batches(needs.refs).values())",
        "set(needs.skus)",
    ),
    plant(
        "a what-if works on the image itself",
        IMAGES + "test_a_what_if_leaves_the_image_as_it_was",
        IMAGE,
        "            return [copy_of(self._store.products[sku]) for sku in sorted(skus)",
        "            return [self._store.products[sku] for sku in sorted(skus)",
    ),
    plant(
        "the image forgets which batch is whose",
        IMAGES + "test_the_image_answers_as_the_database_and_is_kept_current",
        IMAGE,
        "                self._store.sku_of_batch[event.ref] = sku\n",
        "                pass\n",
    ),
    plant(
        "the image is read while events are taken in",
        IMAGES + "test_readers_see_all_of_a_commit_or_nothing",
        IMAGE,
        "        with self._store.lock:\n            for facts in ahead:\n                self._fold(facts)\n",
        "        for facts in ahead:\n            self._fold(facts)\n        with self._store.lock:\n",
    ),
    plant(
        "a follower ends when the database is away for a moment",
        IMAGES + "test_a_follower_keeps_it_current_and_outlives_a_database_that_is_away",
        IMAGE,
        '                _log.warning("the memory image stays as it is: %s", away)\n',
        "                return\n",
    ),
    plant(
        "what is only imagined rings the bell of the real bus",
        SILENT,
        "bootstrap.py",
        "        WhatIf(imagining(clock, ids), inject(handlers, {}), clock, ids),\n",
        "        WhatIf(lambda _: store.unit_of_work, inject(handlers, {}), clock, ids),\n",
    ),
    plant(
        "a what-if asks other handlers than the application has",
        "unit/test_what_if.py::test_it_asks_the_handlers_that_the_application_was_given",
        "bootstrap.py",
        "WhatIf(imagining(clock, ids), inject(handlers, {}), clock, ids)",
        "WhatIf(imagining(clock, ids), inject(COMMAND_HANDLERS, {}), clock, ids)",
    ),
]
