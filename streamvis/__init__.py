"""streamvis watches video: it finds, follows and reports the people in it."""

__version__ = "0.1.0"
