"""The commands of `model-audit`; each module adds its own to the app in `cli.py`.

They speak with a service over HTTP like any other client. What needs torch runs as
`python -m worker…` in another process.
"""
