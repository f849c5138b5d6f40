"""Models that run elsewhere, behind anything that speaks OpenAI's API; the same interface as the engine's."""
