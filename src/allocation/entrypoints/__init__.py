"""How the world gets in: HTTP (`http`), the command line (`cli`), files (`importing`), brokers (`consumer`); and the
`worker`, which runs what reacts to events. `handling`, `receiving` and `opened` are what several of them share."""
