"""One cause, one file: what to try, and how to judge what came out. No torch here."""
