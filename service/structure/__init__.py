"""Looks at the outside of uploaded files: directories, sizes, names, headers.

Nothing here inflates a member, unpickles, or imports numpy or torch; memory stays
constant however large the file is.
"""
