"""What `streamvis eval`, `track`, `label`, `calibrate` and `check` do, importable from Python.

The functions return results as values and as tables, and print nothing. This package stands outside
`evaluation`, whose metrics training uses too: import-linter allows no layer inside another.
"""
