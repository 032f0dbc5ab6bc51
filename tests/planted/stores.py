"""Bugs in the stores: locks, positions, pages, inbox, rollback."""

from tests.planted import Plant, plant

SQLITE, POSTGRES = "contracts/test_sqlite.py::TestSqlite::", "contracts/test_postgres.py::TestPostgres::"
MEMORY = "contracts/test_memory.py::TestMemory::"
REPOSITORY, WRITING, APPENDING, UNIT_OF_WORK, DIALECTS, STATEMENTS, PROJECTOR, VIEWS = (
    f"adapters/sql/{module}.py"
    for module in ("repository", "writing", "appending", "unit_of_work", "dialects", "statements", "projector", "views")
)
COLUMNS, ENGINE = "adapters/sql/columns.py", "adapters/sql/engine.py"
UNWRITABLE = "integration/test_unwritable_databases.py::"
TABLES = "adapters/sql/migrations/versions/0001_state_log_and_inbox.py"
DECISIONS = "test_on_a_product_with_many_batches_and_lines_too"

PLANTS: list[Plant] = [
    plant(
        "PostgreSQL: products are not locked",
        POSTGRES + "test_two_units_of_work_on_one_product_run_one_after_the_other",
        DIALECTS,
        'return f"FOR UPDATE OF {alias}"',
        'return ""',
    ),
    plant(
        "SQLite: a transaction that will write begins as a reader",
        SQLITE + "test_two_units_of_work_on_one_product_run_one_after_the_other",
        DIALECTS,
        'begin = "BEGIN IMMEDIATE"',
        'begin = "BEGIN"',
    ),
    plant(
        "no CHECK against overselling",
        "integration/test_database_defends.py::test_the_tables_refuse",
        TABLES,
        '            "0 <= allocated_quantity AND allocated_quantity <= purchased_quantity",\n',
        '            "0 = 0",\n',
    ),
    plant(
        "a version may stand twice",
        POSTGRES + "test_a_version_stands_once",
        TABLES,
        '        sa.UniqueConstraint("sku", "version", name="uq_event_log_stream"),\n',
        "",
    ),
    plant(
        "positions come from a sequence, outside of the transaction",
        POSTGRES + "test_a_commit_that_fails_half_way_leaves_nothing",
        UNIT_OF_WORK,
        "        yield from appending.takes.values()\n",
        "        with self._database.engine.connect() as sequence:\n"
        "            self._database.statements.dialect.run(sequence, appending.takes.values())\n",
    ),
    plant(
        "times of the log step back with the clock",
        SQLITE + "test_times_never_step_back_though_the_clock_does",
        APPENDING,
        "last_at = {dialect.greatest}(last_at, ?)",
        "last_at = ?",
    ),
    plant(
        "who looks for a lost commit waits for locks in an order of its own",
        "unit/test_appending.py::test_partitions_are_locked_and_waited_for_in_one_order_however_their_events_come",
        APPENDING,
        "{partition: found[partition] for partition in self.takes}",
        "found",
    ),
    plant(
        "the heads of the log are read up to some partition",
        "integration/test_statements.py::test_commands_of_every_partition_there_may_be_are_told_where_their_events_stand",
        APPENDING,
        "LIMIT 64",
        "LIMIT 63",
    ),
    plant(
        "the steps of a group hold its rows, in a cycle",
        SQLITE + "test_a_group_leaves_no_cycles_for_the_collector_of_garbage",
        APPENDING,
        "            for partition, total in sorted(totals.items())\n        }\n",
        "            for partition, total in sorted(totals.items())\n        }\n        self.cycle = self.tell\n",
    ),
    plant(
        "times of the log are the clock's",
        SQLITE + "test_times_never_step_back_though_the_clock_does",
        APPENDING,
        "self.heads.moments.get(partition, self._at)",
        "self._at",
    ),
    plant(
        "a command is told the place of its first event",
        SQLITE + "test_a_command_is_told_the_position_of_its_last_event",
        APPENDING,
        "[end - 1 if done.events else None",
        "[end - len(done.events) if done.events else None",
    ),
    plant(
        "lines that were found are taken for new",
        SQLITE + DECISIONS,
        REPOSITORY,
        "            absent.remove((line.orderid, line.sku))\n",
        "",
    ),
    plant(
        "a line that is written again grows young",
        SQLITE + DECISIONS,
        WRITING,
        "UPDATE order_lines SET batchref = {2} /*from*/",
        "UPDATE order_lines SET batchref = {2}, since = since + 1 /*from*/",
    ),
    plant(
        "a batch is chosen before the better ones are read",
        SQLITE + "test_a_batch_that_was_named_does_not_hide_better_ones_that_are_not_read_yet",
        REPOSITORY,
        "if self._horizon is None or (best is not None and preference(best) <= self._horizon):",
        "if self._horizon is None or best is not None:",
    ),
    plant(
        "only the first page of batches is read",
        SQLITE + DECISIONS,
        REPOSITORY,
        "        self._horizon = horizon_of(page, session.pages.batches)\n",
        "        self._horizon = None\n",
    ),
    plant(
        "a page of lines overwrites what the group has changed",
        SQLITE + DECISIONS,
        REPOSITORY,
        "                if line.orderid not in self and (line.orderid, self._sku) not in self._session.absent:\n",
        "                if line.orderid is not None:\n",
    ),
    plant(
        "a line that was cancelled comes back with the next page",
        POSTGRES + DECISIONS,
        REPOSITORY,
        "        super().__delitem__(orderid)\n        self._session.absent.add((orderid, self._sku))\n",
        "        super().__delitem__(orderid)\n",
    ),
    plant(
        "only the first page of lines gives way",
        SQLITE + DECISIONS,
        REPOSITORY,
        "            if len(page) < self._session.pages.lines:\n",
        "            if page or not page:\n",
    ),
    plant(
        "a waiting line that fits exactly is not found",
        SQLITE + DECISIONS,
        STATEMENTS,
        "WHERE sizes.qty <= :most ORDER BY l.since",
        "WHERE sizes.qty < :most ORDER BY l.since",
    ),
    plant(
        "a batch forgets how it was created",
        SQLITE + "test_the_same_batch_again_is_known_after_it_changed",
        STATEMENTS,
        "(created_quantity, created_eta and to_date(created_eta))",
        "(purchased, eta and to_date(eta))",
    ),
    plant(
        "a line that came and went is written",
        SQLITE + DECISIONS,
        PROJECTOR,
        "                rows.lines.pop((event.orderid, event.sku), None)\n",
        "",
    ),
    plant(
        "PostgreSQL: the database orders as people order words",
        POSTGRES + "test_partial_and_full_loading_decide_equally",
        "adapters/sql/migrations/versions/0001_state_log_and_inbox.py",
        'Bytewise = sa.Text().with_variant(TEXT(collation="C"), "postgresql")',
        'Bytewise = sa.Text().with_variant(TEXT(collation="und-x-icu"), "postgresql")',
    ),
    plant(
        "a product that got no event stays in the tables",
        SQLITE + "test_a_refused_command_leaves_no_product_behind",
        UNIT_OF_WORK,
        "writer.delete_unused(products.inserted - versions.keys())",
        "writer.delete_unused([])",
    ),
    plant(
        "the inbox is not asked",
        SQLITE + "test_an_answer_is_given_again_whatever_happened_since",
        UNIT_OF_WORK,
        "inbox(brought)] if brought else []",
        "inbox(brought)] if not envelopes else []",
    ),
    plant(
        "the feed loses an event at the turn of a page",
        SQLITE + "test_the_feed_pages_with_a_cursor",
        VIEWS,
        "            return query.where(event_log.c.position > seq).order_by(event_log.c.position)\n",
        "            return query.where(event_log.c.position > seq + bool(seq)).order_by(event_log.c.position)\n",
    ),
    plant(
        "text that no database stores is looked for",
        POSTGRES + "test_what_is_no_id_is_refused_and_harms_nobody_in_its_group",
        "service_layer/needs.py",
        "        elif command.ref.isprintable():\n",
        "        else:\n",
    ),
    plant(
        "a product made between two statements fails the reader",
        "integration/test_races.py::test_a_product_that_is_made_meanwhile_is_not_there_yet",
        REPOSITORY,
        "            if batch.sku in by_sku:",
        "            if batch is not None:",
    ),
    plant(
        "a failed pipeline leaves its connection to the next",
        "integration/test_races.py::test_a_lock_that_was_waited_for_too_long_does_not_spoil_the_connection",
        DIALECTS,
        "            connection.invalidate()\n            raise\n",
        "            raise\n",
    ),
    plant(
        "a connection lost in a pipeline is taken for a defect",
        "unit/test_database_errors.py::test_an_error_is_told_in_the_words_of_the_service_layer",
        "adapters/sql/errors.py",
        "    is_operational = isinstance(error, PostgresOperationalError) or type(error) is PostgresDatabaseError\n",
        "    is_operational = isinstance(error, PostgresOperationalError)\n",
    ),
    plant(
        "a statement of too many parameters is taken for a lost connection",
        "unit/test_database_errors.py::test_an_error_is_told_in_the_words_of_the_service_layer",
        "adapters/sql/errors.py",
        '    return is_operational and "number of parameters" not in str(error)\n',
        "    return is_operational\n",
    ),
    plant(
        "a connection lost at COMMIT is told as a failure",
        "integration/test_lost_connections.py::test_a_commit_whose_reply_was_lost_is_looked_up_and_answered_as_done",
        UNIT_OF_WORK,
        "            self._asked.heads.seqs = self._find_out(self._asked, handled[0].envelope.key, error)\n",
        '            raise OutcomeUnknown("the connection was lost") from error\n',
    ),
    plant(
        "a connection lost at COMMIT is taken for a failure and done again",
        "integration/test_lost_connections.py::test_a_commit_whose_reply_was_lost_is_looked_up_and_answered_as_done",
        UNIT_OF_WORK,
        "            self._asked.heads.seqs = self._find_out(self._asked, handled[0].envelope.key, error)\n",
        "            raise\n",
    ),
    plant(
        "the log is asked for a COMMIT that nobody asked for",
        "integration/test_lost_connections.py::test_a_connection_lost_while_it_writes_needs_no_asking",
        UNIT_OF_WORK,
        "        yield from appending.takes.values()\n"
        "        yield from appending.steps()\n"
        "        self._asked = appending\n",
        "        self._asked = appending\n"
        "        yield from appending.takes.values()\n"
        "        yield from appending.steps()\n",
    ),
    plant(
        "the planner is told that a column is one value",
        "integration/test_plans.py::test_products_of_one_version_are_raised_one_by_one_too",
        COLUMNS,
        "    return f\"(SELECT {', '.join((*alike, *apart))}) AS {alias}\"\n",
        "    rows = f\"(SELECT {', '.join(apart)}) AS {alias}\"\n"
        "    return f\"(SELECT {', '.join((*alike, alias + '.*'))} FROM {rows}) AS {alias}\"\n",
    ),
    plant(
        "what a group names is merged with all products",
        "integration/test_plans.py::test_many_named_products_are_looked_up_one_by_one_and_not_beside_all_others",
        "adapters/sql/engine.py",
        '        "enable_mergejoin": "off",\n        "enable_hashjoin": "off",\n',
        "",
    ),
    plant(
        "each product where somebody waits is asked for by itself",
        "integration/test_statements.py::"
        "test_many_batches_take_the_same_statements_as_one_though_each_serves_a_few_who_wait",
        REPOSITORY,
        "        self._all_waiting_are_here = True\n",
        "",
    ),
    plant(
        "the first page of those who wait is taken for all of them",
        SQLITE + DECISIONS,
        REPOSITORY,
        "        if len(page) == self._session.pages.waiting:\n",
        "        if len(page) > self._session.pages.waiting:\n",
    ),
    plant(
        "columns that are alike travel so in few rows too",
        "unit/test_columns.py::test_few_rows_make_one_statement_whatever_they_say",
        COLUMNS,
        " if len(columns[0]) >= MANY else ()",
        "",
    ),
    plant(
        "SQLite: rows that fill a list are left out",
        "unit/test_values_lists.py::test_however_many_rows_there_are_each_is_there_once_as_it_was_given",
        DIALECTS,
        "                driver.executemany(*step.lists)\n",
        "                pass\n",
    ),
    plant(
        "SQLite: what a list says alike is bound in another order",
        "unit/test_values_lists.py::test_however_many_rows_there_are_each_is_there_once_as_it_was_given",
        "adapters/sql/values_lists.py",
        "(*once, *chain",
        "(*once[::-1], *chain",
    ),
    plant(
        "SQLite: a bad row of a list is passed over",
        "unit/test_values_lists.py::test_a_row_that_is_refused_fails_the_transaction_and_nothing_stays",
        DIALECTS,
        "INSERT OR FAIL ",
        "INSERT OR IGNORE ",
    ),
    plant(
        "PostgreSQL: times are those of the server's zone",
        POSTGRES + "test_an_event_is_read_as_it_was_written",
        ENGINE,
        '        "TimeZone": "UTC",\n',
        "",
    ),
    plant(
        "PostgreSQL: connections to a server that was demoted stay in the pool",
        UNWRITABLE + "test_a_server_that_was_demoted_is_away_until_it_is_promoted",
        ENGINE,
        "        context.is_disconnect = True\n",
        "        pass\n",
    ),
    plant(
        "a failed statement is logged with what it was to write",
        UNWRITABLE + "test_what_was_to_be_written_is_in_no_log",
        ENGINE,
        "        hide_parameters=True,\n        connect_args={",
        "        connect_args={",
    ),
    plant(
        "memory: a rollback keeps what was changed",
        MEMORY + "test_the_next_unit_of_work_begins_where_the_last_commit_ended",
        "adapters/memory.py",
        "        if product.version_number == self._version_of(product.sku):\n",
        "        if product.version_number:\n",
    ),
    plant(
        "memory: a version may stand twice",
        MEMORY + "test_a_version_stands_once",
        "adapters/memory.py",
        "            if (place.seq, envelope.version) != (sizes[place.partition], version):\n",
        "            if place.seq != sizes[place.partition]:\n",
    ),
    plant(
        "memory: a commit that fails half-way leaves the first half",
        MEMORY + "test_a_commit_that_fails_half_way_leaves_nothing",
        "adapters/memory.py",
        "            sizes[place.partition] += 1\n",
        "            sizes[place.partition] += 1\n            self.log[place.partition].append(envelope)\n",
    ),
]
