"""Bugs in the cache: marks, places, losses, and readers who are told that a position is reached."""

from tests.planted import Plant, plant

MARK, FILL, RULES = (f"adapters/lua/{script}.lua" for script in ("mark", "fill", "rules"))
MEMORY, REDIS, VIEWS = "adapters/cache.py", "adapters/redis_cache.py", "adapters/cached_views.py"
HANDLERS, CACHE, AT_LEAST = "service_layer/handlers.py", "service_layer/cache.py", "entrypoints/http/at_least.py"
CONTRACT, VIEW_TESTS, HTTP = "contracts/test_caches.py::", "unit/test_cached_views.py::", "e2e/test_at_least.py::"
IN_REDIS, MACHINE = (
    "integration/test_cache_in_redis.py::",
    "unit/test_cache_state_machine.py::TestCacheInMemory::runTest",
)
MACHINE_IN_REDIS = IN_REDIS + "test_whatever_happens_no_answer_is_older_than_its_reader_was_told"
TOMBSTONE_IN_MEMORY = "                    marks.touched[thing] = max(seq, marks.touched.pop(thing, 0))\n"
ANSWERS_DELETED = "redis.call('DEL', (string.gsub(marks, 'marks:%d+$', ARGV[n + 1])))"

PLANTS: list[Plant] = [
    plant(
        "Redis: a cache without tombstones: what was touched is deleted, and a late fill brings it back",
        CONTRACT + "test_a_fill_that_was_read_before_a_mark_is_refused",
        MARK,
        "redis.call('ZADD', marks, 'GT', ARGV[n], ARGV[n + 1])",
        ANSWERS_DELETED,
    ),
    plant(
        "Redis: a cache without tombstones, in any order of events",
        MACHINE_IN_REDIS,
        MARK,
        "redis.call('ZADD', marks, 'GT', ARGV[n], ARGV[n + 1])",
        ANSWERS_DELETED,
    ),
    plant(
        "memory: a cache without tombstones: what was touched is deleted, and a late fill brings it back",
        VIEW_TESTS + "test_a_reader_that_read_before_a_change_and_fills_after_it_is_refused",
        MEMORY,
        TOMBSTONE_IN_MEMORY,
        "                    self._entries.pop(thing, None)\n",
    ),
    plant(
        "memory: a cache without tombstones, in any order of events",
        MACHINE,
        MEMORY,
        TOMBSTONE_IN_MEMORY,
        "                    self._entries.pop(thing, None)\n",
    ),
    plant(
        "Redis: an older answer goes over a newer one",
        CONTRACT + "test_a_fill_that_was_read_before_another_one_is_refused",
        FILL,
        "tonumber(part.seq) < tonumber(known[n].seq)",
        "part.seq == nil",
    ),
    plant(
        "memory: an older answer goes over a newer one",
        CONTRACT + "test_a_fill_that_was_read_before_another_one_is_refused",
        MEMORY,
        "self._counts(known) and _is_older(entry, known)",
        "not self._counts(known)",
    ),
    plant(
        "the place of the cache is moved before what was touched is marked",
        VIEW_TESTS + "test_at_no_moment_is_the_place_of_the_cache_ahead_of_what_it_gives",
        HANDLERS,
        "        cache.mark(first.partition, first.seq - 1, last.seq, touched)\n",
        "        cache.mark(first.partition, first.seq - 1, last.seq, {})\n"
        "        cache.mark(first.partition, first.seq - 1, last.seq, touched)\n",
    ),
    plant(
        "Redis: that it has come less far than its keeper is not noticed",
        CONTRACT + "test_a_cache_that_is_behind_its_keeper_begins_anew",
        MARK,
        "not position or position < after or",
        "not position or",
    ),
    plant(
        "memory: that it has come less far than its keeper is not noticed",
        CONTRACT + "test_a_cache_that_is_behind_its_keeper_begins_anew",
        MEMORY,
        "if marks is None or marks.position < after:",
        "if marks is None:",
    ),
    plant(
        "Redis: a loss is not noticed while nothing happens",
        IN_REDIS + "test_a_redis_that_is_restored_from_what_it_was",
        "service_layer/delivering.py",
        "        if self._subscription.idle is not None:\n",
        "        if self._subscription.idle is not None and lease.seq < 0:\n",
    ),
    plant(
        "Redis: the head of the log is taken for any place before it",
        CONTRACT + "test_a_cache_that_is_elsewhere_than_the_log_begins_anew",
        MARK,
        "ARGV[3] == '1' and position ~= till",
        "ARGV[3] == '1' and position < till",
    ),
    plant(
        "Redis: answers of another life count",
        CONTRACT + "test_a_cache_that_is_elsewhere_than_the_log_begins_anew",
        RULES,
        "part.life ~= redis.call('ZSCORE', marks, 'life')",
        "false",
    ),
    plant(
        "Redis: a late fill brings back what a rebuild has repaired",
        CONTRACT + "test_what_was_looked_for_before_the_cache_forgot_everything_is_refused",
        RULES,
        "part.life ~= redis.call('ZSCORE', marks, 'life')",
        "false",
    ),
    plant(
        "memory: a late fill brings back what a rebuild has repaired",
        CONTRACT + "test_what_was_looked_for_before_the_cache_forgot_everything_is_refused",
        MEMORY,
        " or entry.lives.get(partition) != marks.life:\n",
        ":\n",
    ),
    plant(
        "Redis: what is said late moves the cache back",
        CONTRACT + "test_a_mark_that_comes_late_or_twice_does_no_harm",
        MARK,
        "position = math.max(position, till)",
        "position = till",
    ),
    plant(
        "Redis: what is said late undoes a newer mark",
        CONTRACT + "test_a_mark_that_comes_late_or_twice_does_no_harm",
        MARK,
        "'ZADD', marks, 'GT', ARGV[n]",
        "'ZADD', marks, ARGV[n]",
    ),
    plant(
        "Redis: old marks are dropped, and the answers from before stay",
        CONTRACT + "test_with_the_oldest_marks_go_the_answers_from_before",
        MARK,
        "    redis.call('ZREMRANGEBYSCORE', marks, '-inf', base)\n",
        "    redis.call('ZREMRANGEBYSCORE', marks, '-inf', base)\n    base = 0\n",
    ),
    plant(
        "memory: old marks are dropped, and the answers from before stay",
        CONTRACT + "test_with_the_oldest_marks_go_the_answers_from_before",
        MEMORY,
        "marks.base = max(marks.base, marks.touched.pop(oldest))",
        "marks.touched.pop(oldest)",
    ),
    plant(
        "Redis: a cache without a keeper is believed for ever",
        CONTRACT + "test_a_cache_forgets_its_place_if_its_keeper_falls_silent",
        MARK,
        "redis.call('PEXPIRE', marks, ARGV[5])\n",
        "",
    ),
    plant(
        "another day for a batch does not reach the orders on it",
        VIEW_TESTS + "test_another_day_for_a_batch_ends_only_the_orders_on_it",
        CACHE,
        "            yield batch_thing(event.ref)\n",
        "            return\n",
    ),
    plant(
        "an event that the keeper skipped is taken for told",
        VIEW_TESTS + "test_an_event_that_the_keeper_skipped_makes_the_cache_begin_anew",
        CACHE,
        "if n == len(page) or page[n].position.seq != page[n - 1].position.seq + 1:",
        "if n == len(page):",
    ),
    plant(
        "who was told that a position is reached reads what was before",
        VIEW_TESTS + "test_who_was_told_that_a_position_is_reached_never_reads_what_was_before",
        VIEWS,
        "            self._not_before({partition: position.seq})\n",
        "            pass\n",
    ),
    plant(
        "a cache that came back as it was is believed",
        VIEW_TESTS + "test_who_was_told_that_a_position_is_reached_never_reads_what_was_before",
        VIEWS,
        "        if any(found.places[partition] < seq for partition, seq in least.items()):\n",
        "        if any(found.places[partition] < 0 for partition, seq in least.items()):\n",
    ),
    plant(
        "a cache that is away fails the reader",
        VIEW_TESTS + "test_a_cache_that_is_away_is_gone_past",
        VIEWS,
        '            self._tell(False, f"the cache cannot be reached: {away}")\n            return None\n',
        "            raise away\n",
    ),
    plant(
        "every reader waits for a Redis that does not answer",
        IN_REDIS + "test_a_redis_that_does_not_answer_is_left_alone_for_a_moment",
        REDIS,
        "            if now < self._closed_until:\n",
        "            if now < 0:\n",
    ),
    plant(
        "the heads of the log are of a later moment than the answer",
        "contracts/test_sqlite.py::TestSqlite::test_an_answer_and_the_heads_of_the_log_are_of_one_moment",
        "adapters/sql/views.py",
        "            heads = _heads(connection)\n"
        "            answer = ask(_Inside(self._engine, self._partitions, connection))\n",
        "            answer = ask(_Inside(self._engine, self._partitions, connection))\n"
        "        with self._reading() as connection:\n"
        "            heads = _heads(connection)\n",
    ),
    plant(
        "a rebuild leaves wrong answers in the cache",
        IN_REDIS + "test_after_a_rebuild_what_is_cached_is_read_anew",
        "entrypoints/verifying.py",
        "                application.forget_cache()\n",
        "                pass\n",
    ),
    plant(
        "stock levels do not wait for their projection",
        HTTP + "test_stock_levels_are_read_when_the_projection_has_come_so_far",
        "entrypoints/http/stock.py",
        "    query.wait(call, call.application.views.stock_reached)\n",
        "    query.wait(call, call.application.views.log_reached)\n",
    ),
    plant(
        "at_least is ignored",
        HTTP + "test_a_cache_that_does_not_come_so_far_is_waited_for_and_then_told",
        AT_LEAST,
        "        if reached(position):\n",
        "        if reached(position) or position.seq:\n",
    ),
    plant(
        "at_least fails at once in place of waiting",
        HTTP + "test_what_is_written_at_one_process_is_read_at_another",
        AT_LEAST,
        "not wait_until(lambda: reached(position), application.timer, PATIENCE_SECONDS)",
        "not reached(position)",
    ),
    plant(
        "a position that the log does not have holds up the caller",
        HTTP + "test_a_position_that_the_log_does_not_have_is_not_waited_for",
        AT_LEAST,
        "if not is_there or not wait_until(",
        "if not wait_until(",
    ),
    plant(
        "an answer that cannot be read fails the question",
        "unit/test_cached_views.py::test_an_answer_that_cannot_be_read_is_a_miss",
        "adapters/cached_views.py",
        "    except UNREADABLE:\n",
        "    except LookupError:\n",
    ),
    plant(
        "programs of two versions read each other's answers",
        "unit/test_cached_views.py::test_programs_whose_answers_have_another_form_keep_them_apart",
        "adapters/cached_views.py",
        '    return f"{form_of(ProductView)}:{product_thing(sku)}"\n',
        "    return product_thing(sku)\n",
    ),
]
