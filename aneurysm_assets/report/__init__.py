"""The data set on one page: what there is, what is missing, what is wrong.

`numbers` takes them from the tables, `plots` draws them with matplotlib, `page` makes the HTML, of
`markup`. matplotlib is an optional extra, imported only where a figure is drawn.
"""
