"""Bugs in the rules about stock."""

from tests.planted import Edit, Plant, plant

MODEL, STOCK, PREFERENCES = "domain/model.py", "domain/stock.py", "domain/preferences.py"
PRODUCT, CHANGES = "unit/test_product.py::", "unit/test_batch_changes.py::"
EVENTS = "unit/test_refusals_and_events.py::"
MACHINE = "unit/test_stock_state_machine.py::TestStock::runTest"

PLANTS: list[Plant] = [
    plant(
        "messages may be changed",
        "unit/test_values.py::test_the_type_checker_refuses_to_change_a_message",
        "domain/values.py",
        "frozen_default=True",
        "frozen_default=False",
    ),
    plant(
        "shipments are preferred to stock on hand",
        PRODUCT + "test_stock_on_hand_is_preferred_to_a_shipment",
        PREFERENCES,
        "(batch.eta or ON_HAND, batch.reference)",
        "(batch.eta or date.max, batch.reference)",
    ),
    plant(
        "of two batches alike any is taken",
        PRODUCT + "test_of_two_alike_the_smaller_reference_is_preferred",
        PREFERENCES,
        "(batch.eta or ON_HAND, batch.reference)",
        '(batch.eta or ON_HAND, "")',
    ),
    plant(
        "a batch takes one piece too many",
        MACHINE,
        STOCK,
        "self.purchased_quantity - self.allocated_quantity >= line.qty",
        "self.purchased_quantity - self.allocated_quantity >= line.qty - 1",
    ),
    plant(
        "what is let go is not given back",
        MACHINE,
        STOCK,
        "            self.allocated_quantity -= line.qty\n",
        "            pass\n",
    ),
    plant(
        "new stock serves the newest first",
        PRODUCT + "test_new_stock_serves_those_who_wait_oldest_first",
        STOCK,
        "if x.batchref is None and x.qty <= most), key=_since)",
        "if x.batchref is None and x.qty <= most), key=_since, reverse=True)",
    ),
    plant(
        "a line that cannot be served holds up the smaller ones",
        PRODUCT + "test_a_small_line_may_pass_a_large_one_that_cannot_be_served",
        STOCK,
        " and x.qty <= most), key=_since):\n            if line.qty <= most:\n",
        "), key=_since):\n            if line.qty > most:\n                return\n            if True:\n",
    ),
    plant(
        "what is free is asked for each line that waits",
        "unit/test_order_lines.py::test_what_is_free_is_asked_once_and_again_for_each_line_that_is_given",
        STOCK,
        "            if line.qty <= most:\n",
        "            if line.qty <= at_most():\n",
    ),
    plant(
        "what is let go serves nobody",
        PRODUCT + "test_what_was_let_go_serves_those_who_wait_oldest_first",
        MODEL,
        "        self._record(Cancelled(orderid, self.sku, line.qty))\n        self._serve_waiting()\n",
        "        self._record(Cancelled(orderid, self.sku, line.qty))\n",
    ),
    plant(
        "the oldest gives way",
        CHANGES + "test_from_a_shrunken_batch_the_newest_line_gives_way",
        STOCK,
        "key=_since, reverse=True",
        "key=_since",
    ),
    plant(
        "one line too many gives way",
        CHANGES + "test_from_a_shrunken_batch_the_newest_line_gives_way",
        MODEL,
        "            if batch.allocated_quantity <= qty:\n",
        "            if batch.allocated_quantity < qty:\n",
    ),
    plant(
        "a line is as old as its last placement",
        CHANGES + "test_a_line_keeps_its_age_for_life",
        MODEL,
        "            raise self._corrupt(event)\n        self.lines[event.orderid] = line\n\n"
        "    def _apply_deallocated",
        "            raise self._corrupt(event)\n        self.lines[event.orderid] = line\n"
        "        line.since = self.version_number + 1\n\n    def _apply_deallocated",
    ),
    plant(
        "shortage is told for lines that found another batch",
        CHANGES + "test_a_line_that_gives_way_finds_another_batch_without_a_notification",
        MODEL,
        "            if line.batchref is None:\n                self._record(OutOfStock",
        "            if line is not None:\n                self._record(OutOfStock",
    ),
    plant(
        "the quantity changes before the date",
        CHANGES + "test_quantity_and_eta_in_one_go_place_lines_by_the_new_date_and_tell_of_shortage_last",
        MODEL,
        "        self.change_batch_eta(ref, eta)\n        self.change_batch_quantity(ref, qty)\n",
        "        self.change_batch_quantity(ref, qty)\n        self.change_batch_eta(ref, eta)\n",
    ),
    plant(
        "another date moves the lines",
        CHANGES + "test_another_eta_moves_the_date_and_leaves_the_lines_where_they_are",
        MODEL,
        "            self._record(BatchEtaChanged(ref, self.sku, eta))\n",
        "            self._record(BatchEtaChanged(ref, self.sku, eta))\n"
        "            for line in self.lines.newest_on(ref):\n"
        "                self._record(Deallocated(line.orderid, self.sku, line.qty, ref))\n"
        "            self._serve_waiting()\n",
    ),
    plant(
        "a refusal has recorded something",
        EVENTS + "test_a_refusal_records_nothing_and_changes_nothing",
        MODEL,
        "        if not wait:\n            raise NotEnoughStock(self.sku, line.qty, self.availability())\n"
        "        self._record(Backordered(line.orderid, self.sku, line.qty))\n",
        "        self._record(Backordered(line.orderid, self.sku, line.qty))\n"
        "        if not wait:\n            raise NotEnoughStock(self.sku, line.qty, self.availability())\n",
    ),
    plant(
        "the version that the caller saw is not looked at",
        EVENTS + "test_the_version_the_caller_has_seen_is_checked",
        MODEL,
        "        if expected != self.version_number:",
        "        if expected > self.version_number:",
    ),
    plant(
        "a corrupt log is applied: another sku",
        EVENTS + "test_an_event_that_cannot_have_happened_is_never_applied",
        MODEL,
        "        if event.sku != self.sku:\n",
        "        if event.sku is None:\n",
    ),
    plant(
        "a corrupt log is applied: a line on two batches",
        EVENTS + "test_an_event_that_cannot_have_happened_is_never_applied",
        "domain/stock.py",
        "        if line.batchref is not None or not fits or line.sku != self.sku:\n",
        "        if not fits or line.sku != self.sku:\n",
    ),
    plant(
        "a corrupt log is applied: less than is promised",
        EVENTS + "test_an_event_that_cannot_have_happened_is_never_applied",
        MODEL,
        "not batch.allocated_quantity <= event.qty <= MAX_QUANTITY",
        "event.qty > MAX_QUANTITY",
    ),
    plant(
        "a kind of event has no way into the state",
        EVENTS + "test_each_kind_of_event_has_its_way_into_the_state",
        MODEL,
        "    Cancelled: Product._apply_cancelled,\n",
        "",
    ),
    plant(
        "a command that names nothing is let in",
        "unit/test_wiring.py::test_a_kind_of_command_of_which_nobody_knows_what_it_names_fails_at_once",
        "service_layer/needs.py",
        "        return command.ref\n    assert_never(command)\n",
        '        return command.ref\n    return ""\n',
    ),
    plant(
        "of a command that names nothing nothing is locked",
        "unit/test_wiring.py::test_a_kind_of_command_of_which_nobody_knows_what_it_names_fails_at_once",
        "service_layer/needs.py",
        "            case _:\n                assert_never(command)\n    return needs\n",
        "            case _:\n                pass\n    return needs\n",
    ),
    Plant(
        "state changes without an event",
        MACHINE,
        (
            Edit(
                MODEL,
                "            self._record(Deallocated(orderid, self.sku, line.qty, line.batchref))\n",
                "            self.batches.get(line.batchref).deallocate(line)\n",
            ),
        ),
    ),
]
