"""What turns texts into vectors: without a model, or by one that answers over HTTP."""
