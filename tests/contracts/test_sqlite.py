from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pytest

from tests.contracts.harness import MakeStore
from tests.contracts.sql_stores import SqlStore
from tests.contracts.store_contract import StoreContract
from tests.tables import migrated


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return {}


class TestSqlite(StoreContract):
    hot_products = 0

    @pytest.fixture
    def make_store(self, templates: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeStore]:
        made: list[SqlStore] = []

        def make(partitions: int) -> SqlStore:
            if partitions not in templates:
                templates[partitions] = tmp_path_factory.mktemp("template") / "allocation.db"
                migrated(f"sqlite:///{templates[partitions]}", partitions)
            file = tmp_path_factory.mktemp("sqlite") / "allocation.db"
            copyfile(templates[partitions], file)
            made.append(SqlStore(f"sqlite:///{file}", partitions, self.hot_products))
            return made[-1]

        yield make
        for store in made:
            store.close()


class TestSqliteWithHotProducts(TestSqlite):
    """Two at most, so that some are always on their way out."""

    hot_products = 2
