"""Code-interpreter agent: a model writes Python, a sandbox runs it."""
