"""Bugs of pushing, and of letting strangers name addresses."""

from tests.planted import Plant, plant

PUSHING, LINES = "service_layer/pushing.py", "service_layer/delivering.py"
WEBHOOKS, GUARDED, ADDRESSES, BATCHES = (
    f"adapters/{name}.py" for name in ("webhooks", "guarded", "addresses", "batches")
)
MEANING, HOOKS = "unit/test_pushing.py::", "integration/test_webhooks.py::"
EVENT_GRID, GRID = "adapters/brokers/event_grid.py", "integration/test_event_grid.py::"
ROUTE, COMES_IN = "entrypoints/http/event_grid.py", "e2e/test_http_event_grid.py::"
REACHED = "unit/test_addresses.py::"

PLANTS: list[Plant] = [
    plant(
        "a redirect is followed",
        HOOKS + "test_a_redirect_is_a_failure_and_is_not_followed",
        WEBHOOKS,
        '            answer = self._http.send("POST", *self._request(sink, messages), sink.answer_seconds)\n',
        "            url, headers, body = self._request(sink, messages)\n"
        '            answer = self._http.send("POST", url, headers, body, sink.answer_seconds)\n'
        '            while "location" in answer.headers:\n'
        '                url = httpcore.URL(answer.headers["location"])\n'
        '                answer = self._http.send("POST", url, headers, body, sink.answer_seconds)\n',
    ),
    plant(
        "a redirect counts as an acknowledgement",
        MEANING + "test_each_status_means_what_event_grid_says",
        PUSHING,
        "    if 200 <= status <= 204:\n",
        "    if 200 <= status < 400:\n",
    ),
    plant(
        "410 is tried again",
        HOOKS + "test_after_410_nothing_more_is_sent",
        PUSHING,
        "        raise Gone(words)\n",
        "        return Rejected(words)\n",
    ),
    plant(
        "400 is tried again",
        MEANING + "test_what_was_rejected_for_good_is_parked_at_once_and_holds_up_no_other_key",
        LINES,
        "        parked = isinstance(failure, RejectedForGood) or self._backoff.gives_up(attempts)\n",
        "        parked = self._backoff.gives_up(attempts)\n",
    ),
    plant(
        "Retry-After is not heeded",
        HOOKS + "test_retry_after_is_honoured_in_both_its_forms",
        WEBHOOKS,
        "        if said.isascii() and said.isdigit():\n",
        "        if said:\n            return None\n        if said.isascii() and said.isdigit():\n",
    ),
    plant(
        "a receiver that asks for a pause is paused by the schedule",
        MEANING + "test_a_busy_sink_is_left_alone_as_long_as_it_says_and_that_is_no_failure",
        LINES,
        "        if isinstance(failure, Busy):\n",
        "        if False:\n",
    ),
    plant(
        "pushes are retried as brokers are",
        MEANING + "test_a_subscription_may_carry_a_schedule_of_its_own",
        LINES,
        "        self._backoff, self._page = subscription.backoff or backoff, subscription.page\n",
        "        self._backoff, self._page = backoff, subscription.page\n",
    ),
    plant(
        "nothing is signed",
        HOOKS + "test_an_event_comes_signed_in_structured_mode",
        WEBHOOKS,
        '        return url, {"host": _host(sink.url), "content-type": media_type, **signed}, body\n',
        '        signed.pop("webhook-signature")\n'
        '        return url, {"host": _host(sink.url), "content-type": media_type, **signed}, body\n',
    ),
    plant(
        "the body is not part of the signature",
        HOOKS + "test_an_event_comes_signed_in_structured_mode",
        WEBHOOKS,
        '    signed = f"{delivery_id}.{seconds}.".encode() + body\n',
        '    signed = f"{delivery_id}.{seconds}.".encode()\n',
    ),
    plant(
        "any answer is consent",
        HOOKS + "test_without_consent_nothing_is_pushed",
        WEBHOOKS,
        '        if origin not in ("*", self._origin) or not (rate == "*" or _RATE.match(rate)):\n',
        "        if False:\n",
    ),
    plant(
        "consent is asked for each time",
        HOOKS + "test_consent_is_asked_for_once_and_may_be_for_our_origin",
        WEBHOOKS,
        "            found = self._consents[sink.url] = self._ask(sink)\n",
        "            found = self._ask(sink)\n",
    ),
    plant(
        "the allowed rate is not kept to",
        HOOKS + "test_no_more_are_pushed_in_a_minute_than_is_allowed",
        WEBHOOKS,
        "        if self.used >= self.rate:\n",
        "        if False:\n",
    ),
    plant(
        "what is behind a refused event of its key is sent",
        HOOKS + "test_what_is_refused_for_good_holds_up_its_own_key_only",
        BATCHES,
        "        if not (batch := [(n, message) for n, message in batch if message.key not in refused]):\n",
        "        if not batch:\n",
    ),
    plant(
        "a private address is connected to",
        HOOKS + "test_a_name_that_leads_to_a_private_address_is_not_connected_to",
        GUARDED,
        "        for address in filter(self._allowed, self._addresses(host, port)):\n",
        "        for address in self._addresses(host, port):\n",
    ),
    plant(
        "the name is looked up again behind the check",
        HOOKS + "test_the_address_that_was_checked_is_the_one_connected_to",
        GUARDED,
        "self._network.connect_tcp(address, port, left",
        "self._network.connect_tcp(host, port, left",
    ),
    plant(
        "an IPv4 address in IPv6 form passes",
        REACHED + "test_whatever_is_not_public_is_not_reached",
        ADDRESSES,
        "    if found in NAT64:\n        return IPv4Address(int(found) & 0xFFFF_FFFF)\n",
        "    if found in NAT64:\n        return IPv4Address('1.1.1.1')\n",
    ),
    plant(
        "plain HTTP to anywhere",
        REACHED + "test_public_addresses_are_reached_with_tls_only",
        ADDRESSES,
        "        return found is not None and self._lists(found)\n",
        "        return found is not None and (self._lists(found) or _is_public(found))\n",
    ),
    plant(
        "each read has the whole time anew",
        HOOKS + "test_an_answer_that_trickles_in_has_no_more_time_than_another",
        GUARDED,
        "        return self._stream.read(max_bytes, _some(self._deadline.left(), httpcore.ReadTimeout))\n",
        "        return self._stream.read(max_bytes, 5.0)\n",
    ),
    plant(
        "Microsoft's client tries again by itself",
        GRID + "test_when_it_has_no_time_all_waits_and_is_not_sent_again_by_the_client",
        EVENT_GRID,
        "                retry_total=0,\n",
        "                retry_total=1,\n",
    ),
    plant(
        "Microsoft's client follows redirects",
        GRID + "test_a_redirect_is_not_followed",
        EVENT_GRID,
        "                permit_redirects=False,\n",
        "",
    ),
    plant(
        "a wrong key refuses each message",
        GRID + "test_a_wrong_key_is_wrong_for_all_and_shown_to_nobody",
        EVENT_GRID,
        '            return Unavailable(f"Event Grid does not let us in',
        '            return Rejected(f"Event Grid does not let us in',
    ),
    plant(
        "a token that is refused is taken for the fault of each message",
        GRID + "test_a_token_that_is_refused_is_wrong_for_all",
        EVENT_GRID,
        "        except ClientAuthenticationError as shut:",
        "        except NotImplementedError as shut:",
    ),
    plant(
        "topics are not told apart at Event Grid",
        "contracts/test_broker_event_grid.py::TestEventGrid::test_topics_and_namespaces_do_not_hear_each_other",
        EVENT_GRID,
        'f"{self._namespace}.{topic}"',
        '"allocation.commands"',
    ),
    plant(
        "the validation of Event Grid is answered with 202",
        COMES_IN + "test_the_validation_of_a_topic_that_was_asked_for_gets_its_code_back_with_200",
        ROUTE,
        "    return json_reply(200, EventGridAnswer(validation_response=code))\n",
        "    return json_reply(202, EventGridAnswer(validation_response=code))\n",
    ),
    plant(
        "any topic is validated",
        COMES_IN + "test_the_validation_of_a_topic_that_nobody_asked_for_is_refused_without_its_code",
        ROUTE,
        "    if not settings.expects_event_grid(topic):\n",
        "    if False:\n",
    ),
    plant(
        "any origin gets consent",
        COMES_IN + "test_consent_goes_to_nobody_else",
        ROUTE,
        "    if not settings.expects_event_grid(origin):\n",
        "    if False:\n",
    ),
    plant(
        "Event Grid needs no secret",
        COMES_IN + "test_nobody_is_let_in_without_the_secret",
        ROUTE,
        "    if not any(matches):\n",
        "    if False:\n",
    ),
    plant(
        "where no secret is set everybody has it",
        COMES_IN + "test_where_no_secret_is_set_nobody_is_let_in",
        ROUTE,
        "for secret in settings.event_grid_key.split()]\n",
        'for secret in settings.event_grid_key.split() or [""]]\n',
    ),
    plant(
        "a secret is told back",
        COMES_IN + "test_the_secret_is_in_no_log_and_in_no_answer",
        "entrypoints/http/parsing.py",
        "parameter=shown(twice))",
        "parameter=shown(query))",
    ),
    plant(
        "poison from Event Grid is answered as if it were to come again",
        COMES_IN + "test_what_cannot_be_done_is_parked_as_it_came_and_the_others_are_done",
        ROUTE,
        "            if isinstance(answer.error, Unavailable):\n",
        "            if answer.error is not None:\n",
    ),
    plant(
        "poison from Event Grid is dropped",
        COMES_IN + "test_what_cannot_be_done_is_parked_as_it_came_and_the_others_are_done",
        ROUTE,
        "            keep_as_dead_letter(application, as_it_came(delivery), reason_for(error))\n",
        "            pass\n",
    ),
    plant(
        "what Event Grid sends again is parked again",
        COMES_IN + "test_what_comes_again_for_the_sake_of_another_is_parked_once",
        ROUTE,
        "                failed[delivery] = answer.error\n",
        "                failed[delivery] = answer.error\n"
        "                keep_as_dead_letter(application, as_it_came(delivery), reason_for(answer.error))\n",
    ),
    plant(
        "a passing fault is parked, and Event Grid forgets the event",
        COMES_IN + "test_a_passing_fault_is_503_and_the_event_comes_again",
        "entrypoints/handling.py",
        "        yield from zip(envelopes, _handled(application, envelopes), strict=True)\n",
        "        try:\n"
        "            yield from zip(envelopes, _handled(application, envelopes), strict=True)\n"
        "        except Exception as away:\n"
        "            for delivery in envelopes:\n"
        "                yield delivery, Answer(error=ValueError(str(away)))\n",
    ),
    plant(
        "an event of Event Grid's schema has a new id each time",
        COMES_IN + "test_the_same_event_twice_has_one_effect",
        "entrypoints/grid_events.py",
        '        "id": names.get("id", nothing),\n',
        '        "id": __import__("os").urandom(4).hex(),\n',
    ),
    plant(
        "lanes are drained though the lease runs out",
        MEANING + "test_lanes_that_take_long_do_not_outlast_the_lease",
        LINES,
        " or self._clock.now() > latest or",
        " or",
    ),
    plant(
        "a lane begins in a lease that has hardly any time left",
        MEANING + "test_of_a_lease_that_is_half_used_up_no_more_lanes_are_delivered_than_there_is_time_for",
        LINES,
        "self.lease_seconds / DELIVERIES_A_LEASE",
        "0.0",
    ),
    plant(
        "a push has the lease of a broker",
        MEANING + "test_a_subscription_whose_rounds_take_long_has_a_longer_lease",
        "service_layer/worker.py",
        "        lease_seconds = max(self._lease_seconds, subscription.lease_seconds, least_seconds)\n",
        "        lease_seconds = self._lease_seconds\n",
    ),
    plant(
        "a lease that was lost is counted still",
        "unit/test_worker_also.py::test_the_others_go_on_when_one_was_removed_in_the_middle",
        "service_layer/worker.py",
        "        self._worker.lost(self.subscription, partition)\n",
        "",
    ),
    plant(
        "a backlog behind a limited rate starves the lanes",
        MEANING + "test_a_lane_that_is_due_is_not_starved_by_a_backlog_behind_a_limited_rate",
        LINES,
        "        is_for_lanes = self._lanes_are_next and bool(due)\n",
        "        is_for_lanes = False\n",
    ),
    plant(
        "a limit that is met at the end of a page starves the lanes",
        MEANING + "test_a_lane_that_is_due_is_not_starved_by_a_backlog_behind_a_limited_rate",
        LINES,
        "        return not (due and self._destination.is_away())\n",
        "        return True\n",
    ),
    plant(
        "lanes behind a limited rate starve the cursor",
        MEANING + "test_lanes_and_the_cursor_take_turns_behind_a_limited_rate",
        LINES,
        "        self._lanes_are_next = not is_for_lanes and not all_were_reached\n",
        "        self._lanes_are_next = not all_were_reached\n",
    ),
    plant(
        "a long lane behind a limited rate starves the others",
        MEANING + "test_lanes_and_the_cursor_take_turns_behind_a_limited_rate",
        LINES,
        "enumerate(sorted(due, key=lambda lane: (lane.key <= self._last_drained, lane.key)))",
        "enumerate(due)",
    ),
    plant(
        "the cursor passes over what came of a key while its lane was drained",
        MEANING + "test_what_came_of_a_key_behind_the_cursor_is_not_lost_when_its_lane_closes_first",
        LINES,
        "        self._lanes_are_next = not is_for_lanes",
        "        if is_for_lanes:\n            self._go_on(lease, lanes, settlement)\n"
        "        self._lanes_are_next = not is_for_lanes",
    ),
    plant(
        "the search for who is to blame begins anew with each call",
        HOOKS + "test_who_is_to_blame_is_found_however_few_requests_are_allowed",
        WEBHOOKS,
        "smaller[batch[0].id] = half",
        "pass",
    ),
    plant(
        "a sink that does not ask counts as a consent for all at its address",
        HOOKS + "test_who_goes_without_asking_gives_no_consent_for_another_at_that_address",
        WEBHOOKS,
        "            return _Consent(None)  # not kept: another sink may have the same address, and ask\n",
        "            return self._consents.setdefault(sink.url, _Consent(None))\n",
    ),
    plant(
        "who pushes to the same address ends another's search for who is to blame",
        HOOKS + "test_two_who_push_the_same_events_to_one_address_search_each_for_itself",
        WEBHOOKS,
        "        smaller = self._smaller.setdefault(sink, {})\n",
        '        smaller = self._smaller.setdefault(Sink(sink.url, ""), {})\n',
    ),
]
