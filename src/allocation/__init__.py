"""Allocation: promises order lines from batches of stock, and remembers why."""

__version__ = "0.1.0"
