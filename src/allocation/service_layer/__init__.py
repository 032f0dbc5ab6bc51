"""What the application does. The ports it needs are defined here; `adapters` implement them."""
