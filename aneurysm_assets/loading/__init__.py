"""Series as arrays and tables as frames, for whoever trains or infers: what `import` offers.

What a volume is stands in `volumes`, how pixels are decoded in `preview.decoding`. No Dagster.
"""
