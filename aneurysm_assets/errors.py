"""What can be wrong with the input, as exceptions whose text is meant for the user.

Only the types belong here; the sentences are written where the fault is found. Each says what
happened, to which file or series, and where it is not plain, what to do.
"""


class InputError(Exception):
    """The input as a whole cannot be used: a CSV without its columns, a root that is not there."""


class SeriesError(Exception):
    """One series cannot be taken; no other is concerned."""


class UnusableNifti(SeriesError):  # noqa: N818 - named as what it is about
    """A NIfTI file is there and can be read, and its bytes are no volume that can be used.

    Parameters
    ----------
    message : str
        With the file's path.
    reason : str
        The same without.

    Attributes
    ----------
    reason : str
        As given.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, reason)
        self.reason = reason

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.args[0])


class IrregularVolume(SeriesError):  # noqa: N818 - named as what it is about
    """A volume is not regular, so that no affine is right for all its voxels; the text says why."""


class StoreError(SeriesError):
    """A store does not give a series' object, or not the version that is meant.

    It says nothing of what the object holds: asked again, the store may give it.
    """


class UnreadableFile(Exception):  # noqa: N818 - a finding about one file, recorded in its row
    """One file of a series cannot be read; its row says why and the series goes on."""
