"""What breaks in the book's own code, planted here by its number."""

from tests.planted import Edit, Plant, plant

AT_ONCE = "integration/test_pitfalls_at_once.py::"
PROMISES = "integration/test_pitfalls_promises.py::"
SHAPE = "integration/test_pitfalls_shape.py::"
BUS, HANDLERS = "service_layer/messagebus.py", "service_layer/handlers.py"
MODEL, STOCK = "domain/model.py", "domain/stock.py"

PLANTS: list[Plant] = [
    Plant(
        "01 all threads share one queue",
        AT_ONCE + "test_01_one_unit_of_work_shared_by_all_threads_loses_requests",
        (
            Edit(BUS, "            known = uow.begin(", "            self.queue = []\n            known = uow.begin("),
            Edit(BUS, "            fresh: list[Handled] = []\n", ""),
            Edit(BUS, "                    fresh.append(done)\n", "                    self.queue.append(done)\n"),
            Edit(BUS, "for done in fresh if", "for done in self.queue if"),
        ),
    ),
    plant(
        "02 a line that is there is allocated again",
        PROMISES + "test_02_the_same_allocate_twice_puts_the_line_on_two_batches",
        MODEL,
        "        if known := self.lines.get(line.orderid):\n            if known.qty",
        "        if known := None:\n            if known.qty",
    ),
    plant(
        "03 another quantity leaves the version alone",
        AT_ONCE + "test_03_a_changed_quantity_that_leaves_the_version_alone_oversells",
        MODEL,
        "        self.version_number += 1\n",
        "        self.version_number += type(event) is not BatchQuantityChanged\n",
    ),
    plant(
        "04 conflicts are not tried again",
        AT_ONCE + "test_04_a_conflict_that_is_not_tried_again_becomes_an_error",
        BUS,
        "retry_if_exception_type((Conflict, ConnectionLost))",
        "retry_if_exception_type(ConnectionLost)",
    ),
    plant(
        "05 events stay in memory",
        AT_ONCE + "test_05_events_kept_in_memory_until_after_the_commit_die_with_the_process",
        "adapters/sql/appending.py",
        "            yield self._into_log()\n",
        "            self._into_log()\n",
    ),
    plant(
        "06 what was rolled back stays in memory for the next",
        AT_ONCE + "test_06_events_of_a_rolled_back_unit_of_work_are_published_by_the_next",
        "adapters/memory.py",
        "        if product.version_number == self._version_of(product.sku):\n",
        "        if product.version_number:\n",
    ),
    plant(
        "07 what a handler raises is swallowed",
        SHAPE + "test_07_what_a_handler_raises_is_logged_and_gone",
        BUS,
        "                self._meter.group_failed(envelopes, failure)\n                return [Answer(error=failure)]",
        "                return [Answer()]",
    ),
    plant(
        "08 bad JSON leaves under a name that no consumer catches",
        SHAPE + "test_08_one_bad_message_ends_the_consumer",
        "adapters/schemas.py",
        "except (msgspec.DecodeError, UnicodeError, RecursionError) as error:",
        "except msgspec.ValidationError as error:",
    ),
    plant(
        "08 an unknown batch is no answer",
        SHAPE + "test_08_an_unknown_batch_ends_the_consumer",
        HANDLERS,
        "        raise UnknownBatch(ref)\n    if if_version",
        "        raise LookupError(ref)\n    if if_version",
    ),
    plant(
        "09 those who wait are not tried again after a restock",
        PROMISES + "test_09_a_line_that_loses_its_stock_vanishes_and_is_never_tried_again",
        MODEL,
        "        self._record(BatchCreated(ref, self.sku, qty, eta))\n        self._serve_waiting()\n",
        "        self._record(BatchCreated(ref, self.sku, qty, eta))\n",
    ),
    plant(
        "09 a line that loses its stock vanishes",
        PROMISES + "test_09_a_line_that_loses_its_stock_vanishes_and_is_never_tried_again",
        "adapters/sql/projector.py",
        "                _line(rows, event, None, version)\n                rows.batches[event",
        "                rows.gone.add((event.orderid, event.sku))\n                rows.batches[event",
    ),
    plant(
        "10 a negative quantity is taken",
        PROMISES + "test_10_a_negative_quantity_makes_stock",
        MODEL,
        "        if not 0 < line.qty <= MAX_QUANTITY:\n            raise InvalidQuantity(line.qty)",
        "        if line.qty > MAX_QUANTITY:\n            raise InvalidQuantity(line.qty)",
    ),
    plant(
        "10 a repeated batch doubles stock",
        PROMISES + "test_10_a_repeated_batch_doubles_stock",
        MODEL,
        "            if known.created_as != (qty, eta):\n                raise BatchExists(ref)\n",
        "            self._record(BatchQuantityChanged(ref, self.sku, known.purchased_quantity + qty))\n",
    ),
    plant(
        "11 every command loads every line",
        SHAPE + "test_11_every_allocate_loads_every_line",
        "adapters/sql/repository.py",
        "            self._products[sku] = Product(sku, batches, locked[sku], PagedLines(sku, session))\n",
        "            self._products[sku] = Product(sku, batches, locked[sku], PagedLines(sku, session))\n"
        "            for batch in page.batches:\n"
        "                list(self._products[sku].lines.newest_on(batch.reference))\n",
    ),
    plant(
        "11 every line that waits is read, whether it fits or not",
        SHAPE + "test_11_deallocating_loads_every_line_that_waits_in_vain",
        "adapters/sql/repository.py",
        "            if (most := at_most()) <= 0 or most < self.least_waiting:",
        "            if (most := 2**31 - 1) <= 0:",
    ),
    plant(
        "11 no index on the batch of a line",
        SHAPE + "test_11_there_is_no_index_on_what_points_elsewhere",
        "adapters/sql/migrations/versions/0001_state_log_and_inbox.py",
        '        ("ix_order_lines_on_batch", ["batchref", "since"], "batchref IS NOT NULL"),\n',
        "",
    ),
    plant(
        "12 a set picks who loses the stock",
        PROMISES + "test_12_chance_picks_who_loses_the_stock",
        STOCK,
        "iter(sorted((x for x in self.values() if x.batchref == ref), key=_since, reverse=True))",
        "iter({x for x in self.values() if x.batchref == ref})",
    ),
    plant(
        "12 the order id picks who loses the stock",
        PROMISES + "test_12_the_newest_gives_way",
        "adapters/sql/statements.py",
        "ORDER BY l.since DESC LIMIT ?",
        "ORDER BY l.orderid LIMIT ?",
    ),
    plant(
        "13 the read model is not written with the answer",
        PROMISES + "test_13_a_read_after_the_answer_is_stale",
        "adapters/sql/writing.py",
        "            yield self._dialect.inserting(order_lines, new)\n",
        "            pass\n",
    ),
    plant(
        "14 the settings are read at import",
        SHAPE + "test_14_an_import_connects_or_reads_the_settings",
        "bootstrap.py",
        "@dataclass(frozen=True, slots=True)\nclass Application:",
        "SETTINGS = load_settings()\n\n\n@dataclass(frozen=True, slots=True)\nclass Application:",
    ),
    plant(
        "14 an import connects",
        SHAPE + "test_14_an_import_connects_or_reads_the_settings",
        "adapters/clock.py",
        "class SystemClock(Clock):",
        'import socket\n\nsocket.socket().connect_ex(("127.0.0.1", 9))\n\n\nclass SystemClock(Clock):',
    ),
    plant(
        "14 a second bootstrap fails",
        SHAPE + "test_14_a_second_bootstrap_fails",
        "bootstrap.py",
        "    settings = settings or load_settings()\n",
        "    settings = settings or load_settings()\n"
        '    assert not hasattr(bootstrap, "ran"), "mappers are there already"\n'
        "    bootstrap.ran = True\n",
    ),
    plant(
        "14 a fresh stack has no tables",
        SHAPE + "test_14_a_fresh_stack_has_no_tables",
        "bootstrap.py",
        "    engine = _engine(settings)\n    migrate_database(engine, settings.log_partitions)\n",
        "    engine = _engine(settings)\n",
    ),
    plant(
        "14 who starts first makes no tables",
        SHAPE + "test_14_who_starts_first_makes_the_tables",
        "bootstrap.py",
        "    engine = _engine(settings)\n    migrate_database(engine, settings.log_partitions)\n",
        "    engine = _engine(settings)\n",
    ),
]
