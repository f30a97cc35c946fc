"""bncourse: what the notebooks of the course import. One idea a module; see each module's docstring."""

__version__ = "0.1.0"
