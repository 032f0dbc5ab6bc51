"""Bugs in what is seen from outside: a trace that breaks, a line that nobody can place, a figure that is not so."""

from tests.planted import Plant, plant

BUS, ROUTES, HANDLING = "service_layer/messagebus.py", "entrypoints/http/routes.py", "entrypoints/handling.py"
METRICS, LOGS, WATCHING = "adapters/telemetry/metrics.py", "adapters/telemetry/logs.py", "entrypoints/watching.py"
TRACES, COUNTS, LINES = "integration/test_traces.py::", "e2e/test_metrics.py::", "unit/test_logs.py::"
ONE_TRACE = TRACES + "test_one_trace_from_the_request_through_log_and_broker_into_the_consumer"

PLANTS: list[Plant] = [
    plant(
        "the log carries the client's span, not ours",
        ONE_TRACE,
        ROUTES,
        "            call.traceparent = span.traceparent\n",
        "",
    ),
    plant(
        "what is published carries the request's span, not the delivery's",
        ONE_TRACE,
        BUS,
        "traced[place] = replace(logged, traceparent=span.traceparent)",
        "pass",
    ),
    plant(
        "the trace ends at the consumer",
        ONE_TRACE,
        HANDLING,
        "            replace(envelope, traceparent=span.traceparent)\n",
        "            replace(envelope, traceparent=None)\n",
    ),
    plant(
        "a refused delivery looks well in its trace",
        TRACES + "test_a_delivery_that_is_refused_is_an_error_in_the_trace",
        BUS,
        "                if span is not None and outcome is not None:\n                    span.failed(outcome)\n",
        "                pass\n",
    ),
    plant(
        "each process tells its own counts only",
        COUNTS + "test_whichever_process_is_asked_tells_the_sum_of_all",
        WATCHING,
        "    if processes == 1 or MULTIPROCESS in os.environ:\n",
        "    if True:\n",
    ),
    plant(
        "an answer that was given before counts as a change",
        COUNTS + "test_commands_are_counted_by_what_became_of_them",
        METRICS,
        "    if answer.repeated:\n",
        "    if False:\n",
    ),
    plant(
        "a failure is not counted",
        COUNTS + "test_what_fails_and_what_is_tried_again_is_counted",
        BUS,
        "            self._meter.group_failed(envelopes, failure)\n            raise\n",
        "            raise\n",
    ),
    plant(
        "metrics are gone while the store is away",
        COUNTS + "test_without_a_store_the_counts_are_told_all_the_same",
        "adapters/telemetry/exposition.py",
        "        except Unavailable:\n",
        "        except LookupError:\n",
    ),
    plant(
        "lines of libraries carry no correlation",
        LINES + "test_a_line_that_no_message_led_to_carries_that_of_the_run",
        LOGS,
        "foreign_pre_chain=shared",
        "foreign_pre_chain=shared[:-1]",
    ),
    plant(
        "every event begins a trace",
        TRACES + "test_an_event_that_no_trace_led_to_begins_none",
        BUS,
        "(self._delivery_span(name, logged)) if logged.traceparent else None",
        "(self._delivery_span(name, logged))",
    ),
    plant(
        "a request that failed looks well in its trace",
        TRACES + "test_what_goes_wrong_on_our_side_is_an_error_in_the_trace",
        ROUTES,
        "                if reply.status >= 500:\n                    span.failed(error)\n",
        "",
    ),
    plant(
        "what the client did wrong is an error of ours",
        TRACES + "test_what_goes_wrong_on_our_side_is_an_error_in_the_trace",
        ROUTES,
        "                if reply.status >= 500:\n",
        "                if reply.status >= 400:\n",
    ),
    plant(
        "the last spans of a process are lost",
        TRACES + "test_a_collector_gets_the_spans_at_the_latest_when_the_process_ends",
        "bootstrap.py",
        "        telemetry.tracer.close()\n",
        "",
    ),
    plant(
        "a provider of somebody else's is ended with us",
        TRACES + "test_a_provider_that_somebody_else_set_is_not_ended",
        "adapters/telemetry/tracing.py",
        "            self._provider.force_flush()\n",
        "            self._provider.shutdown()\n",
    ),
    plant(
        "a projection is added, and nobody tells its lag",
        COUNTS + "test_every_projection_is_a_read_model_that_is_told",
        "views.py",
        '    "snapshots": "keep_snapshots",\n',
        "",
    ),
    plant(
        "a read model behind a cache seems to be current",
        COUNTS + "test_a_read_model_behind_a_cache_lags_by_the_caches_keeper",
        "views.py",
        '    "orders": "keep_cache",\n',
        '    "orders": "",\n',
    ),
    plant(
        "a conflict is tried again, and nobody hears of it",
        COUNTS + "test_what_fails_and_what_is_tried_again_is_counted",
        BUS,
        "            before_sleep=self._told_of_retry,\n",
        "",
    ),
    plant(
        "a line about a group goes under the correlation of who leads it",
        LINES + "test_a_line_inside_a_transaction_is_about_the_whole_group",
        BUS,
        "            with correlated_with(envelopes):\n",
        "            if envelopes:\n",
    ),
    plant(
        "a line about a page of a thousand has a thousand ids",
        LINES + "test_a_line_about_many_messages_carries_the_ids_of_all_up_to_a_number",
        "service_layer/observing.py",
        '",".join(ids[:MOST_TOLD] + more)',
        '",".join(ids)',
    ),
    plant(
        "what Flask answers is logged under no request's correlation",
        LINES + "test_lines_about_what_flask_answers_carry_the_correlation_too",
        "entrypoints/flask_app.py",
        "        with correlated(call.correlation_id):\n",
        "        if call:\n",
    ),
    plant(
        "lines of a command carry no correlation",
        LINES + "test_a_command_of_the_command_line_forms_its_lines_too_once_it_has_one",
        "entrypoints/opened.py",
        "    logging.lastResort = LogLinesWhenNeeded(settings)\n",
        "",
    ),
    plant(
        "what somebody has in hand looks like a failure",
        "e2e/test_http_pull.py::test_metrics_tell_what_is_in_hand",
        "adapters/telemetry/exposition.py",
        "lane.locked_until is not None and lane.locked_until > now",
        "False",
    ),
    plant(
        "a page's lines go under the correlation of another event",
        LINES + "test_a_refused_delivery_is_logged_under_the_correlation_of_what_led_to_it",
        "service_layer/subscriptions.py",
        "with correlated(logged.correlation_id):\n                        handle(logged, written)\n",
        "handle(logged, written)\n",
    ),
]
