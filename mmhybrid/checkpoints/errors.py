"""The one error of this package."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or does not fit; nothing of it was loaded."""
