"""llama.cpp backend: GGUF files run by llama.cpp's own server in a child process."""
