"""Tests that mean something for root only, or for everybody else, are left out for the others.

That is no skipping: where tests are run as root, those for other users are run in a process of another user's
(`nobody`), and those for root say what no other user could be tested for.
"""

import os


def pytest_configure(config):
    config.addinivalue_line("markers", "for_root: means something only where Ostler runs as root")
    config.addinivalue_line("markers", "for_others: means something only where Ostler does not run as root")


def pytest_collection_modifyitems(config, items):
    foreign = "for_others" if os.geteuid() == 0 else "for_root"
    kept = [item for item in items if item.get_closest_marker(foreign) is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
