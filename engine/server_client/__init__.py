"""Client of an OpenAI-compatible server: requests, answers and its tokenizer."""
