"""Functions that answers are handed, one module an exercise: losses, activations, noise. No right answers in here."""
