"""Bugs around Kafka: what librdkafka does by default, and what a zombie does."""

from tests.planted import Edit, Plant, plant

PUBLISHER = "adapters/brokers/kafka/publisher.py"
RECEIVER = "adapters/brokers/kafka/receiver.py"
SHARES = "adapters/brokers/kafka/shares.py"
CONTRACT = "contracts/test_broker_kafka.py::TestKafka::"
UNIT = "unit/test_kafka_receiver.py::"
FAULTS = "integration/test_kafka.py::"

PLANTS = [
    Plant(
        "auto-commit stays on, and stores offsets as messages are handed out",
        CONTRACT + "test_what_was_not_accepted_goes_to_another_receiver",
        (
            Edit(RECEIVER, "enable_auto_commit=False", "enable_auto_commit=True"),
            Edit(RECEIVER, "enable_auto_offset_store=False", "enable_auto_offset_store=True"),
        ),
    ),
    plant(
        "an offset is committed though something before it is not settled",
        FAULTS + "test_an_offset_is_committed_when_all_before_it_is_settled",
        SHARES,
        "        return next(iter(self.kept), self.next_offset)\n",
        "        return self.next_offset\n",
    ),
    plant(
        "a flush() that returns is taken for proof",
        FAULTS + "test_a_topic_that_takes_less_than_it_did_rejects_the_large_one_and_no_other",
        PUBLISHER,
        "        producer.flush(self._address.patience_seconds)  # proves nothing: the reports do, which it calls\n",
        "        if not producer.flush(self._address.patience_seconds):\n"
        "            outcomes[:] = [None] * len(outcomes)\n",
    ),
    plant(
        "what a zombie settles moves the offset of its successor",
        FAULTS + "test_what_a_zombie_settles_late_moves_no_offset_of_its_successor",
        RECEIVER,
        "            if self._shares.get(token.share.partition) is token.share:\n",
        "            if token.share:\n",
    ),
    plant(
        "stock levels are written without a fence",
        FAULTS + "test_an_old_word_of_a_worker_that_was_replaced_is_never_the_last",
        PUBLISHER,
        "                made = FencedOutlet if topic in COMPACTED else Outlet\n",
        "                made = Outlet\n",
    ),
    plant(
        "a message overtakes one of its key that could not be queued",
        CONTRACT + "test_what_the_broker_will_not_have_stops_its_key_and_no_other",
        PUBLISHER,
        "                outcomes[number] = refused[message.key] = _failure(failure.args[0])\n",
        "                outcomes[number] = _failure(failure.args[0])\n",
    ),
    plant(
        "a release counts as a delivery",
        UNIT + "test_a_release_is_no_delivery",
        RECEIVER,
        "                kept.due = None  #",
        "                object.__setattr__(kept.delivery, 'attempts', kept.delivery.attempts + 1)\n"
        "                kept.due = None  #",
    ),
    plant(
        "what stands behind a waiting first of its key is looked for all the time",
        UNIT + "test_what_is_due_behind_a_first_of_its_key_that_waits_is_not_asked_for_all_the_time",
        SHARES,
        "            first.setdefault(line, due)\n",
        "            first[line] = due\n",
    ),
    plant(
        "errors of the client are told one by one",
        UNIT + "test_errors_that_piled_up_are_told_at_once",
        RECEIVER,
        "        told = list(self._untold.values())\n        self._untold.clear()\n",
        "        told = [self._untold.pop(name) for name in list(self._untold)[:1]]\n",
    ),
    plant(
        "behind errors of the client nothing is looked for",
        UNIT + "test_messages_behind_errors_are_handed_out_at_once_and_in_order",
        RECEIVER,
        "        for _ in range(MOST_HEAPS):\n",
        "        for _ in range(0):\n",
    ),
    plant(
        "the wait for an answer to a commit has no end",
        UNIT + "test_a_commit_that_is_not_answered_is_given_up_and_told_again_until_it_is",
        RECEIVER,
        '            if monotonic() > until:\n                raise unavailable("it does not confirm',
        '            if monotonic() > until + 5:\n                raise unavailable("it does not confirm',
    ),
    plant(
        "what comes while an answer to a commit is awaited is lost",
        UNIT + "test_a_commit_that_is_not_answered_is_given_up_and_told_again_until_it_is",
        RECEIVER,
        "            self._keep(self._fetched(consumer, 1, 0))\n",
        "            self._fetched(consumer, 1, 0)\n",
    ),
    plant(
        "a commit that was refused is taken for done",
        UNIT + "test_a_commit_that_is_refused_is_not_taken_for_done",
        RECEIVER,
        "        for place in places if error is None else ():\n",
        "        for place in places:\n",
    ),
    plant(
        "closing waits for a broker that says nothing",
        UNIT + "test_closing_ends_though_the_broker_says_nothing",
        RECEIVER,
        "            closing.join(self._address.patience_seconds)\n",
        "            closing.join()\n",
    ),
]
