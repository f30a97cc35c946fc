"""What is measured while a network trains: one module a question.

A probe is called with (network, batch, step), changes nothing, and returns a frame with a column ``member``."""
