"""Whatever happens between readers, the keeper and the cache: no answer is older than what its reader was told."""

from hypothesis import settings

from tests.cache_machine import CacheMachine
from tests.caches import MemoryTurnBack, TurnBack
from tests.thoroughness import examples


class CacheInMemory(CacheMachine):
    def new_cache(self, most_marks: int) -> TurnBack:
        return MemoryTurnBack(most_marks)


TestCacheInMemory = CacheInMemory.TestCase
TestCacheInMemory.settings = settings(examples(30, steps=30))
