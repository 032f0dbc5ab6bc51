"""Answers to the ports of the service layer and of the views. The words of vendors stay in here."""
