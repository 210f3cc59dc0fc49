"""The GPU image: takes work from the queue and hands it, confined, to the engine."""
