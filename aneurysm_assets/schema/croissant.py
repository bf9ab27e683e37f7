"""A table as MLCommons Croissant 1.1: what a program that lists data sets knows of it.

What belongs here is how our columns are said in that vocabulary
(https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html); where the file stands is no
business of this module.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from aneurysm_assets.schema.columns import Column
from aneurysm_assets.schema.tables import Table

_INPUT = "https://www.kaggle.com/competitions/rsna-intracranial-aneurysm-detection"

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{
        term: f"cr:{term}"
        for term in (
            *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract"),
            *("field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray"),
            *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
            *("references", "regex", "repeated", "replace", "samplingRate", "separator", "source"),
            *("subField", "transform"),
        )
    },
}

_ENCODINGS = {".parquet": "application/x-parquet", ".csv": "text/csv"}


@dataclass(frozen=True)
class DataFile:
    """The file that a table stands in.

    Attributes
    ----------
    name : str
        Beside the description, with its suffix: `.parquet` or `.csv`.
    size : int
        Bytes.
    sha256 : str
        Of its bytes, in hexadecimal digits.
    """

    name: str
    size: int
    sha256: str


def croissant(table: Table, file: DataFile, *, version: str, published: date) -> dict[str, Any]:
    """Describe a table.

    Parameters
    ----------
    table : Table
        Its columns become the fields of one record set, `images`.
    file : DataFile
        Where it stands.
    version : str
        Of this package, which stands for the columns' meaning.
    published : datetime.date
        When it was made.

    Returns
    -------
    dict
        JSON-LD.
    """
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": "dicom_metadata_with_csv",
        "description": f"{table.description} Made by aneurysm_assets {version} from DICOM headers, "
        "train.csv, train_localizers.csv and NIfTI segmentations of the shape of the RSNA "
        "Intracranial Aneurysm Detection data, whose licence is that of the values.",
        "url": _INPUT,
        "license": f"{_INPUT}/rules",
        "version": version,
        "datePublished": published.isoformat(),
        "isLiveDataset": True,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "table",
                "name": file.name,
                "contentUrl": file.name,
                "contentSize": f"{file.size} B",
                "encodingFormat": _ENCODINGS[f".{file.name.rpartition('.')[2]}"],
                "sha256": file.sha256,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "images",
                "name": "images",
                "description": table.description,
                "key": [{"@id": _id(name)} for name in table.key],
                "field": [_field(c, is_csv=file.name.endswith(".csv")) for c in table.columns],
            }
        ],
    }


def _id(name: str) -> str:
    return f"images/{name.replace(' ', '_')}"  # mlcroissant refuses spaces, also when escaped


def _field(column: Column, *, is_csv: bool) -> dict[str, Any]:
    unit = f" Unit: {column.unit}." if column.unit else ""
    dtype = column.stored_dtype
    # In a CSV a list is its JSON.
    is_list = isinstance(dtype, pl.List)
    shape = {"isArray": True, "arrayShape": "-1"} if is_list and not is_csv else {}
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    return {
        "@type": "cr:Field",
        "@id": _id(column.name),
        "name": column.name,
        "description": f"{column.description}{unit} Source: {column.source}.",
        "dataType": "sc:Text" if is_list and is_csv else _data_type(inner),
        **shape,
        "source": {"fileObject": {"@id": "table"}, "extract": {"column": column.name}},
    }


def _data_type(dtype: Any) -> str:  # noqa: ANN401 - polars has a class or an instance here
    if dtype == pl.Boolean:
        return "sc:Boolean"
    if dtype == pl.String:
        return "sc:Text"
    return "sc:Integer" if dtype.is_integer() else "sc:Float"
