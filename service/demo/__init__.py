"""The demonstration: faulty models, really trained, audited over HTTP."""
