"""Sheets of pictures that show what an evaluation found: its worst mistakes, or samples."""
