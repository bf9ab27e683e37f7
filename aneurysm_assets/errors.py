"""What can be wrong with the input, as exceptions whose text is meant for the user.

Only the types belong here; the sentences are written where the fault is found. Each says what
happened, to which file or series, and where it is not plain, what to do. Names and values in it are
escaped where it is shown.
"""

from aneurysm_assets.messages import printable


class _Told(Exception):  # noqa: N818 - what the others have in common
    """An exception whose message is one printable line, whatever the names in it."""

    def __str__(self) -> str:
        """Return the message, escaped."""
        return printable(super().__str__())


class InputError(_Told):
    """The input as a whole cannot be used: a CSV without its columns, a root that is not there."""


class NoSeriesError(InputError):
    """There is no directory of a series to read: not yet, or the disk is not mounted."""


class SeriesError(_Told):
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
        return printable(self.args[0])


class IrregularVolume(SeriesError):  # noqa: N818 - named as what it is about
    """A volume is not regular, so that no affine is right for all its voxels; the text says why."""


class MachineError(SeriesError):
    """The machine does not give a file that is there: no permission, a faulty disk.

    It says nothing of what the file holds: asked again, the machine may give it.
    """


class StoreError(MachineError):
    """A store does not give a series' object, or not the version that is meant."""


class UnreadableFile(_Told):
    """One file of a series cannot be read; its row says why and the series goes on."""
