"""Implementations of the ports of the service layer and of the views. Vendors' terms do not leave this package."""
