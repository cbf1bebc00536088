"""What every back end of a port must do, as pytest classes to inherit from.

    class TestMyStore(EventStoreContract):
        is_durable = True

        def storage(self, directory: Path) -> Callable[[], Awaitable[EventStore]]:
            return lambda: MyStore.open(directory / "store")

Needs pytest, pytest-asyncio and hypothesis.
"""

import pytest

for _contract in (
    "blob_store",
    "embedder",
    "event_bus",
    "event_store",
    "limiter",
    "memory_graph",
    "memory_histories",
    "memory_index",
    "model_provider",
    "tool_host",
    "view_store",
):
    pytest.register_assert_rewrite(f"{__name__}.{_contract}")
