"""How the service does under load: polls, waits, uploads, reports, start, idling."""
