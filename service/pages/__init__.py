"""What a person sees in a browser: views, templates, static files; no torch, no CDN.

Views call the same use cases as the API. A browser holds its key in a cookie that only
these pages read: the API takes nothing but `Authorization`.
"""
