"""How findings word what they name: texts made of columns, and the frame of an image."""

import polars as pl


def frame_suffix() -> pl.Expr:
    """Return ` frame N` of an image that is a frame of several, else an empty text."""
    return text_of(" frame {}", "frame_index").fill_null("")


def text_of(template: str, *values: pl.Expr | str) -> pl.Expr:
    """Do what `pl.format` does, which may panic on a column of several chunks (polars 25525)."""
    head, *tail = template.split("{}")
    parts: list[pl.Expr] = [pl.lit(head)]
    for value, text in zip(values, tail, strict=True):
        parts += [pl.col(value) if isinstance(value, str) else value, pl.lit(text)]
    return pl.concat_str(parts)
