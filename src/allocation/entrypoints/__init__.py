"""The ways in: HTTP (`http`), the command line (`cli`), files (`importing`), brokers (`consumer`); and the `worker`,
which runs what reacts to events. Several of them share `handling`, `receiving` and `opened`."""
