"""How models are reached: one module for each dialect, over one HTTP layer."""
