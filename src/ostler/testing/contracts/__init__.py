"""What every back end of a port must do, as pytest classes to inherit from.

    class TestMyStore(EventStoreContract):
        is_durable = True

        def storage(self, directory: Path) -> Callable[[], Awaitable[EventStore]]:
            return lambda: MyStore.open(directory / "store")

Needs pytest, pytest-asyncio and hypothesis.
"""

import pytest

pytest.register_assert_rewrite("ostler.testing.contracts.event_store", "ostler.testing.contracts.blob_store")
