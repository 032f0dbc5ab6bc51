"""One module for each broker."""
