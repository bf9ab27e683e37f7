"""Reads the headers of one series, and speeds up each file by what the files before have shown."""

import os
from functools import partial
from pathlib import Path

from aneurysm_assets.dicom.fast_parser.elements import (
    UNDEFINED_LENGTH,
    HeaderStream,
    ReadAt,
    Span,
)
from aneurysm_assets.dicom.fast_parser.template import Template, learn
from aneurysm_assets.dicom.fast_parser.values import FallBackToPydicom
from aneurysm_assets.dicom.fast_parser.walk import Walked, Walker
from aneurysm_assets.storage.fetching import ObjectFile
from aneurysm_assets.storage.read_ahead import FIRST_READ, OpenFile, open_head

_TEMPLATES = 4
"""Templates remembered per series: scouts and secondary captures need their own."""

_WORTH_LEARNING = 8
"""Files from which on a template saves more time than learning it takes."""

_LESSONS = 16
"""Files learned from without a match, after which no more is learned from the series."""


class SeriesReader:
    """Reads the headers of a series by their bytes.

    Templates and values of one file speed up the next; they never change what a file is found to
    hold. README.md beside this module shows how, byte by byte.

    Parameters
    ----------
    files : int, optional
        How many files the series has, if known.
    """

    def __init__(self, files: int = _WORTH_LEARNING) -> None:
        self._is_worth_learning = files >= _WORTH_LEARNING
        self._walker = Walker()
        self._templates: list[Template] = []
        self._lessons = 0
        self._matched = 0

    def read(self, file: Path | str | OpenFile) -> Walked | None:
        """Read the header of one file.

        Parameters
        ----------
        file : Path, str or OpenFile
            A regular file. An `OpenFile` is closed.

        Returns
        -------
        Walked or None
            None where pydicom has to be asked.
        """
        try:
            _, descriptor, size = file if isinstance(file, OpenFile) else open_head(file)
        except OSError:
            return None
        try:
            if size > UNDEFINED_LENGTH:
                return None
            data = os.pread(descriptor, FIRST_READ, 0)
            read = partial(os.pread, descriptor)
            return self._match(read, size, data) or self._walk(read, size, data)
        except (FallBackToPydicom, OSError):
            return None
        finally:
            os.close(descriptor)

    def read_object(self, file: ObjectFile) -> Walked | None:
        """Read the header of one object, as `read` that of a file.

        Raises
        ------
        SeriesError
            The store does not give what is needed of it.
        """
        read, size, data = file.read, file.size, file.head
        if size > UNDEFINED_LENGTH:
            return None
        try:
            return self._match(read, size, data) or self._walk(read, size, data)
        except FallBackToPydicom:
            return None

    def _match(self, read: ReadAt, size: int, data: bytes) -> Walked | None:
        for index, template in enumerate(self._templates):
            walked = template.match(read, size, data, self._walker.decoder)
            if walked is not None:
                if index:
                    self._templates.insert(0, self._templates.pop(index))
                self._matched += 1
                return walked
        return None

    def _walk(self, read: ReadAt, size: int, data: bytes) -> Walked:
        stream = HeaderStream(read, size, data)
        if not self._is_worth_learning or self._lessons > _LESSONS + self._matched:
            return self._walker.walk(stream)
        spans: list[Span] = []
        walked = self._walker.walk(stream, spans)
        self._lessons += 1
        learned = learn(stream, spans, walked)
        if learned is not None:
            self._remember(learned)
        return walked

    def _remember(self, learned: Template) -> None:
        for index, template in enumerate(self._templates):
            joined = template.joined(learned)
            if joined is not None:
                del self._templates[index]
                learned = joined
                break
        self._templates = [learned, *self._templates[: _TEMPLATES - 1]]
