"""Taking in files: rows become commands, groups of them go through the bus, and every row's end is told."""
