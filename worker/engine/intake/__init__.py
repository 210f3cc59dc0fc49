"""The only room that opens untrusted files."""
