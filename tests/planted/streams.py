"""Bugs of Redis Streams, and of the consumer in front of the bus."""

from tests.planted import Plant, plant

BROKERS = "adapters/brokers/"
RECEIVER, STREAMS, PUBSUB = (f"{BROKERS}redis_{name}.py" for name in ("streams_receiver", "streams", "pubsub"))
CONSUMER, LINES = "entrypoints/consumer.py", "service_layer/delivering.py"
AT_REDIS = "integration/test_redis_streams.py::"
CONTRACT = "contracts/test_broker_redis_streams.py::TestRedisStreams::"
CONSUMING, DELIVERING = "unit/test_consumer.py::", "unit/test_subscriptions.py::"

PLANTS: list[Plant] = [
    plant(
        "acknowledge before commit",
        CONSUMING + "test_while_the_database_is_away_nothing_is_settled_and_nothing_received",
        CONSUMER,
        "        for delivery, answer in answers_of(application, [d for d in group if d not in bad], correlations):\n",
        "        self._receiver.accept([d for d in group if d not in bad])\n"
        "        for delivery, answer in answers_of(application, [d for d in group if d not in bad], correlations):\n",
    ),
    plant(
        "a message is settled before it is parked",
        CONSUMING + "test_a_message_that_cannot_be_parked_now_is_not_lost",
        CONSUMER,
        "            keep_as_dead_letter(application, delivery, reason)\n            left.remove(delivery)\n",
        "            left.remove(delivery)\n            keep_as_dead_letter(application, delivery, reason)\n",
    ),
    plant(
        "messages are received while the database is away",
        CONSUMING + "test_while_the_database_is_away_nothing_is_settled_and_nothing_received",
        CONSUMER,
        "            self._wait_for_the_database()\n",
        "",
    ),
    plant(
        "what stands behind a deadly message is given up with it",
        CONSUMING + "test_what_comes_again_and_again_is_parked_unless_it_stands_behind_another",
        CONSUMER,
        "        first.setdefault(delivery.source, delivery)\n",
        "        first[delivery.id] = delivery\n",
    ),
    plant(
        "the senders' ids share one room",
        CONSUMING + "test_ids_of_different_senders_do_not_meet",
        "entrypoints/receiving.py",
        '        source = f"{delivery.source} {event.source}"\n',
        "        source = delivery.source\n",
    ),
    plant(
        "cursor before publish",
        DELIVERING + "test_what_a_worker_had_not_delivered_when_it_died_is_delivered_by_the_next",
        LINES,
        "        refused = self._hand_over(wanted, settlement)\n        for logged in events:\n",
        "        if events:\n            self._settle(lease, Settlement(events[-1].position.seq))\n"
        "        refused = self._hand_over(wanted, settlement)\n        for logged in events:\n",
    ),
    plant(
        "who stops forgets what is not settled",
        DELIVERING + "test_who_stops_settles_first",
        LINES,
        "        return lease if self._unsettled_since is None else self._settle(lease, Settlement(lease.seq))\n",
        "        return lease\n",
    ),
    plant(
        "a page that was not full is remembered",
        "contracts/test_subscription_stores.py::test_a_page_that_was_read_before_has_what_came_since",
        "adapters/sql/subscriptions.py",
        "        if len(page) == limit:\n",
        "        if page:\n",
    ),
    plant(
        "trimming by length",
        AT_REDIS + "test_what_is_unread_or_unsettled_by_any_group_stays",
        BROKERS + "lua/trim.lua",
        "return redis.call('XTRIM', KEYS[1], 'MINID', oldest)\n",
        "return redis.call('XTRIM', KEYS[1], 'MAXLEN', 4)\n",
    ),
    plant(
        "trimming looks at what was given out, not at what was settled",
        AT_REDIS + "test_what_is_unread_or_unsettled_by_any_group_stays",
        BROKERS + "lua/trim.lua",
        "  if group['pending'] > 0 then\n",
        "  if false then\n",
    ),
    plant(
        "no dedup by version",
        AT_REDIS + "test_what_a_zombie_publishes_late_is_not_appended_again",
        BROKERS + "lua/append.lua",
        "  if not state or not was_given(state, version) then\n",
        "  if true then\n",
    ),
    plant(
        "the newest version alone says what was given",
        AT_REDIS + "test_versions_that_were_lost_are_taken_when_they_are_said_again_and_no_others",
        BROKERS + "lua/append.lua",
        "  if not gapless then\n",
        "  if true then\n",
    ),
    plant(
        "an error does not stop the rest of its stream",
        AT_REDIS + "test_a_stream_that_takes_nothing_fails_its_shard_from_there_on_and_no_other",
        BROKERS + "lua/append.lua",
        "      failure = added.err\n      break\n",
        "      failure = added.err\n",
    ),
    plant(
        "XAUTOCLAIM is not looped",
        AT_REDIS + "test_all_that_a_dead_receiver_left_is_taken_over_however_much_it_is",
        RECEIVER,
        '            if begin == b"0-0":\n                break\n',
        "            break\n",
    ),
    plant(
        "entries that were trimmed are not told",
        AT_REDIS + "test_an_entry_that_somebody_trimmed_before_it_was_settled_is_told_and_stops_nobody",
        RECEIVER,
        "            if trimmed:\n",
        "            if False:\n",
    ),
    plant(
        "a receiver reads without asking for its lease",
        AT_REDIS + "test_a_receiver_that_slept_through_its_lease_reads_nothing_past_its_successor",
        BROKERS + "lua/read.lua",
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then\n",
        "if false then\n",
    ),
    plant(
        "what was released goes behind what came later",
        AT_REDIS + "test_what_is_released_keeps_its_order_however_it_is_released",
        RECEIVER,
        "                shard.read = deque(sorted([delivery, *shard.read], key=_age))\n",
        "                shard.read.append(delivery)\n",
    ),
    plant(
        "a group begins at the end of its stream",
        CONTRACT + "test_what_was_published_before_anybody_came_is_there",
        RECEIVER,
        'self._group, id="0", mkstream=True)',
        'self._group, id="$", mkstream=True)',
    ),
    plant(
        "no look for entries whose answer got lost",
        AT_REDIS + "test_an_answer_that_got_lost_with_entries_in_it_is_looked_for",
        RECEIVER,
        "            for shard in self._shards:\n                shard.is_claimed = False\n            raise\n",
        "            raise\n",
    ),
    plant(
        "a failed acknowledgement is forgotten",
        AT_REDIS + "test_an_acknowledgement_that_failed_is_repeated_and_its_entry_does_not_come_again",
        RECEIVER,
        "            shard.accepted.add(delivery.id)\n        with self._talking():\n            self._acknowledge()\n",
        "            shard.accepted.add(delivery.id)\n        try:\n            with self._talking():\n"
        "                self._acknowledge()\n        finally:\n            shard.accepted.clear()\n",
    ),
    plant(
        "a stream that is none stops all others",
        "integration/test_redis_streams_shards.py::"
        "test_a_stream_that_is_none_holds_up_no_other_and_is_read_once_it_is_one",
        RECEIVER,
        "                    refusals.append(refusal)\n",
        "                    raise\n",
    ),
    plant(
        "one stream that is none keeps all others from being acknowledged",
        "integration/test_redis_streams_shards.py::"
        "test_what_was_handed_out_of_a_stream_that_is_none_any_more_is_acknowledged_in_vain_and_holds_up_no_other",
        RECEIVER,
        ' and "WRONGTYPE" in str(answer):',
        ' and "NOGROUP" in str(answer):',
    ),
    plant(
        "that no stream can be read is said to nobody",
        "integration/test_redis_streams_shards.py::test_where_no_stream_can_be_read_it_is_said",
        RECEIVER,
        "            raise refusals[0]\n",
        "            pass\n",
    ),
    plant(
        "what somebody had the group skip is waited for",
        "integration/test_redis_streams_shards.py::"
        "test_a_group_that_was_moved_on_is_waited_for_and_not_asked_again_and_again",
        RECEIVER,
        "            held[stream.decode()].last = _last_id(entries)\n",
        "            pass\n",
    ),
    plant(
        "what was heard goes with the connection",
        "unit/test_redis_pubsub_receiver.py::"
        "test_what_was_heard_before_the_connection_ended_is_handed_over_and_so_is_what_was_released",
        PUBSUB,
        "            if not found:\n                raise\n",
        "            raise\n",
    ),
    plant(
        "who has it no more releases it all the same",
        "contracts/test_broker_memory.py::TestMemoryBroker::test_who_has_it_no_more_cannot_release_it",
        BROKERS + "memory.py",
        "                if kept.holder is self:\n                    kept.holder, kept.due",
        "                if kept:\n                    kept.holder, kept.due",
    ),
    plant(
        "what was released counts as tried",
        "contracts/test_broker_memory.py::TestMemoryBroker::test_however_often_it_is_released_it_was_never_tried",
        BROKERS + "memory.py",
        "kept.holder, kept.due, kept.attempts = None, monotonic() + delay_seconds, kept.attempts - 1",
        "kept.holder, kept.due = None, monotonic() + delay_seconds",
    ),
    plant(
        "silence is taken for peace",
        AT_REDIS + "test_a_subscription_that_fell_silent_is_noticed_and_replaced",
        PUBSUB,
        "        elif now - self._heard_at > 2 * self._silence_seconds:\n",
        "        elif False:\n",
    ),
    plant(
        "a bare message has no id until it is handled",
        "unit/test_redis_pubsub_receiver.py::test_each_message_has_an_id_of_its_own_and_keeps_it_when_it_is_released",
        "adapters/brokers/redis_pubsub.py",
        "self._ids.new()",
        '""',
    ),
    plant(
        "a page of mails outlasts its lease",
        "unit/test_subscriptions.py::test_a_page_that_takes_too_long_is_left_to_the_next_round_where_it_stands",
        "service_layer/delivering.py",
        "if timer and outcomes and timer.seconds() - begin >= most_seconds:",
        "if False:",
    ),
    plant(
        "a string that never ends is looked at from each of its quotes",
        "e2e/test_http_bad_inputs.py::test_a_string_that_never_ends_is_looked_at_once",
        "entrypoints/http/parsing.py",
        """+"?|[\\[\\]{}]'""",
        """+"|[\\[\\]{}]'""",
    ),
]
