"""A report in, a document out: HTML, Markdown, JUnit, SARIF, terminal.

Nothing here reads a database, a file of a caller or the network.
"""
