"""The only room that trains."""
