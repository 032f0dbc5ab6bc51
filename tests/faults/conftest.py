from tests.e2e.conftest import measured, pytest_terminal_summary
