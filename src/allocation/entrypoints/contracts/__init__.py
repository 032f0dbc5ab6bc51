"""What other programs can rely on: the messages that go out and come in, as a document, and a check that keeps it."""
