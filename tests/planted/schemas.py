"""Bugs in what is kept for good and promised to others: versions of messages, and the document."""

from tests.planted import Plant, plant

SCHEMAS, COMPATIBILITY = "adapters/schemas.py", "entrypoints/contracts/compatibility.py"
READING, CONTRACTS = "unit/test_schemas.py::", "unit/test_contracts.py::"

PLANTS: list[Plant] = [
    plant(
        "an older event goes through the last upcaster only",
        READING + "test_events_of_older_versions_are_read_as_todays_through_one_step_or_several",
        SCHEMAS,
        "self._upcasters[name][version - 1 :]",
        "self._upcasters[name][-1:]",
    ),
    plant(
        "an event of a newer version is read as today's",
        READING + "test_a_version_that_nobody_knows_is_refused_and_not_guessed_at",
        SCHEMAS,
        "        reader = self.readers.get((name, version))\n",
        "        reader = self.readers.get((name, min(version, self._versions.get(name, 1))))\n",
    ),
    plant(
        "a log is read without its versions",
        "integration/test_older_versions.py::test_a_log_with_older_events_is_read_verified_and_written_on",
        "adapters/sql/views.py",
        "decode_event(name, data, schema_version)",
        "decode_event(name, data, 3)",
    ),
    plant(
        "events are written under version 1 for ever",
        "integration/test_older_versions.py::test_a_log_with_older_events_is_read_verified_and_written_on",
        "adapters/sql/appending.py",
        "zip(*map(written_as, events), strict=True)",
        "[type(event).__name__ for event in events], [1] * len(events)",
    ),
    plant(
        "a field of an event gets another name, without a new version",
        CONTRACTS + "test_the_program_keeps_updates_and_refuses",
        COMPATIBILITY,
        '            yield f"the field {field} is gone"\n',
        "            pass\n",
    ),
    plant(
        "a message changes, and the document does not",
        CONTRACTS + "test_the_committed_document_is_the_present_one",
        "domain/events.py",
        'changes nothing but the version."""\n\n    sku: str\n',
        'changes nothing but the version."""\n\n    sku: str\n    colour: str = ""\n',
    ),
    plant(
        "a command may change by a new version",
        CONTRACTS + "test_a_new_version_lets_an_event_change_and_never_a_command",
        COMPATIBILITY,
        '        elif schema.get(DIRECTION) == "in":\n',
        '        elif schema.get(DIRECTION) == "in" and after == before:\n',
    ),
    plant(
        "what must be there is not compared",
        CONTRACTS + "test_a_breaking_change_is_seen_and_named",
        COMPATIBILITY,
        "    for field in sorted(must_now - must):\n",
        "    for field in ():\n",
    ),
    plant(
        "an event that the cache does not know leaves orders stale in silence",
        "unit/test_unknown_events.py::test_an_event_that_is_unknown_is_not_passed_over",
        "service_layer/cache.py",
        "            assert_never(event)\n",
        "            pass\n",
    ),
    plant(
        "an event that movements do not know is not counted in silence",
        "unit/test_unknown_events.py::test_an_event_that_is_unknown_is_not_passed_over",
        "service_layer/read_models.py",
        "            assert_never(event)\n",
        "            return None\n",
    ),
    plant(
        "an event that the projector does not know changes the version only",
        "unit/test_unknown_events.py::test_an_event_that_is_unknown_is_not_passed_over",
        "adapters/sql/projector.py",
        "                assert_never(event)\n",
        "                pass\n",
    ),
]
