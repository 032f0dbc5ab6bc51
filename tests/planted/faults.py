"""Bugs that show when somebody dies, or is stopped, at the worst moment."""

from tests.planted import Plant, plant

LINES, WORKER = "service_layer/delivering.py", "service_layer/worker.py"
STORE, DIALECTS = "adapters/sql/subscriptions.py", "adapters/sql/dialects.py"
POINTS, COMMITS = "faults/test_named_points.py::", "integration/test_cursors_and_commits.py::"
WORKER_DIES = POINTS + "test_a_worker_that_dies_at_any_point_has_counted_each_event_once"
WORKER_HELD_UP = POINTS + "test_a_worker_held_up_for_longer_than_its_lease_writes_nothing_any_more"

PLANTS: list[Plant] = [
    plant(
        "the cursor moves before the delivery",
        WORKER_DIES,
        LINES,
        "            self._go_on(lease, lanes, settlement)\n",
        "            if events := self._store.read(lease.partition, lease.seq, self._page):\n"
        "                self._store.settle(lease, Settlement(events[-1].position.seq), self.lease_seconds)\n"
        "            self._go_on(lease, lanes, settlement)\n",
    ),
    plant(
        "a projection is written outside of the cursor's transaction",
        WORKER_DIES,
        STORE,
        "            write(settlement.read_models, self._dialect, connection)\n",
        "        with writing(self._engine) as connection:\n"
        "            write(settlement.read_models, self._dialect, connection)\n",
    ),
    plant(
        "no epoch: a worker that was held up writes what another has written since",
        WORKER_HELD_UP,
        STORE,
        "        subscriptions.c.epoch == lease.epoch,\n",
        "",
    ),
    plant(
        "who is stopped in the middle of a settlement keeps its locks",
        WORKER_HELD_UP,
        DIALECTS,
        "                _without_a_last_flush(trip)\n",
        "",
    ),
    plant(
        "a message is acknowledged before the commit",
        POINTS + "test_a_consumer_that_dies_at_any_point_does_once_what_was_sent",
        "entrypoints/consumer.py",
        "        for delivery, answer in answers_of(application, [d for d in group if d not in bad], correlations):\n",
        "        self._receiver.accept([d for d in group if d not in bad])\n"
        "        for delivery, answer in answers_of(application, [d for d in group if d not in bad], correlations):\n",
    ),
    plant(
        "the inbox has a transaction of its own",
        POINTS + "test_a_service_that_dies_at_any_point_does_once_what_is_asked_again",
        "adapters/sql/unit_of_work.py",
        "            self._session.run(self._writing(handled, versions))\n",
        "            *steps, inbox, commit = self._writing(handled, versions)\n"
        "            self._session.run([*steps, commit])\n"
        '            self._session.run([Step("BEGIN"), inbox, commit])\n',
    ),
    plant(
        "a cursor whose commit was not answered is taken to be where it was",
        COMMITS + "test_a_connection_lost_at_the_cursors_commit_counts_nothing_twice_and_leaves_nothing_out",
        WORKER,
        "        self._leases[partition] = None\n        self._worker.lost(",
        "        self._worker.lost(",
    ),
    plant(
        "a lease is taken for one's own by the name of its owner",
        COMMITS + "test_two_services_of_one_name_on_one_file_count_nothing_twice",
        STORE,
        "            epoch = held.epoch + 1\n",
        "            epoch = held.epoch if held.owner == owner else held.epoch + 1\n",
    ),
    plant(
        "who counts the living workers waits for the dead",
        COMMITS + "test_a_worker_stopped_while_it_says_that_it_lives_holds_up_no_other",
        STORE,
        "        gone = workers.c.lives_until <= now - FORGOTTEN_AFTER\n",
        "        gone = workers.c.lives_until <= now\n",
    ),
    plant(
        "of two workers that start at the same moment one ends",
        "contracts/test_subscription_stores.py::test_workers_that_start_at_the_same_moment_all_join",
        "adapters/sql/cursor_rows.py",
        ', new, "ON CONFLICT DO NOTHING")',
        ", new)",
    ),
    plant(
        "Ctrl-C ends the worker processes as well, beside the one that ends them",
        "e2e/test_http_server.py::test_ctrl_c_which_every_process_of_a_terminal_hears_is_left_to_the_one_that_watches",
        "entrypoints/server.py",
        "    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n",
        "",
    ),
    plant(
        "a second signal is written to a descriptor that is closed",
        "e2e/test_http_server.py::test_who_listens_for_the_end_is_told_of_it_however_often",
        "entrypoints/server.py",
        "            if number[0] == signal.SIGTERM:\n                leave()\n",
        "            if number[0] == signal.SIGTERM:\n                leave()\n                return\n",
    ),
]
