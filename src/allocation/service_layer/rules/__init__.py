"""Rules of subscriptions: which events a subscriber gets, and what is changed on its copies."""
