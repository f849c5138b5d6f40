"""GGUF files, run by llama.cpp's own server in a process of its own; the same interface as the engine's."""
