"""Which cache the settings ask for, and where none can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from click.testing import CliRunner

from allocation.adapters.cached_views import CachedViews
from allocation.adapters.memory import MemoryViews
from allocation.bootstrap import bootstrap
from allocation.config import Settings, load_settings
from allocation.entrypoints import server
from allocation.entrypoints.cli import main
from allocation.service_layer.errors import SetupError

POSTGRES = "postgresql://nobody@nowhere.invalid/nothing"


def test_by_default_there_is_no_cache_and_nobody_keeps_one() -> None:
    application = bootstrap(Settings(database_url="memory:"))
    assert isinstance(application.views, MemoryViews)
    assert "keep_cache" not in application.worker.names()
    assert application.cache_counters.misses == 0


def test_with_a_cache_orders_come_out_of_it_and_the_worker_keeps_it() -> None:
    application = bootstrap(Settings(database_url="memory:", cache="memory"))
    assert isinstance(application.views, CachedViews)
    [keeper] = [s for s in application.worker.subscriptions if s.name == "keep_cache"]
    assert keeper.idle is not None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"database_url": POSTGRES, "cache": "memory"}, "Set it to redis, or to none"),
        ({"database_url": "sqlite:///x.db", "cache": "memory", "workers": 2}, "Set it to redis, or to none"),
        ({"database_url": "memory:", "cache": "redis"}, "set ALLOCATION_REDIS_URL"),
    ],
)
def test_a_cache_that_cannot_be_true_stops_the_start(settings: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence):
        bootstrap(Settings(**settings))


def test_a_worker_beside_the_service_keeps_no_cache_in_memory() -> None:
    environment = {"ALLOCATION_DATABASE_URL": "memory:", "ALLOCATION_CACHE": "memory"}
    told = CliRunner().invoke(main, ["worker"], env=environment)
    assert told.exit_code == 1
    assert "lives in the serving process" in told.output


@pytest.mark.parametrize(
    ("arguments", "chosen"), [([], "memory"), (["--cache", "none"], "none"), (["--cache", "redis"], "redis")]
)
def test_the_option_goes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], chosen: str
) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(server, "serve", served.append)
    told = CliRunner().invoke(main, ["serve", *arguments], env={"ALLOCATION_CACHE": "memory"})
    assert told.exit_code == 0, told.output
    assert [settings.cache for settings in served] == [chosen]


def test_a_cache_of_another_kind_is_refused() -> None:
    with pytest.raises(SetupError, match="ALLOCATION_CACHE is wrong"):
        load_settings(cache="disk")
