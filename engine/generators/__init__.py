"""What the worker generates with: one small interface, and vLLM or plain transformers behind it."""
