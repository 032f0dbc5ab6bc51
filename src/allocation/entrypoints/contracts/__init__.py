"""What other programs can rely on: a document of the messages that go out and come in, and a check of its promises."""
