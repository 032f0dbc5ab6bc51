"""Importing files: rows become commands, groups of them go through the bus, and every row's outcome is reported."""
