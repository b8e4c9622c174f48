"""The evaluations behind `streamvis eval` and `streamvis track`, importable from Python.

They measure and return results, and print nothing. This package stands outside `evaluation`, whose
metrics training uses too: import-linter allows no layer inside another.
"""
