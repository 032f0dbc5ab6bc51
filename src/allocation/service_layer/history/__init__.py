"""What the log shows of the past: who asked for what, how things stood and why, and what would follow from a command.

Nothing here changes anything: `Product.apply` has no effect outside the product, and no cursor moves.
"""
