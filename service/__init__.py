"""The API image: HTTP, pages, command line, store. Nothing here imports torch."""
