"""HTTP and nothing else: routes, who may call them, errors as problem documents."""
