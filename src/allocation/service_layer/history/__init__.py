"""What the log tells of the past: who asked what, how things stood, why, and what would follow if.

Nothing here changes anything: `Product.apply` has no effect outside of the product, and no cursor is moved.
"""
