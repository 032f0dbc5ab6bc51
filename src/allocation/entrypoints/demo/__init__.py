"""A day in a small furniture shop, shown with the real service."""
