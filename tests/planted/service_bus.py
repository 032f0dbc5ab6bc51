"""Bugs around Azure Service Bus: order, locks, what counts as a failed delivery, and rules that go astray."""

from tests.planted import Plant, plant

FOLDER = "adapters/brokers/service_bus/"
PUBLISHER, RECEIVER, SESSIONS = FOLDER + "publisher.py", FOLDER + "receiver.py", FOLDER + "sessions.py"
WIRE, PROVISIONING = FOLDER + "wire.py", FOLDER + "provisioning.py"
CONTRACT = "contracts/test_broker_service_bus.py::TestServiceBus::"
WIRED = "integration/test_service_bus.py::"
FAULTS = "integration/test_service_bus_faults.py::"
PROVISIONED = "integration/test_service_bus_provisioning.py::"

PLANTS: list[Plant] = [
    plant(
        "a session is read without prefetching, so the SDK gives back what comes between two calls",
        FAULTS + "test_what_comes_while_a_message_is_in_hand_keeps_its_order",
        RECEIVER,
        "            prefetch_count=READ_AHEAD,\n",
        "            prefetch_count=0,\n",
    ),
    plant(
        "nobody renews the locks of sessions",
        FAULTS + "test_a_lock_is_renewed_for_as_long_as_a_message_is_in_hand",
        RECEIVER,
        "            auto_lock_renewer=self._renewer,\n",
        "",
    ),
    plant(
        "a message has another name each time it is delivered",
        FAULTS + "test_a_lock_that_runs_out_in_the_middle_has_its_effect_once",
        WIRE,
        '        f"{message.sequence_number}-{moment}",\n',
        '        f"{message.sequence_number}-{moment}-{message.delivery_count}",\n',
    ),
    plant(
        "what is released is abandoned, so an outage uses up its deliveries",
        FAULTS + "test_an_outage_behind_us_uses_up_no_deliveries",
        RECEIVER,
        "        due = monotonic() + delay_seconds\n",
        "        self._settle(deliveries, lambda receiver, message: receiver.abandon_message(message))\n"
        "        due = monotonic() + delay_seconds\n",
    ),
    plant(
        "a session that has to wait keeps its seat",
        FAULTS + "test_a_session_that_has_to_wait_lets_others_have_their_turn",
        SESSIONS,
        "                if self._turn_is_over(session) and not session.is_in_hand():\n",
        "                if False and not session.is_in_hand():\n",
    ),
    plant(
        "a session that cannot be read is let go, and locked again without end",
        FAULTS + "test_a_message_that_the_sdk_cannot_decode_holds_up_its_session_alone",
        SESSIONS,
        "            self._hall.changed.wait_for(lambda: self._hall.is_closing, TURN_SECONDS)\n",
        "            pass\n",
    ),
    plant(
        "sessions that are lost at once are locked again at once, and nobody hears of it",
        FAULTS + "test_sessions_that_are_lost_at_once_are_trouble",
        SESSIONS,
        "            self._pause()\n        except Exception",
        "        except Exception",
    ),
    plant(
        "a connection to which nobody says anything is waited for without end",
        FAULTS + "test_one_that_says_nothing_to_a_connection_gets_another",
        FOLDER + "address.py",
        "    context.sslsocket_class = PatientSocket\n",
        "",
    ),
    plant(
        "a settlement is waited for as long as the SDK likes",
        FAULTS + "test_a_settlement_that_is_not_answered_does_not_hold_up_the_others_for_long",
        RECEIVER,
        "            timeout=self._address.patience_seconds,  # for the answer to a settlement\n",
        "",
    ),
    plant(
        "what cannot be handled is completed, and its reason is nowhere at Service Bus",
        FAULTS + "test_bad_messages_are_dead_lettered_with_their_reason_and_the_consumer_goes_on",
        RECEIVER,
        "receiver.dead_letter_message(message, reason=told, error_description=told)",
        "receiver.complete_message(message)",
    ),
    plant(
        "duplicate detection has no id to go by",
        WIRED + "test_an_event_that_is_published_again_within_the_window_is_told_once",
        WIRE,
        '        message_id=system["MessageId"],\n',
        "",
    ),
    plant(
        "filters see nothing of a message but its CloudEvent",
        PROVISIONED + "test_by_the_command_line_and_then_a_subscription_gets_what_its_rules_want",
        WIRE,
        "    application |= {name: value for name, value in seen.named().items() if value is not None}\n",
        "",
    ),
    plant(
        "a message overtakes one of its sku that was rejected",
        CONTRACT + "test_what_the_broker_will_not_have_stops_its_key_and_no_other",
        PUBLISHER,
        "        self.outcomes[number] = self._stopped[self.messages[number].key] = why\n",
        "        self.outcomes[number] = why\n",
    ),
    plant(
        "a sku that is too long for a session stops the whole page",
        WIRED + "test_of_a_batch_only_the_ones_with_a_name_too_long_for_service_bus_are_rejected",
        PUBLISHER,
        "            except (RuleFailed, ValueError) as failed:\n",
        "            except RuleFailed as failed:\n",
    ),
    plant(
        "the rule that lets everything through stays",
        PROVISIONED + "test_a_subscription_has_our_rules_word_for_word_and_no_default",
        PROVISIONING,
        "        others = there.keys() - {one.rule.name for one in wanted}\n",
        "        others = there.keys() - {one.rule.name for one in wanted} - {DEFAULT.name}\n",
    ),
    plant(
        "a rule that is said differently is left as it was",
        PROVISIONED + "test_again_nothing_is_changed_but_what_is_said_differently",
        PROVISIONING,
        "                elif _said(there[name]) != _said(rule := _anew(there[name], parts)):\n",
        "                elif False:\n",
    ),
    plant(
        "a system property keeps its spelling on its way to Service Bus",
        PROVISIONED + "test_a_system_property_is_meant_however_it_is_spelled",
        "service_layer/rules/rule.py",
        "        known, wanted = _correlated(name[len(_SYSTEM) :]), str(value)\n",
        "        known, wanted = name[len(_SYSTEM) :], str(value)\n",
    ),
    plant(
        "SYS.Subject is a user property, which nobody sets",
        PROVISIONED + "test_a_system_property_is_meant_however_it_is_spelled",
        "service_layer/rules/rule.py",
        "        if not name.lower().startswith(_SYSTEM):\n",
        "        if not name.startswith(_SYSTEM):\n",
    ),
    plant(
        "of two values for a system property the last one counts",
        PROVISIONED + "test_a_file_that_cannot_be_meant_is_refused_before_anything_is_made",
        "service_layer/rules/rule.py",
        "        if system.setdefault(known, wanted) != wanted:\n",
        "        system[known] = wanted\n        if not wanted:\n",
    ),
    plant(
        "a number that no message can carry goes to Service Bus",
        PROVISIONED + "test_a_file_that_cannot_be_meant_is_refused_before_anything_is_made",
        "entrypoints/provisioning.py",
        "msgspec.Meta(ge=LEAST, le=MOST)]",
        "msgspec.Meta(ge=LEAST)]",
    ),
    plant(
        "a rule that is changed keeps the values of its correlation filter",
        PROVISIONED + "test_a_value_of_another_kind_is_said_differently",
        PROVISIONING,
        "                    client.update_rule(*place, rule)\n",
        "                    client.update_rule(*place, there[name], **parts)\n",
    ),
    plant(
        "a rule whose value is of another kind now is left as it was",
        PROVISIONED + "test_a_value_of_another_kind_is_said_differently",
        PROVISIONING,
        "        user = {name: (type(value), value) for name, value in (filter.properties or {}).items()}\n",
        "        user = dict(filter.properties or {})\n",
    ),
]
