"""The Python library: `streamvis.Detector`, `streamvis.stream` and the rest (docs/python.md).

Its classes check their arguments, then call the classes that stages use: the results are the same.
`streamvis/__init__.py` imports each name when it is asked for.
"""
