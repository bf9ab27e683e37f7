"""What the tables and the problems are: columns with dtype, unit and source; tolerances.

How a value is read, a table stored, or a problem found belongs to the other folders.
"""
