"""SQLite and PostgreSQL behind the ports: state tables, event log and inbox in one transaction."""
