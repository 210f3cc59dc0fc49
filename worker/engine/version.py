"""The engine's version, a part of every outcome's digest.

Raise it with any change that alters what an experiment yields, or what is made of it:
reports of two engines may differ.
"""

ENGINE = "25"
