"""Bugs in groups that are handled in several transactions at once, and in imports that bring them."""

from tests.planted import Plant, plant

FORK_JOIN, RUN = "service_layer/fork_join.py", "entrypoints/importing/run.py"
UNIT, IMPORTING, AT_ONCE = (
    "unit/test_fork_join.py::",
    "unit/test_import_runs.py::",
    "integration/test_import_at_once.py::",
)

PLANTS: list[Plant] = [
    plant(
        "a group is divided by its order, not by its products",
        UNIT + "test_products_stay_whole_and_in_order_and_everyone_gets_their_own_answer",
        FORK_JOIN,
        "        return [home[sku] for sku in skus]\n",
        "        return [place * self._at_once // len(skus) for place in range(len(skus))]\n",
    ),
    plant(
        "lines of one product are at work in two transactions",
        AT_ONCE + "test_a_refused_row_in_the_middle_stops_it_and_the_mended_file_goes_on",
        FORK_JOIN,
        "        return [home[sku] for sku in skus]\n",
        "        return [place // 2 % self._at_once for place in range(len(skus))]\n",
    ),
    plant(
        "answers come part by part",
        UNIT + "test_products_stay_whole_and_in_order_and_everyone_gets_their_own_answer",
        FORK_JOIN,
        "        return [next(answers[home]) for home in homes]\n",
        "        return [answer for of_part in answers for answer in of_part]\n",
    ),
    plant(
        "a reference goes to whichever transaction is quicker",
        UNIT + "test_what_cannot_be_divided_goes_as_it_is_and_in_the_callers_thread",
        FORK_JOIN,
        "owners.setdefault(command.ref, sku) != sku",
        "owners.setdefault(sku, sku) != sku",
    ),
    plant(
        "Ctrl-C leaves transactions at work",
        UNIT + "test_after_a_failure_or_ctrl_c_those_at_work_end_and_the_others_are_left",
        FORK_JOIN,
        "                if thread.ident is not None:  #",
        "                if False:  #",
    ),
    plant(
        "one part after the other",
        UNIT + "test_as_many_parts_as_were_asked_for_are_at_work_at_the_same_time",
        FORK_JOIN,
        "ended = [Event() for _ in range(self._at_once)]",
        "ended = [Event() for _ in range(1)]",
    ),
    plant(
        "all parts at once",
        UNIT + "test_no_more_parts_are_at_work_than_were_asked_for_however_many_there_are",
        FORK_JOIN,
        "ended = [Event() for _ in range(self._at_once)]",
        "ended = [Event() for _ in parts]",
    ),
    plant(
        "after a failure it goes on with what is left",
        UNIT + "test_after_a_failure_or_ctrl_c_those_at_work_end_and_the_others_are_left",
        FORK_JOIN,
        "                        failures[place] = failure\n                        left.clear()\n",
        "                        failures[place] = failure\n",
    ),
    plant(
        "threads do not know what they work for",
        UNIT + "test_what_is_logged_in_any_part_is_still_about_what_the_caller_does",
        FORK_JOIN,
        "target=copy_context().run, args=[work, event]",
        "target=work, args=[event]",
    ),
    plant(
        "a refusal in one transaction ends the stop of another",
        IMPORTING + "test_each_group_stops_at_its_own_first_refusal_whatever_happens_in_other_threads",
        RUN,
        "class _Here(local):\n",
        "class _Here:\n",
    ),
    plant(
        "an import stops at refusals only, not at failures",
        IMPORTING + "test_a_row_that_fails_stops_the_import_too_and_those_of_its_product_behind_it_stay_out",
        RUN,
        "            except Exception:\n                here",
        "            except Refused:\n                here",
    ),
    plant(
        "what an attempt stopped at stops the next attempt as well",
        IMPORTING + "test_a_group_that_is_tried_again_begins_afresh_and_so_does_the_row_it_stopped_at",
        RUN,
        "command is not here.stopped_at and command is not here.first",
        "command is not here.stopped_at",
    ),
    plant(
        "bytes that are no UTF-8 do not go into the file of refused rows",
        "e2e/test_cli_import.py::test_bytes_that_are_no_text_are_told_and_given_back_as_they_were",
        "entrypoints/importing/report.py",
        ', encoding="utf-8", errors="surrogateescape"',
        ', encoding="utf-8"',
    ),
    plant(
        "the last answer of a group tells its position",
        IMPORTING + "test_the_position_is_that_of_the_last_event_whichever_transaction_it_came_from",
        RUN,
        "max((a.position for a in answers if a.position is not None), default=self.position)",
        "next((a.position for a in reversed(answers) if a.position is not None), self.position)",
    ),
    plant(
        "of two files for what was refused the first is left out without a word",
        "e2e/test_cli_import.py::test_wrong_usage_is_told_with_code_2",
        "entrypoints/importing/command.py",
        '    multiple=True,\n    callback=_one,\n    help="Write every row',
        '    help="Write every row',
    ),
    plant(
        "what the demo proposes buys the chairs that the first page sells out",
        "e2e/test_docs.py::test_walkthroughs_that_share_a_database_name_other_things",
        "entrypoints/demo/story.py",
        "lampshades-1,RETRO-LAMPSHADE,20",
        "lampshades-1,RED-CHAIR,20",
    ),
    plant(
        "a Parquet timestamp at midnight is no date",
        "unit/test_import_files.py::test_a_parquet_timestamp_at_midnight_is_a_date",
        "entrypoints/importing/from_parquet.py",
        "    if types.is_timestamp(column.type) and column.type.tz is None:\n",
        "    if False:\n",
    ),
]
