"""What is true about stock. Standard library only; no clock, no randomness, no input or output."""
