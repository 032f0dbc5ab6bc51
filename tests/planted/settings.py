"""Bugs in what settings may be, and in what is told of them."""

from tests.planted import Plant, plant

URLS = "unit/test_urls.py::"

PLANTS: list[Plant] = [
    plant(
        "a part of a password passes for a port",
        URLS + "test_a_password_that_nobody_escaped_is_told_of_and_not_told",
        "adapters/urls.py",
        " or _is_cut(parts):\n",
        ":\n",
    ),
    plant(
        "the words of the library, and with them a password, are told in the traceback",
        URLS + "test_neither_is_one_in_the_url_of_a_broker",
        "adapters/urls.py",
        "    except ValueError:\n        is_meant = False\n",
        "    except ZeroDivisionError:\n        is_meant = False\n",
    ),
    plant(
        "the URL of a broker that cannot be split ends in a traceback",
        URLS + "test_neither_is_one_in_the_url_of_a_broker",
        "adapters/brokers/registry.py",
        "        except ValueError:  # its words repeat the URL\n",
        "        except ZeroDivisionError:\n",
    ),
    plant(
        "what is no URL of a broker is repeated",
        URLS + "test_neither_is_one_in_the_url_of_a_broker",
        "adapters/brokers/registry.py",
        "if not colon or not (scheme in BROKERS or _SCHEME.fullmatch(scheme)):",
        "if not colon:",
    ),
    plant(
        "a host of Kafka that is none is repeated",
        URLS + "test_neither_is_one_in_the_url_of_a_broker",
        "adapters/brokers/kafka/address.py",
        'raise SetupError(f"kafka: name each host as HOST:PORT,',
        'raise SetupError(f"kafka: {host} is no HOST:PORT,',
    ),
    plant(
        "where Kubernetes says the service is passes for the port it listens on",
        "e2e/test_cli.py::test_where_kubernetes_says_a_service_called_allocation_is_changes_nothing",
        "config.py",
        ' or (name.upper() == f"{PREFIX}PORT" and "://" in value)',
        "",
    ),
    plant(
        "a mail server needs no scheme",
        URLS + "test_an_address_that_is_none_stops_the_start_and_is_told_what_it_looks_like",
        "config.py",
        '    @field_validator("smtp_url")\n    @classmethod\n',
        "    @classmethod\n",
    ),
    plant(
        "a collector needs no scheme",
        URLS + "test_an_address_that_is_none_stops_the_start_and_is_told_what_it_looks_like",
        "config.py",
        '    @field_validator("traces_to")\n    @classmethod\n',
        "    @classmethod\n",
    ),
    plant(
        "an option that Redis cannot read ends in a traceback",
        URLS + "test_what_redis_cannot_read_of_an_address_is_a_sentence_too",
        "adapters/brokers/redis_client.py",
        "    except ValueError:\n",
        "    except ZeroDivisionError:\n",
    ),
    plant(
        "a key that looks like a URL is shown like one",
        URLS + "test_settings_that_are_told_hide_what_is_secret_in_them",
        "entrypoints/settings_table.py",
        "if hidden != SECRET_IN_URL or not _URL.match(value):",
        'if "://" not in value:',
    ),
    plant(
        "where traces go is no secret",
        URLS + "test_settings_that_are_told_hide_what_is_secret_in_them",
        "config.py",
        'empty: none",\n        json_schema_extra=SECRET_IN_URL,\n    )\n\n    def expects_event_grid',
        'empty: none",\n    )\n\n    def expects_event_grid',
    ),
]
