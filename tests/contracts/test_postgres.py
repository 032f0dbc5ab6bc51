from collections.abc import Iterator

import pytest

from tests.contracts.harness import MakeStore
from tests.contracts.sql_stores import SqlStore
from tests.contracts.store_contract import StoreContract
from tests.servers.postgres import Postgres
from tests.tables import migrated


@pytest.fixture(scope="module")
def templates(postgres_server: Postgres) -> Iterator[dict[int, str]]:
    made: dict[int, str] = {}
    yield made
    for url in made.values():
        postgres_server.drop_database(url)


class TestPostgres(StoreContract):
    hot_products = 0

    @pytest.fixture
    def make_store(self, templates: dict[int, str], postgres_server: Postgres) -> Iterator[MakeStore]:
        made: list[SqlStore] = []

        def make(partitions: int) -> SqlStore:
            if partitions not in templates:
                templates[partitions] = migrated(postgres_server.create_database(), partitions)
            made.append(SqlStore(postgres_server.create_database(templates[partitions]), partitions, self.hot_products))
            return made[-1]

        yield make
        for store in made:
            store.close()
            postgres_server.drop_database(store.url)


class TestPostgresWithHotProducts(TestPostgres):
    """Two at most, so that some are always on their way out."""

    hot_products = 2
