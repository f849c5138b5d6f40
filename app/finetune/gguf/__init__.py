"""Export of tuned models to GGUF files with an Ollama Modelfile, proven against the model they were made from."""
