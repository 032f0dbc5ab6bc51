"""Bugs in verify, rebuild and the self-audit: each would let a difference pass, or do harm while mending one."""

from tests.planted import Plant, plant

VERIFY, COMPARING, AUDITS = "service_layer/verify.py", "service_layer/comparing.py", "adapters/sql/audits.py"
SQL, LOCKED, PROJECTIONS = "adapters/sql/verification.py", "adapters/sql/corrections.py", "adapters/sql/projections.py"
TESTS = "integration/test_verify.py::"
DAMAGE = TESTS + "test_damage_is_found_named_and_mended"
AUDIT_TESTS = "e2e/test_verify_commands.py::"

PLANTS: list[Plant] = [
    plant(
        "a row that is missing is not missed",
        DAMAGE,
        COMPARING,
        "    if right + len(mend.lines) != len(lines):\n",
        "    if False:\n",
    ),
    plant(
        "the walk sees only skus that the log knows",
        DAMAGE,
        SQL,
        "            named.update(sku for (sku,) in found)\n",
        "            named.update(sku for (sku,) in found if sku in events)\n",
    ),
    plant(
        "lines on a batch that is not there are not looked for",
        DAMAGE,
        SQL,
        '"AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.reference = l.batchref)"',
        '"AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.reference <> l.batchref)"',
    ),
    plant(
        "the end of a command at the end of a page is not looked up",
        TESTS + "test_a_walk_goes_on_from_any_place_it_told",
        VERIFY,
        "        anchor = after > 0\n",
        "        anchor = False\n",
    ),
    plant(
        "a log with holes is taken for the truth",
        DAMAGE,
        VERIFY,
        "partition_of(sku, self._partitions) not in self._holes",
        "partition_of(sku, self._partitions) >= 0",
    ),
    plant(
        "what came between looking and mending is lost",
        TESTS + "test_what_happens_between_looking_and_mending_is_heeded",
        LOCKED,
        "history_of(ask, sku, after_version, PAGE)",
        "()",
    ),
    plant(
        "mending does not lock the product",
        TESTS + "test_a_product_that_others_hold_is_left_for_later_and_told",
        LOCKED,
        "where(products.c.sku == sku).with_for_update()",
        "where(products.c.sku == sku)",
    ),
    plant(
        "a step reads more than one moment",
        TESTS + "test_nobody_waits_for_one_who_verifies",
        SQL,
        '"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if postgres else "BEGIN"',
        '"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY" if postgres else "BEGIN"',
    ),
    plant(
        "what a projection was refused counts as seen",
        TESTS + "test_what_a_projection_has_not_seen_yet_is_not_missed",
        PROJECTIONS,
        "        return min(cursor, self._lanes.get((name, sku), cursor))\n",
        "        return cursor\n",
    ),
    plant(
        "a rebuilt level overtakes its projection",
        TESTS + "test_a_rebuilt_level_does_not_overtake_its_projection",
        COMPARING,
        "        if seq <= projected.levels_until:\n",
        "        if True:\n",
    ),
    plant(
        "nobody looks at the snapshots",
        DAMAGE,
        COMPARING,
        "    folded.snapshots = snapshots.wrong\n",
        "",
    ),
    plant(
        "a snapshot behind the last event is not seen",
        DAMAGE,
        COMPARING,
        "    snapshots.end()\n",
        "",
    ),
    plant(
        "who was placed is taken for one who waits",
        TESTS + "test_snapshots_of_a_long_past_agree_with_it",
        "service_layer/snapshot_checks.py",
        "isinstance(event, Allocated | Cancelled)",
        "isinstance(event, Cancelled)",
    ),
    plant(
        "snapshots behind the first few are not read",
        TESTS + "test_a_wrong_snapshot_among_many_is_found",
        PROJECTIONS,
        "        while rows := self._ask(few, sku, after):\n",
        "        if rows := self._ask(few, sku, after):\n",
    ),
    plant(
        "a rebuild has everything told again",
        "integration/test_replays_are_silent.py::test_a_rebuild_repeats_no_outside_effect_and_moves_no_cursor",
        PROJECTIONS,
        "        self._correct_snapshots(wrong)\n",
        '        self._connection.exec_driver_sql("UPDATE subscriptions SET position = 0")\n',
    ),
    plant(
        "the self-audit's last round stays out of the metrics",
        "e2e/test_metrics.py::test_the_self_audit_is_told",
        "adapters/telemetry/exposition.py",
        "last.differences if last else None",
        "None",
    ),
    plant(
        "every process audits",
        AUDIT_TESTS + "test_one_process_audits_at_a_time_and_the_next_goes_on_where_it_was",
        AUDITS,
        "            if row.owner != owner and row.leased_until > now:\n",
        "            if False:\n",
    ),
    plant(
        "the self-audit ends at what it cannot read, and goes on telling of its last good round",
        "unit/test_self_audit.py::test_what_it_cannot_read_is_said_and_does_not_end_it",
        "service_layer/self_audit.py",
        "            except Exception:  # noqa: BLE001",
        "            except LookupError:  # noqa: BLE001",
    ),
    plant(
        "a round that another version wrote stops the self-audit and those who ask about it",
        AUDIT_TESTS + "test_what_another_version_left_of_a_round_is_begun_anew",
        AUDITS,
        "    except UNREADABLE:\n",
        "    except LookupError:\n",
    ),
    plant(
        "a round that begins anew counts twice what it had seen",
        AUDIT_TESTS + "test_what_another_version_left_of_a_round_is_begun_anew",
        "service_layer/self_audit.py",
        "(under_way or Round(now))",
        "(audit.current or Round(now))",
    ),
    plant(
        "each row of a snapshot that was wiped is named",
        "unit/test_differences.py::test_of_a_snapshot_that_was_wiped_the_first_few_rows_are_named_and_the_others_counted",
        "service_layer/snapshot_checks.py",
        "unlike[:MOST_NAMED]",
        "unlike",
    ),
    plant(
        "what is said of a difference has no end",
        "unit/test_differences.py::test_whatever_else_is_said_of_a_difference_is_cut",
        COMPARING,
        "        if len(self.problem) > MOST_CHARACTERS:\n",
        "        if False:\n",
    ),
    plant(
        "days in another order are the same level",
        "unit/test_differences.py::test_a_level_in_another_order_is_another",
        COMPARING,
        "    if level.available != folded.level:\n",
        "    if sorted(map(str, level.available)) != sorted(map(str, folded.level or ())):\n",
    ),
    plant(
        "a line of another product that stays where it is counts as repaired",
        TESTS + "test_what_is_left_as_it_was_is_not_said_to_be_repaired",
        VERIFY,
        "repaired=of_strangers.get(fault.place, state)",
        "repaired=state",
    ),
    plant(
        "a batch with a line of another product on it counts as repaired",
        TESTS + "test_what_is_left_as_it_was_is_not_said_to_be_repaired",
        VERIFY,
        "repaired=state and fault.place not in left_on",
        "repaired=state",
    ),
    plant(
        "a walk that fails leaves half a JSON document",
        AUDIT_TESTS + "test_what_breaks_off_is_json_all_the_same",
        "entrypoints/verifying.py",
        "            except Exception as defect:  # noqa: BLE001",
        "            except LookupError as defect:  # noqa: BLE001",
    ),
]
