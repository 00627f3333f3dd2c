"""What every test may use."""

pytest_plugins = ("tests.support.clusters", "tests.support.side_by_side", "tests.support.node_packages")
