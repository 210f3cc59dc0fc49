"""The audit itself: no web, no queue, no database. Runs inside the confined child."""
