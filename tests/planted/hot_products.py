"""Bugs in what is kept of hot products: kept after the wrong end, used when it is out of date, kept without bound."""

from tests.planted import Plant, plant

HOT = "integration/test_hot_products.py::"
STORE, REPOSITORY, UNIT_OF_WORK = (f"adapters/sql/{m}.py" for m in ("hot_products", "repository", "unit_of_work"))
KEPT_AS_FOUND = HOT + "test_what_is_kept_is_what_the_database_would_tell"

PLANTS: list[Plant] = [
    plant(
        "a hot product is put back although its commit failed",
        HOT + "test_a_commit_that_fails_evicts",
        UNIT_OF_WORK,
        "        try:\n            self._session.run(self._writing",
        "        self._written = versions\n        try:\n            self._session.run(self._writing",
    ),
    plant(
        "a hot product is put back although the connection was lost",
        HOT + "test_a_lost_connection_evicts_even_if_the_commit_is_found",
        UNIT_OF_WORK,
        "        else:\n            self._written = versions\n",
        "        self._written = versions\n",
    ),
    plant(
        "a hot product is put back with what was decided and not written",
        HOT + "test_what_was_decided_and_not_written_evicts",
        REPOSITORY,
        " and product.version_number == versions[sku]",
        "",
    ),
    plant(
        "a hot product stays where others find it while it is used",
        HOT + "test_a_rollback_evicts",
        STORE,
        "self._pages.pop(sku) for sku in skus",
        "self._pages[sku] for sku in skus",
    ),
    plant(
        "two threads take the same hot product",
        HOT + "test_a_page_belongs_to_one_unit_of_work_at_a_time",
        STORE,
        "        with self._lock:\n"
        "            taken = {sku: self._pages.pop(sku) for sku in skus if sku in self._pages}\n",
        "        taken = {sku: self._pages[sku] for sku in skus if sku in self._pages}\n"
        "        with self._lock:\n"
        "            for sku in taken:\n"
        "                self._pages.pop(sku, None)\n",
    ),
    plant(
        "the version of a hot product is not compared",
        HOT + "test_a_stale_page_answers_nobody",
        REPOSITORY,
        "            if page is None or page.version != locked[sku]:\n",
        "            if page is None:\n",
    ),
    plant(
        "a hot product that others have changed is not read",
        HOT + "test_nothing_is_sold_twice_by_processes_that_each_keep_the_product",
        "adapters/sql/statements.py",
        "CAST(p.version_number AS text) <> k.version",
        "CAST(p.version_number AS text) = k.version",
    ),
    plant(
        "a hot product is used for ever",
        HOT + "test_what_rebuild_corrected_is_used_a_few_seconds_later",
        STORE,
        " if timedelta() <= now - page.read_at <= LONGEST}",
        " if page.read_at <= now}",
    ),
    plant(
        "a hot product grows young by use",
        HOT + "test_a_page_does_not_grow_young_by_use",
        STORE,
        "                self._pages[sku] = page\n",
        "                self._pages[sku] = Page(page.version, page.batches, page.horizon, self.now())\n",
    ),
    plant(
        "a hot product is young because the clock stepped back",
        HOT + "test_a_clock_that_steps_back_makes_nothing_young",
        STORE,
        "if timedelta() <= now - page.read_at",
        "if now - page.read_at",
    ),
    plant(
        "more products are kept than the setting says",
        HOT + "test_the_products_sold_last_are_kept_and_no_more_than_the_setting_says",
        STORE,
        "while len(self._pages) > self.most:",
        "while len(self._pages) > 10 * self.most:",
    ),
    plant(
        "the products sold first are kept",
        HOT + "test_the_products_sold_last_are_kept_and_no_more_than_the_setting_says",
        STORE,
        "popitem(last=False)",
        "popitem()",
    ),
    plant(
        "a hot product keeps every batch that was read",
        HOT + "test_of_a_product_no_more_is_kept_than_a_page_and_nothing_of_its_lines",
        STORE,
        "found[:size], horizon if len(found) <= size else preference(found[size - 1]), at",
        "found, horizon, at",
    ),
    plant(
        "a hot product takes the batches it left out for closed",
        KEPT_AS_FOUND,
        STORE,
        "horizon if len(found) <= size else preference(found[size - 1])",
        "horizon",
    ),
    plant(
        "a hot product keeps batches past some that were not read",
        KEPT_AS_FOUND,
        STORE,
        " if horizon is None or preference(batch) <= horizon]",
        "]",
    ),
    plant(
        "nobody is told how many products to keep",
        HOT + "test_what_is_hot_is_decided_from_memory_if_the_setting_says_so",
        "bootstrap.py",
        "settings.commit_patience_seconds, settings.hot_products",
        "settings.commit_patience_seconds, 0",
    ),
]
