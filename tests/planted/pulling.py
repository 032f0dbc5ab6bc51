"""Bugs in pull, and in the subscriptions that users define."""

from tests.planted import Edit, Plant, plant

LOCKING, PULLING = "service_layer/locking.py", "service_layer/pulling.py"
ROWS, STORE = "adapters/sql/lane_rows.py", "adapters/sql/subscriptions.py"
COPIES, DEFINITIONS = "service_layer/rules/copies.py", "service_layer/definitions.py"
ANYTHING = "contracts/test_pulling.py::test_whatever_pullers_do_each_wanted_event_is_done_once_in_order"
AT_ONCE = "contracts/test_pulling.py::test_many_who_pull_at_once_share_the_work_and_never_a_key"
RUNNING, PUSHED = "service_layer/pushing_definitions.py", "unit/test_pushed_definitions.py::"
ALSO = "unit/test_worker_also.py::"
PRINTED, PRINTING = "e2e/test_subscriptions_cli.py::", "entrypoints/subscriptions.py"
HTTP, OWN = "e2e/test_http_pull.py::", "e2e/test_http_subscriptions.py::"

PLANTS: list[Plant] = [
    plant(
        "a lock is ignored: two hold one key",
        ANYTHING,
        LOCKING,
        "    return not in_hand and lane.due_at is not None and lane.due_at <= now\n",
        "    return lane.due_at is not None and lane.due_at <= now\n",
    ),
    plant(
        "the next event of a key overtakes the one in hand",
        HTTP + "test_nothing_overtakes_what_is_in_hand",
        LOCKING,
        "        if key in self._turn.lanes and key not in self._settlement.closed:\n            return True\n",
        "",
    ),
    plant(
        "the cursor goes past what found no room",
        ANYTHING,
        LOCKING,
        "                if not self._pass(logged):\n                    return\n",
        "                self._pass(logged)\n",
    ),
    plant(
        "the cursor moves, the lanes are not written",
        ANYTHING,
        ROWS,
        "    if settlement.lanes:\n        inserting",
        "    if settlement.lanes and not settlement.seq:\n        inserting",
    ),
    plant(
        "a lane that is ahead of the cursor closes, and its events come twice",
        HTTP + "test_a_session_gets_only_its_sku_and_others_miss_nothing",
        LOCKING,
        "        if lane.next_seq <= turn.seq + 1 and turn.seq <= looked_at",
        "        if turn.seq <= looked_at",
    ),
    plant(
        "a session loses the events of the others",
        HTTP + "test_a_session_gets_only_its_sku_and_others_miss_nothing",
        LOCKING,
        "            self._begin_with(self._asked.key)\n",
        "            self._begin_with(self._asked.key)\n            self._settlement.seq = HEAD\n",
    ),
    plant(
        "acknowledging closes a lane whose key has more",
        ANYTHING,
        LOCKING,
        " and last.get(lane.key, 0) < lane.next_seq:",
        ":",
    ),
    plant(
        "a page that does not reach the cursor closes lanes",
        ANYTHING,
        LOCKING,
        "    looked_at = page[-1].position.seq if len(page) == limit else HEAD\n",
        "    looked_at = HEAD\n",
    ),
    plant(
        "a token whose time ran out still acknowledges",
        HTTP + "test_a_lock_that_ran_out_is_lost_before_another_has_it",
        LOCKING,
        "        if lane.lock_token in wanted and lane.locked_until is not None and lane.locked_until > now\n",
        "        if lane.lock_token in wanted and lane.lock_token is not None\n",
    ),
    plant(
        "a lock that ran out counts no delivery",
        ANYTHING,
        LOCKING,
        "        if lane.lock_token is not None:\n            lane = given_back",
        "        if lane.lock_token is not None and lane.reason:\n            lane = given_back",
    ),
    plant(
        "nothing is ever parked for being delivered too often",
        HTTP + "test_after_ten_deliveries_it_is_parked",
        LOCKING,
        "    if attempts < MOST_DELIVERIES:\n",
        "    if attempts >= 0:\n",
    ),
    plant(
        "after a failure several come at once again",
        HTTP + "test_after_a_failure_events_come_one_at_a_time",
        LOCKING,
        "        most = 1 if hand.lane.attempts and hand.lane.next_seq == logged.position.seq else",
        "        most =",
    ),
    plant(
        "a delay is forgotten",
        HTTP + "test_what_is_released_comes_again_after_its_delay",
        PULLING,
        "        due = self._clock.now() + timedelta(seconds=delay_seconds)\n",
        "        due = self._clock.now()\n",
    ),
    plant(
        "what is rejected comes again",
        HTTP + "test_what_is_rejected_waits_with_its_reason_until_it_is_discarded",
        PULLING,
        "lane, attempts=lane.attempts + 1, due_at=None, reason=told",
        "lane, attempts=lane.attempts + 1, reason=told",
    ),
    plant(
        "an event whose rule fails is passed over",
        HTTP + "test_an_event_whose_rule_cannot_be_worked_out_is_parked_and_not_lost",
        LOCKING,
        "                self._settlement.lanes[lane.key] = replace(lane, due_at=None, reason=reason)\n",
        "                self._settlement.closed.add(lane.key)\n                return True\n",
    ),
    plant(
        "two take the same turn",
        AT_ONCE,
        STORE,
        "            seq, found = seen_alone(connection, name, partition)\n",
        "            with self._engine.connect() as aside:\n"
        "                seq, found = seen_alone(aside, name, partition)\n",
    ),
    plant(
        "going back leaves the locks",
        "contracts/test_pulling.py::test_a_subscription_that_goes_back_takes_the_locks_along",
        STORE,
        '    "lock_token": None,\n    "locked_until": None,\n',
        "",
    ),
    plant(
        "copies of an event share its id, and all but one are dropped as duplicates",
        HTTP + "test_copies_of_an_event_travel_under_one_token",
        COPIES,
        'id=f"{message.id}:{rule}"',
        "id=message.id",
    ),
    plant(
        "an action changes nothing in the copy",
        HTTP + "test_copies_of_an_event_travel_under_one_token",
        COPIES,
        "    data |= {name: value for name, value in now.items() if name not in was or not _same(was[name], value)}\n",
        "",
    ),
    plant(
        "a definition takes the name of a built-in subscription",
        OWN + "test_names_of_built_in_subscriptions_are_taken",
        DEFINITIONS,
        "        if wanted.name in self._reserved:\n            raise NameTaken(wanted.name)\n",
        "",
    ),
    plant(
        "each definition makes a new secret",
        OWN + "test_a_secret_is_told_once_and_never_again",
        DEFINITIONS,
        '        kept = known.sink.secret if known is not None and known.sink is not None else ""\n',
        '        kept = ""\n',
    ),
    plant(
        "what is removed leaves its lanes",
        OWN + "test_what_is_removed_is_gone_with_its_place_and_its_lanes",
        STORE,
        "            connection.execute(delete(lanes).where(lanes.c.subscription == name))\n",
        "",
    ),
    Plant(
        "a definition is stopped although it was changed meanwhile",
        "contracts/test_definitions.py::test_one_is_stopped_only_as_long_as_it_is_the_same",
        (
            Edit(
                "adapters/sql/definitions.py",
                "(d.name == definition.name) & (d.definition == _text(definition)) & d.stopped.is_(None)",
                "d.name == definition.name",
            ),
        ),
    ),
    plant(
        "an address that was given up is still pushed to",
        PUSHED + "test_nothing_goes_to_an_address_that_was_changed_or_removed",
        RUNNING,
        "        if definitions.get(definition.name) != definition:\n",
        "        if not definition:\n",
    ),
    plant(
        "an event is done when its first copy is",
        PUSHED + "test_an_event_is_done_when_all_its_copies_are",
        RUNNING,
        "next((x for x in [next(told) for _ in found] if x is not None), None)",
        "[next(told) for _ in found][0]",
    ),
    plant(
        "events overtake one of their key whose rule failed",
        PUSHED + "test_an_event_whose_rule_fails_is_parked_and_holds_its_key_alone",
        RUNNING,
        "        if logged.key in keys:\n            continue\n",
        "",
    ),
    plant(
        "who is gone is pushed to again",
        PUSHED + "test_who_is_gone_is_stopped_and_nothing_moves",
        RUNNING,
        '            definitions.stop(definition, str(gone) or "the address is gone")\n',
        "",
    ),
    plant(
        "what is removed is delivered for ever",
        ALSO + "test_what_is_not_named_any_more_ends",
        "service_layer/worker.py",
        "                run.stop()\n",
        "                continue\n",
    ),
    plant(
        "two threads deliver for one name",
        ALSO + "test_one_that_takes_the_place_of_another_waits_for_its_delivery",
        "service_layer/worker.py",
        "        new = [self._run_of(s) for s in wanted.values() if s.name not in busy]\n",
        "        new = [self._run_of(s) for s in wanted.values()]\n",
    ),
    plant(
        "who waits holds up the end of the process",
        "unit/test_waiting_pullers.py::test_who_waits_is_answered_when_the_process_leaves",
        PULLING,
        " or left_seconds <= 0 or self._leaving.is_set():",
        " or left_seconds <= 0:",
    ),
    plant(
        "so much is received at a time that a slow reader outlives the locks",
        PRINTED + "test_a_slow_reader_gets_each_event_once",
        PRINTING,
        "AT_A_TIME = 5\n",
        "AT_A_TIME = 100\n",
    ),
    plant(
        "locks run while the reader has no room",
        PRINTED + "test_no_lock_runs_while_the_reader_takes_nothing",
        PRINTING,
        "            if not received.held and received.has_seen_all:\n",
        "            wait_for_reader()\n            if not received.held and received.has_seen_all:\n",
    ),
    plant(
        "an acknowledgement that came too late is not told",
        PRINTED + "test_what_is_acknowledged_too_late_is_told_and_comes_again",
        PRINTING,
        "                if outcome.is_lost:\n",
        "                if False:\n",
    ),
    plant(
        "a full pipe is not waited for",
        PRINTED + "test_a_full_pipe_is_waited_for",
        PRINTING,
        "        select([], [sys.stdout], [])\n",
        "        select([], [sys.stdout], [], 0)\n",
    ),
    plant(
        "a pull ends where the search was interrupted",
        PRINTED + "test_what_stands_behind_many_unwanted_events_is_pulled",
        PRINTING,
        "            if not received.held and received.has_seen_all:\n",
        "            if not received.held:\n",
    ),
    plant(
        "who waits sleeps though there is more to look at",
        "contracts/test_pulling.py::test_who_waits_searches_on_at_once",
        PULLING,
        "                if received.has_seen_all:\n",
        "                if not received.held:\n",
    ),
    plant(
        "a search that was interrupted says that it has seen all",
        HTTP + "test_a_search_that_takes_long_is_told_to_go_on",
        PULLING,
        "                return Received(held, receiving.has_seen_all)\n",
        "                return Received(held, has_seen_all=True)\n",
    ),
    plant(
        "a key that is free and found no room counts as seen",
        "contracts/test_pulling.py::test_who_got_as_much_as_wanted_is_told_that_there_may_be_more",
        LOCKING,
        "                self._reads_on = True\n                break\n",
        "                break\n",
    ),
    plant(
        "one who waits takes the only thread",
        "unit/test_waiting_pullers.py::test_one_thread_at_least_goes_on_serving",
        "bootstrap.py",
        "min(max(1, settings.threads // 4), settings.threads - 1)",
        "max(1, settings.threads // 4)",
    ),
]
