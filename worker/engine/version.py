"""The engine's version; part of every outcome's digest, so raise it with any change
that alters what an experiment yields."""

ENGINE = "1"
