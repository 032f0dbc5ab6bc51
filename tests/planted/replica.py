"""Bugs in what other programs rely on: the replica, the read models it may start from, the feed."""

from tests.planted import Edit, Plant, plant

FOLLOWER, MARKS, STORES = "replica/follower.py", "replica/marks.py", "replica/stores.py"
SQL_MODELS, MODELS = "adapters/sql/read_models.py", "service_layer/read_models.py"
SQL_VIEWS, SQL_SUBSCRIPTIONS = "adapters/sql/views.py", "adapters/sql/subscriptions.py"
UNIT, READ_MODELS = "unit/test_replica.py::", "contracts/test_read_models.py::"

PLANTS: list[Plant] = [
    plant(
        "an answer of the feed may come a drop at a time, for ever",
        "integration/test_replica_feed.py::test_an_answer_a_drop_at_a_time_is_given_up",
        "replica/feed.py",
        "        self._socket.settimeout(left_seconds)\n        return self._pieces.readinto(buffer)\n",
        "        self._end += 1.0\n        return self._pieces.readinto(buffer)\n",
    ),
    plant(
        "a refusal of the feed that breaks off ends the replica",
        "integration/test_replica_feed.py::test_a_refusal_whose_reason_does_not_come_is_a_refusal",
        "replica/feed.py",
        '    except (OSError, HTTPException):\n        return ""\n',
        '    except HTTPException:\n        return ""\n',
    ),
    plant(
        "whoever only catches up remembers each time he did",
        UNIT + "test_whoever_only_ever_catches_up_keeps_no_more_each_time",
        FOLLOWER,
        "            self._heights.clear()\n",
        "",
    ),
    plant(
        "a cursor of another log is told that there is nothing new",
        "e2e/test_http_events.py::test_a_cursor_that_the_log_does_not_reach_is_422",
        SQL_VIEWS,
        "    if after:\n        _heads",
        "    if not after:\n        _heads",
    ),
    plant(
        "a cursor of another log is told that nothing more happened to an order",
        "e2e/test_http_events.py::test_a_cursor_that_the_log_does_not_reach_is_422",
        "service_layer/history/steps.py",
        "    now.require(after)\n",
        "",
    ),
    plant(
        "a cursor of a log with more partitions is taken for a mistake of its holder",
        "e2e/test_http_events.py::test_a_cursor_that_the_log_does_not_reach_is_422",
        "entrypoints/http/cursors.py",
        "            raise UnknownPosition(position)\n",
        "            raise ForgedCursor(token)\n",
    ),
    plant(
        "a partition that is left out is taken for one of another log",
        "e2e/test_http_events.py::test_what_was_missed_is_asked_for_by_a_position_that_a_message_told",
        "service_layer/history/ports.py",
        " < place.seq != BEYOND:\n",
        " < place.seq:\n",
    ),
    plant(
        "another log is taken for a feed that is away",
        "integration/test_replica_feed.py::test_a_log_that_does_not_reach_so_far_is_another_log",
        "replica/feed.py",
        "            if refused.code == 422 and ANOTHER_LOG in told:\n",
        "            if refused.code == 410 and ANOTHER_LOG in told:\n",
    ),
    plant(
        "a missing version is not noticed",
        UNIT + "test_a_missing_version_is_fetched_at_once_and_exactly_it",
        FOLLOWER,
        "        if fact.version > round_.version(fact.sku) + 1:\n",
        "        if fact.version < 0:\n",
    ),
    plant(
        "more is fetched than was missed",
        UNIT + "test_a_missing_version_is_fetched_at_once_and_exactly_it",
        FOLLOWER,
        "sku, known, min(missing, MOST_AT_ONCE))",
        "sku, known, MOST_AT_ONCE)",
    ),
    plant(
        "a lost tail is not noticed",
        UNIT + "test_a_lost_tail_is_fetched_after_a_grace_and_exactly_it",
        FOLLOWER,
        "            applied += self._fetch_tail(now, everything, round_)\n",
        "",
    ),
    plant(
        "what lies on the way is fetched, too",
        UNIT + "test_a_transport_that_is_busy_is_not_asked_after_what_is_on_its_way",
        FOLLOWER,
        "marks.highest if is_quiet(p) else BEYOND",
        "marks.highest",
    ),
    plant(
        "a hole in the numbers of the log is not noticed",
        UNIT + "test_a_product_of_which_nothing_came_is_found_by_the_numbers_of_the_log",
        FOLLOWER,
        "            heights = self._heights.popleft()[1]\n",
        "            self._heights.popleft()\n",
    ),
    Plant(
        "duplicates are applied twice",
        UNIT + "test_duplicates_are_dropped",
        (
            Edit(FOLLOWER, "        if ahead == 1:\n", "        if ahead <= 1:\n"),
            Edit(STORES, "    if fact.version != version + 1:\n", "    if fact.version > version + 1:\n"),
        ),
    ),
    plant(
        "what failed to be applied is passed",
        UNIT + "test_what_the_consumer_cannot_apply_is_not_passed",
        STORES,
        "            _require_next(fact, self.version(fact.sku))\n            self._apply(fact)\n"
        "            self._versions[fact.sku] = fact.version\n",
        "            self._versions[fact.sku] = fact.version\n            self._apply(fact)\n",
    ),
    plant(
        "a consumer's data and its version are two transactions",
        UNIT + "test_data_versions_and_marks_are_one_transaction",
        STORES,
        "                self._apply(connection, fact)\n",
        '                connection.execute("COMMIT")\n                try:\n'
        "                    self._apply(connection, fact)\n                finally:\n"
        '                    connection.execute("BEGIN IMMEDIATE")\n',
    ),
    plant(
        "the low-water mark forgets what it meets",
        UNIT + "test_marks_know_what_was_seen_and_where_the_holes_are",
        MARKS,
        "            self.low = last\n",
        "            self.low = seq\n",
    ),
    plant(
        "a projection is written outside of its cursor's transaction",
        READ_MODELS + "test_who_has_lost_the_lease_writes_nothing",
        SQL_SUBSCRIPTIONS,
        "        with writing(self._engine) as connection:\n            moved = connection.execute(\n",
        "        with writing(self._engine) as connection:\n"
        "            write(settlement.read_models, self._dialect, connection)\n"
        "            settlement.read_models.movements.clear()\n"
        "        with writing(self._engine) as connection:\n            moved = connection.execute(\n",
    ),
    plant(
        "an older stock level wins in the database",
        READ_MODELS + "test_an_older_level_never_wins",
        SQL_MODELS,
        '    "WHERE (stock_levels.version, stock_levels.position) < (excluded.version, excluded.position)"\n',
        '    "WHERE true"\n',
    ),
    plant(
        "an older stock level wins in memory",
        READ_MODELS + "test_an_older_level_never_wins",
        MODELS,
        "        if known is None or (level.version, level.position.seq) >= (known.version, known.position.seq):\n",
        "        if True:\n",
    ),
    plant(
        "a reader of stock levels passes a product that lags",
        READ_MODELS + "test_a_reader_passes_no_product_whose_level_cannot_be_told",
        SQL_VIEWS,
        "(table.position > cursor.get(partition, 0), table.position <= known)",
        "(table.position > cursor.get(partition, 0),)",
    ),
    plant(
        "stock is said to be current while a product lags",
        READ_MODELS + "test_stock_has_reached_what_was_projected_its_lanes_included",
        SQL_VIEWS,
        "    return min(known or 0, (first_missing or 2**63) - 1)\n",
        "    return known or 0\n",
    ),
    plant(
        "any positions are taken for a cursor",
        "e2e/test_http_events.py::test_a_parameter_that_cannot_be_meant_is_422_and_is_named",
        "entrypoints/http/cursors.py",
        "    if len(known) < len(found) or not (is_plain or encode_cursor(positions) == token):\n",
        "    if not (is_plain or encode_cursor(positions) == token):\n",
    ),
]
