"""The steps that bring a database to what `tables` says. Run by `migrate`, never by import."""
