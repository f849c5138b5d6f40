"""The agent: a model that writes Python, and a sandbox that runs it."""
