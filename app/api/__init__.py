"""OpenAI's API over the same models: /v1/models and /v1/chat/completions on the page's port."""
