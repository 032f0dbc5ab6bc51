"""A day in a small furniture shop, told by the real service."""
