"""Bugs in the bus, the group commit, the handlers and the envelopes."""

from tests.planted import Plant, plant

BUS, GROUP, HANDLERS = "service_layer/messagebus.py", "service_layer/group_commit.py", "service_layer/handlers.py"
UNIT_OF_WORK, ENVELOPE = "service_layer/unit_of_work.py", "service_layer/envelope.py"
BUS_TESTS, AGAIN = "unit/test_messagebus.py::", "unit/test_messagebus_again.py::"
GROUP_TESTS = "unit/test_group_commit.py::"

PLANTS: list[Plant] = [
    plant(
        "who failed after recording something is committed all the same",
        BUS_TESTS + "test_who_failed_after_recording_has_no_effect_and_the_others_are_answered",
        BUS,
        "            if uow.collect_new_events():\n                raise\n",
        "            uow.collect_new_events()\n",
    ),
    plant(
        "one failure is told to the whole group",
        BUS_TESTS + "test_who_failed_after_recording_has_no_effect_and_the_others_are_answered",
        BUS,
        "            return self._one_by_one(envelopes)\n",
        "            return [Answer(error=failure) for _ in envelopes]\n",
    ),
    plant(
        "one by one, it goes on behind a command for which nothing could be done",
        BUS_TESTS + "test_one_by_one_nothing_overtakes_a_command_for_which_nothing_could_be_done",
        BUS,
        "                return answers + [Answer(error=left)] * (len(envelopes) - len(answers))\n",
        "",
    ),
    plant(
        "duplicates inside a group are done twice",
        AGAIN + "test_duplicates_inside_a_group_are_done_once",
        BUS,
        "                    if envelope.brought_id:\n                        known[envelope.key] = done\n",
        "",
    ),
    plant(
        "the stored answer is not looked for",
        AGAIN + "test_the_same_message_again_gets_the_same_answer_and_is_not_done_again",
        BUS,
        "known.get(envelope.key) if envelope.brought_id else None",
        "None",
    ),
    plant(
        "another command under an id gets the first one's answer",
        AGAIN + "test_an_id_stands_for_one_request_only",
        UNIT_OF_WORK,
        "        if envelope.command != self.envelope.command:\n",
        "        if envelope.command is None:\n",
    ),
    plant(
        "a refusal is not kept under its id",
        AGAIN + "test_a_refusal_stays_a_refusal_under_its_id",
        UNIT_OF_WORK,
        "        return self.changed or self.envelope.brought_id\n",
        "        return self.changed\n",
    ),
    plant(
        "retries have another end than was set",
        AGAIN + "test_retries_end_and_everybody_is_told",
        BUS,
        "stop_after_attempt(attempts)",
        "stop_after_attempt(attempts + 2)",
    ),
    plant(
        "an unknown outcome is tried again",
        AGAIN + "test_what_another_try_would_not_mend_is_told_at_once",
        BUS,
        "retry_if_exception_type((Conflict, ConnectionLost))",
        "retry_if_exception_type(Unavailable)",
    ),
    plant(
        "a kept refusal grows with every repetition",
        BUS_TESTS + "test_a_refusal_that_is_given_again_and_again_does_not_grow",
        "service_layer/answers.py",
        "raise self.error.with_traceback(None)",
        "raise self.error",
    ),
    plant(
        "the bus remembers what it handled",
        BUS_TESTS + "test_the_bus_keeps_nothing_between_messages",
        BUS,
        "        return [done.answer_to(envelope) for envelope, done in",
        "        self.history = [*getattr(self, 'history', []), handled]\n"
        "        return [done.answer_to(envelope) for envelope, done in",
    ),
    plant(
        "a failed commit is told to the leader only",
        GROUP_TESTS + "test_a_commit_that_raises_is_raised_to_all_of_its_group_and_to_no_other",
        GROUP,
        "            for caller in group:\n                caller.failure = failure\n",
        "            group[0].failure = failure\n",
    ),
    plant(
        "answers are dealt out in another order",
        GROUP_TESTS + "test_those_who_came_during_a_commit_are_the_next_group",
        GROUP,
        "zip(group, answers, strict=True)",
        "zip(group, reversed(answers), strict=True)",
    ),
    plant(
        "a group is as large as the queue",
        GROUP_TESTS + "test_the_lead_goes_to_the_first_in_line",
        GROUP,
        "range(min(len(self._waiting), self._group_limit))",
        "range(len(self._waiting))",
    ),
    plant(
        "everybody is let in",
        GROUP_TESTS + "test_too_many_waiting_callers_are_turned_away_at_once",
        GROUP,
        "if len(self._waiting) >= self._queue_limit:",
        "if len(self._waiting) > 2 * self._queue_limit + 99:",
    ),
    plant(
        "a refused batch leaves a product without stock",
        "unit/test_handlers.py::test_a_refused_batch_makes_no_product_even_for_others_of_its_group",
        HANDLERS,
        "    product = known or Product(cmd.sku)\n",
        "    product = known or Product(cmd.sku)\n    uow.products.add(product)\n",
    ),
    plant(
        "a reference may stand for two batches",
        "unit/test_handlers.py::test_a_reference_stands_for_one_batch",
        HANDLERS,
        "    if uow.products.sku_of(cmd.ref) not in (None, cmd.sku):\n        raise BatchExists(cmd.ref)\n",
        "",
    ),
    plant(
        "a sku moves to another partition with every process",
        "unit/test_envelope.py::test_a_sku_lives_in_the_same_partition_forever",
        ENVELOPE,
        'crc32(key.encode(errors="surrogatepass"))',
        "hash(key)",
    ),
    plant(
        "who comes without a path is told that there is nothing",
        "e2e/test_http_document.py::test_who_looks_for_the_page_is_led_to_it",
        "entrypoints/http/docs.py",
        '    @own.get("/", gives',
        '    @own.get("/elsewhere", gives',
    ),
    plant(
        "parameters are explained in the folded form only",
        "e2e/test_http_document.py::test_the_page_explains_every_parameter_outside_of_the_form",
        "entrypoints/http/docs.py",
        "{_table(parameter_rows(document, operation))}\n",
        "",
    ),
    plant(
        "a body to begin with that is then refused",
        "e2e/test_http_document.py::test_the_body_to_begin_with_is_as_its_schema_says",
        "entrypoints/http/docs_fields.py",
        'for name in schema.get("required", ())}',
        "for name in ()}",
    ),
    plant(
        "the page names what a field refers to, and does not show it",
        "e2e/test_http_document.py::test_the_page_follows_what_a_field_refers_to",
        "entrypoints/http/docs_fields.py",
        "            yield from _below(document, name, field)\n",
        "",
    ),
]
