"""Client of an OpenAI-compatible server.

It sends requests, and uses the server's tokenizer.
"""
