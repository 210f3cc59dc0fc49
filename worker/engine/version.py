"""The engine's version, a part of every outcome's digest.

Raise it with any change that alters what an experiment yields.
"""

ENGINE = "9"
