"""Backend for models behind an OpenAI-compatible server (vLLM, LMDeploy, SGLang, Ollama) on another machine."""
