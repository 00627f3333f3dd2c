"""What every test may use."""

pytest_plugins = (
    "tests.support.bounds",
    "tests.support.clusters",
    "tests.support.node_packages",
    "tests.support.second_try",
    "tests.support.side_by_side",
)
