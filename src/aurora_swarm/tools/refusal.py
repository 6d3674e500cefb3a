"""What a tool refuses to do for a model."""


class RefusedError(ValueError):
    """A tool may not do what it was asked for, or cannot; the text is written for the model."""
