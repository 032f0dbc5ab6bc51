"""A storefront: answers "can I buy this, and when would it come" from its own copy of the stock levels."""
