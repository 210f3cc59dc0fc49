"""Numbers in, numbers out: intervals, decisions, corrections. No torch here."""
