"""How fast it is, measured beside what it is compared with. `python -m benchmarks --help`."""
