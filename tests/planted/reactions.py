"""Bugs after the commit: cursors, leases, lanes, and what comes in over Redis."""

from tests.planted import Plant, plant

LANES, MEMORY = "service_layer/delivering.py", "adapters/memory_subscriptions.py"
INJECTION = "service_layer/injection.py"
SQL, HANDLING = "adapters/sql/subscriptions.py", "entrypoints/handling.py"
LINE_TESTS, STORE_TESTS = "unit/test_subscriptions.py::", "contracts/test_subscription_stores.py::"
REACTIONS = "integration/test_reactions.py::"

PLANTS: list[Plant] = [
    plant(
        "a lane is overtaken by later events of its key",
        LINE_TESTS + "test_what_is_refused_waits_in_its_lane_and_nothing_overtakes_its_key",
        LANES,
        "if e.key not in lanes and type(e.event) in self._subscription.wants]",
        "if type(e.event) in self._subscription.wants]",
    ),
    plant(
        "the rest of a page overtakes the event that was refused in it",
        LINE_TESTS + "test_what_is_refused_waits_in_its_lane_and_nothing_overtakes_its_key",
        LANES,
        "            failure = refused.get(logged.key)\n",
        "            failure = None\n",
    ),
    plant(
        "the cursor passes an event whose destination was away",
        LINE_TESTS + "test_a_destination_that_is_away_holds_the_line_and_uses_up_no_attempt",
        LANES,
        "            if isinstance(failure, Unavailable):\n                return\n",
        "            if isinstance(failure, Unavailable):\n                failure = None\n",
    ),
    plant(
        "a destination that is away is told at each try",
        LINE_TESTS + "test_a_destination_that_goes_away_is_told_once_with_the_reason_and_once_more_when_it_is_back",
        LANES,
        "        if not self._failures:\n            _log.warning(",
        "        if True:\n            _log.warning(",
    ),
    plant(
        "nobody hears that a destination is back",
        LINE_TESTS + "test_a_destination_that_goes_away_is_told_once_with_the_reason_and_once_more_when_it_is_back",
        LANES,
        '            _log.info("%s: its destination is back", self._name)\n',
        "            pass\n",
    ),
    plant(
        "a lane never parks",
        LINE_TESTS + "test_a_lane_is_parked_after_its_attempts_and_tried_again_when_told",
        LANES,
        "        parked = isinstance(failure, RejectedForGood) or self._backoff.gives_up(attempts)\n",
        "        parked = False\n",
    ),
    plant(
        "a discard is not recorded",
        LINE_TESTS + "test_only_a_recorded_discard_skips_an_event",
        LANES,
        "            settlement.discarded.append((lane, skipped.position.seq, *lane.discard))\n",
        "",
    ),
    plant(
        "no epoch: an owner whose lease ran out moves the cursor on",
        STORE_TESTS + "test_one_owner_at_a_time_and_each_taking_raises_the_epoch",
        SQL,
        "        subscriptions.c.epoch == lease.epoch,\n",
        "",
    ),
    plant(
        "a discard said meanwhile is overwritten",
        STORE_TESTS + "test_a_discard_said_while_the_owner_works_is_not_lost",
        "service_layer/subscriptions.py",
        "    return current\n",
        "    return lane\n",
    ),
    plant(
        "a bad message ends the consumer",
        REACTIONS + "test_a_message_that_cannot_be_handled_is_parked_and_the_next_is_served",
        HANDLING,
        "        except BadMessage as bad:\n",
        "        except KeyError as bad:\n",
    ),
    plant(
        "a bad message is dropped",
        REACTIONS + "test_a_message_that_cannot_be_handled_is_parked_and_the_next_is_served",
        HANDLING,
        "    application.dead_letters.park(delivery.source, body, reason)\n",
        "",
    ),
    plant(
        "a reaction that names what no setting provides is left out in silence",
        "unit/test_wiring.py::test_a_reaction_that_names_what_no_setting_provides_stops_the_start",
        INJECTION,
        "        _require_known(handler, Destinations.__annotations__, 1)\n",
        "",
    ),
    plant(
        "a command handler that names too much is told by a bare KeyError",
        "unit/test_wiring.py::test_a_command_handler_that_names_more_than_the_unit_of_work_stops_the_start",
        INJECTION,
        "    _require_known(handler, dependencies, given)\n",
        "",
    ),
    plant(
        "a discard goes back with its key, and skips another event (SQL)",
        STORE_TESTS + "test_what_was_said_of_an_event_is_not_said_of_the_one_that_its_key_goes_back_to",
        SQL,
        '    "discarded_by": None,\n',
        "",
    ),
    plant(
        "a discard goes back with its key, and skips another event (memory)",
        STORE_TESTS + "test_what_was_said_of_an_event_is_not_said_of_the_one_that_its_key_goes_back_to",
        MEMORY,
        'Lane(name, lane.key, partition, seq + 1, 0, now, "")',
        'replace(lane, next_seq=seq + 1, attempts=0, due_at=now, reason="", lock_token=None, locked_until=None)',
    ),
    plant(
        "what was parked stays parked where it goes back to",
        STORE_TESTS + "test_a_parked_key_that_goes_back_is_tried",
        SQL,
        ', "due_at": now, **_AS_NEW}',
        ", **_AS_NEW}",
    ),
    plant(
        "a discard on the command line names no event, and said twice skips two",
        "e2e/test_lanes.py::test_a_discard_said_twice_on_the_command_line_skips_one_event",
        "entrypoints/lanes.py",
        "        is_next = place == _place(lane)\n",
        "        is_next = True\n",
    ),
    plant(
        "a discard on the command line does not say which event it means",
        "e2e/test_lanes.py::test_the_command_line_discards_no_event_that_was_not_named",
        "entrypoints/lanes.py",
        "        if place is None:\n",
        "        place = place or _place(lane)\n        if place is None:\n",
    ),
]
